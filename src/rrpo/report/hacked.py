"""The second act of a demo's page: what policies say that hacked a reward model."""

from dataclasses import dataclass
from pathlib import Path

from rrpo.files import read_json
from rrpo.report.listening import Player, load, player_of

FILE = "hacked.json"
"""Beside a demo's page; what it names are sounds in the same folder."""


@dataclass(frozen=True)
class Act:
    """One policy of the second act.

    Attributes:
        title: as the page names it.
        figures: what its trainings came to, in words.
        players: its sounds, in the order of the sentences; None: it is missing.
    """

    title: str
    figures: str
    players: list[Player | None]


@dataclass(frozen=True)
class Hacked:
    """What the page shows: where it is from, the study's command, the sentences, the policies."""

    told: str
    command: str
    texts: list[str]
    acts: list[Act]


def hacked(folder: Path) -> Hacked | None:
    """Read what a demo wrote of it; None where it wrote nothing."""
    if not (folder / FILE).is_file():
        return None
    found = read_json(folder / FILE)
    heard = [[load(folder, one) for one in act["sounds"]] for act in found["acts"]]
    longest = [
        max((one.samples for one in beside if one is not None), default=1)
        for beside in zip(*heard, strict=True)
    ]
    acts = [
        Act(
            act["title"],
            act["figures"],
            [
                player_of(f"{act['title']}: {text}", one, sample, most) if one else None
                for text, sample, one, most in zip(
                    found["texts"], act["sounds"], sounds, longest, strict=True
                )
            ],
        )
        for act, sounds in zip(found["acts"], heard, strict=True)
    ]
    return Hacked(found["told"], found["command"], found["texts"], acts)
