"""The page of `rrpo play` and the speech that it asks for."""

import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
import numpy as np
import pydantic
import soundfile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.loading import MINI, Location
from rrpo.origin import Origin, origin_of
from rrpo.report.templates import TEMPLATES, templates
from rrpo.server import Guarded, application, read_json
from rrpo.speaking.by_name import NamedSpeaker, Speech, load_speaker

FILES = Path(__file__).parent
LONGEST = 500
"""Characters of a text."""
QUEUE = 8
"""Requests that may wait while another is answered."""


class Asked(Strict):
    """What the page asks for: which of its policies says what, and how."""

    policy: int = pydantic.Field(ge=0)
    text: str = pydantic.Field(max_length=LONGEST)
    emotion: str = pydantic.Field(max_length=40)
    seed: int = pydantic.Field(ge=0, lt=2**53)


def load_speakers(
    runs: Sequence[str], voice: Location | None = None, folder: Location | None = None
) -> list[NamedSpeaker]:
    """Load the policies of runs, before them those that these started from, each once.

    A base is told an emotion in the words of the first run that began with it, so that what differs
    is the training.

    Args:
        runs: their folders; `mini` is the bundled base.
        voice: CosyVoice: a recording whose voice is taken over.
        folder: CosyVoice: its model folder, where it is not the one a policy started from.

    Raises:
        UserError: a policy or the voice cannot be used.
    """
    bases = [str(folder or origin_of(run).start) for run in runs]
    told: dict[str, Origin] = {}
    for base, run in zip(bases, runs, strict=True):
        if run != base:
            told.setdefault(base, origin_of(run))
    every = dict.fromkeys([*bases, *runs])
    return [load_speaker(one, voice, folder, told.get(one)) for one in every]


def make(speakers: Sequence[NamedSpeaker], host: str) -> Guarded:
    """Make the application: the page, its style and script, and `POST /speech`.

    Args:
        speakers: who speaks, one after the other; the first ones are the bases.
        host: as of `rrpo.server.application`.
    """
    one_at_a_time = anyio.CapacityLimiter(1)
    html = _html(speakers)
    style = "".join(
        path.read_text(encoding="utf-8") for path in (TEMPLATES / "style.css", FILES / "play.css")
    )
    script = (FILES / "play.js").read_text(encoding="utf-8")

    pending = 0

    async def speech(request: Request) -> Response:
        nonlocal pending
        asked = await read_json(request, Asked)
        if asked.policy >= len(speakers):
            raise UserError(f"there is no policy {asked.policy}: load the page again")
        if pending > QUEUE:
            raise HTTPException(503, "too many sentences are waiting: try again in a moment")
        pending += 1
        try:
            say = speakers[asked.policy].say
            said = await anyio.to_thread.run_sync(
                say, asked.text, asked.emotion, asked.seed, limiter=one_at_a_time
            )
        finally:
            pending -= 1
        # The notes go beside the sound; a header has ASCII alone.
        return Response(
            _wav(said), media_type="audio/wav", headers={"X-Notes": quote(" ".join(said.notes))}
        )

    def fixed(content: str, kind: str) -> Response:
        return Response(content, media_type=kind)

    routes = [
        Route("/", lambda _: HTMLResponse(html)),
        Route("/style.css", lambda _: fixed(style, "text/css")),
        Route("/play.js", lambda _: fixed(script, "text/javascript")),
        Route("/speech", speech, methods=["POST"]),
    ]
    return application(routes, host)


def _html(speakers: Sequence[NamedSpeaker]) -> str:
    return (
        templates(FILES)
        .get_template("play.html")
        .render(
            policies=[str(one.location) for one in speakers],
            emotions=list(dict.fromkeys(name for one in speakers for name in one.speaker.emotions)),
            longest=LONGEST,
            synthetic=str(speakers[0].location) == MINI,
        )
    )


def _wav(said: Speech) -> bytes:
    """Return speech as a wav file of 16 bits."""
    stream = io.BytesIO()
    sound = np.clip(said.audio, -1.0, 1.0)
    soundfile.write(stream, sound, said.rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()
