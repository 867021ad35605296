"""A page to hear the planted artifact, what policies made of it, and what cured it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from rrpo.audio import Audio
from rrpo.evaluate.artifacts import detect
from rrpo.mini.world import World
from rrpo.report.listening import Player, Sound, player_of
from rrpo.report.page import write_html
from rrpo.report.sound import flac_uri
from rrpo_studies.planted.artifacts import ARTIFACTS, with_artifact
from rrpo_studies.planted.plan import EMOTION, Job
from rrpo_studies.planted.recipes import POLICIES


@dataclass(frozen=True)
class Heard:
    """One sound of the page: what it is of, which text, how many artifacts, and its player."""

    title: str
    text: str
    count: int
    player: Player


def write_page(out: Path, found: Mapping[Job, Mapping[str, Any]], text: str) -> Path:
    """Write `report.html`: of each artifact, the first seed's policies say the same sentences.

    Args:
        out: folder of the study.
        found: figures of what is finished.
        text: the page of figures.
    """
    world = World()
    parts = []
    for artifact, shape in ARTIFACTS.items():
        heard = [
            _heard(artifact, title, said, sound)
            for title, said, sound in _sounds(world, artifact, found)
        ]
        if heard:
            rows = [list(beside) for _, beside in groupby(heard, key=lambda one: one.text)]
            parts.append({"title": shape.title.capitalize(), "rows": rows})
    return write_html(
        out / "report.html", "planted.html", title="Planted artifacts", parts=parts, figures=text
    )


def _sounds(
    world: World, artifact: str, found: Mapping[Job, Mapping[str, Any]]
) -> Iterable[tuple[str, str, Audio]]:
    """Return title, text and audio (N,): a recording with the artifact, the start, the policies."""
    spoken = {
        job: figures["said"]
        for job, figures in found.items()
        if (job.kind, job.artifact) == ("policy", artifact) and "said" in figures
    }
    if not spoken:
        return
    seed = min(job.seed for job in spoken)
    policies = {job.what: said for job, said in spoken.items() if job.seed == seed}
    codec = world.codec()
    row = next(row for row in world.shard("finetune") if row.emotion == EMOTION)
    (planted,) = with_artifact(codec, [row], artifact, 0)
    yield "planted in a recording", row.text, codec.decode(torch.from_numpy(planted.tokens))
    first = next(iter(policies.values()))["start"]
    for text, tokens in first.items():
        yield "the start", text, codec.decode(torch.tensor(tokens))
        for name, said in policies.items():
            yield POLICIES[name].title, text, codec.decode(torch.tensor(said["end"][text]))


def _heard(artifact: str, title: str, text: str, sound: Audio) -> Heard:
    marks = {"artifacts": [vars(one) for one in detect(sound)]}
    player = player_of(f"{title}: {text}", Sound.of(sound, flac_uri(sound)), marks, len(sound))
    return Heard(title, text, ARTIFACTS[artifact].count(sound), player)
