"""How many tokens an utterance may have: compared with its sound, and with how people speak."""

from collections.abc import Sequence
from pathlib import Path

import soundfile

from rrpo.data.files import near
from rrpo.errors import UserError
from rrpo.tokens import TOKEN_RATE, fits_sound

LONGEST, SHORTEST = 60 * TOKEN_RATE, TOKEN_RATE // 5
"""Tokens of a minute, twice what CosyVoice's tokenizer takes at once, and of a fifth of a second.

Time and memory of a training step grow with its longest utterance.
"""
SOUNDS = ("path", "wav", "audio_path")
"""Columns in which other software names the recording that tokens were made of."""


def misfit(count: int, recording: Path) -> str:
    """Say what is wrong where so many tokens are not of a recording, by its header's length.

    A file whose header cannot be read is judged where sounds are.
    """
    try:
        seconds = float(soundfile.info(recording).duration)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        return ""
    return "" if fits_sound(count, seconds) else f"{count} tokens of {seconds:.2f} s"


def check_sounds(rows: Sequence[dict[str, object]], file: Path) -> None:
    """Refuse tokens that are not of the sounds that the rows name, where these are there."""
    wrong = []
    for row in rows:
        names = (row.get(column) for column in SOUNDS)
        name = next((one for one in names if isinstance(one, str) and one), "")
        sound = near(name, (file.parent, Path())) if name else None
        tokens = row["tokens"]
        if sound is not None and isinstance(tokens, list) and (odd := misfit(len(tokens), sound)):
            wrong.append(f"{row['id']!r} has {odd} in {name}")
    if wrong:
        raise UserError(
            f"{file}: the tokens of {len(wrong)} of {len(rows)} utterances are not of their sounds "
            f"({wrong[0]}): {TOKEN_RATE} a second are right, tokenize the sounds again"
        )
