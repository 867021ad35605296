"""What a running demo has done, is doing and will do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrpo.files import read_json
from rrpo.interval import read_interval
from rrpo.measures import plain_name, section
from rrpo.report.numbers import number


@dataclass(frozen=True)
class Stage:
    """A stage of a demo, with what the page says of its time."""

    title: str
    state: str
    note: str


@dataclass(frozen=True)
class Stages:
    """The stages of a demo, those that run, and how many are done."""

    every: list[Stage]

    @property
    def running(self) -> list[Stage]:
        """Those at work."""
        return [stage for stage in self.every if stage.state == "running"]

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(stage.state == "done" for stage in self.every)


def read_stages(path: Path) -> Stages:
    """Read what a demo has done, is doing and will do; nothing where it does not say."""
    found = []
    for stage in read_json(path) if path.is_file() else []:
        state, seconds, left = stage["state"], stage.get("seconds"), stage.get("left")
        note = state
        if state == "done" and seconds is not None:
            note = f"done in {_duration(seconds)}"
        elif state == "running" and left is not None:
            note = f"about {_duration(left)} left"
        found.append(Stage(str(stage.get("title") or stage["name"]), state, note))
    return Stages(found)


def times(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return each stage of finished results: name, seconds, share of the longest in per cent."""
    found = {name: read_interval(value) for name, value in section(results, "seconds").items()}
    spent = {name: value.mean for name, value in found.items() if value is not None}
    longest = max((value for name, value in spent.items() if name != "total"), default=0.0)
    return [
        (
            plain_name(name),
            number(value, 1),
            0.0 if name == "total" or not longest else 100.0 * value / longest,
        )
        for name, value in spent.items()
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
