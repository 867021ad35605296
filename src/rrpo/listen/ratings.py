"""What listeners answered: kept by the server in SQLite, or handed in as files of a static page."""

from dataclasses import dataclass
from pathlib import Path

Value = float | str | tuple[float, ...]
"""A rating, a choice, or marked places in seconds."""


@dataclass(frozen=True)
class Listener:
    """Somebody who took a test, or a part of it; `order` is the index of theirs in the design."""

    id: str
    order: int
    finished: bool
    panel_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """One answer; `plays` counts how often the page's sounds were started, `seconds` its time."""

    listener: str
    page: str
    question: str
    value: Value
    seconds: float
    plays: int


@dataclass(frozen=True)
class Ratings:
    """All that was collected of one test."""

    listeners: list[Listener]
    answers: list[Answer]


def read_ratings(test: Path) -> Ratings:
    """Read what the server kept and the results files in the test's `results` folder.

    Raises:
        UserError: a file cannot be read, is of another test, or is there twice.
    """
    raise NotImplementedError
