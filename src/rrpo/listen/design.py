"""The design of a listening test: what is heard and asked, in which order, and what it is for.

`design.json` is the organiser's: it holds which system made which sound and the rules by which
listeners are excluded, fixed before anybody listens. A listener is given `pages_of` alone, which
names no system, no file and no right answer.
"""

from pathlib import Path
from typing import Any, Literal

from rrpo.checkpoint import read_json
from rrpo.config import Strict, parse
from rrpo.errors import UserError

DESIGN, SOUNDS, RATINGS, RESULTS = "design.json", "sounds", "ratings.sqlite", "results"
"""In a test's folder: the design, its sounds as ID.wav, what the server collected, and the results
files that listeners of a static page handed in."""
FORMAT = 1

Kind = Literal["scale", "comparison", "preference", "choice", "marks", "number"]
Role = Literal["training", "test", "repeat", "reference", "anchor", "attention"]


class Question(Strict):
    """One question of a page.

    `scale` rates one sound from `low` to `high` in steps of `step`; `comparison` rates the second
    of two sounds against the first, as CMOS does; `preference` chooses "first", "second" or, with
    `tie`, "same"; `choice` chooses one of `choices`; `marks` are places in seconds, chosen on the
    waveform; `number` is a whole number that a sound or a text tells to enter.
    """

    name: str
    kind: Kind
    prompt: str
    low: float = 1.0
    high: float = 5.0
    step: float = 0.5
    labels: dict[str, str] = {}
    """Words at values of the scale, such as {"1": "bad", "5": "excellent"}."""
    choices: list[str] = []
    tie: bool = False


class Sound(Strict):
    """A sound of the test: `id` is random, the rest is the organiser's."""

    id: str
    seconds: float
    system: str
    item: str
    """What is compared across systems: a text in an emotion."""
    emotion: str | None = None
    source: str
    sha256: str
    gain_db: float


class Page(Strict):
    """One page: its sounds are played, its questions answered."""

    id: str
    role: Role
    sounds: list[str]
    questions: list[str]
    text: str | None = None
    """What is said, shown to the listener; None: not shown."""
    emotion: str | None = None
    """What it is to express, shown to the listener; None: not shown."""
    note: str | None = None
    """Training: what to attend to. Attention: what is written, where nothing is said."""
    repeats: str | None = None
    """The page that this one asks again."""
    answer: float | str | None = None
    """Attention: the right answer."""


class Exclusion(Strict):
    """When a listener is left out, decided before the test."""

    attention_failed: int = 1
    """As many wrong attention checks."""
    repeat_difference: float | None = None
    """Mean absolute difference between a rating and its repeat above this; None: no such rule."""
    reference_below_anchor: bool = True
    """The hidden references are rated no higher than the low anchors on average."""
    share_missing: float = 0.5
    """A larger share of the pages unanswered."""
    one_value: bool = True
    """The same answer to every question of a kind."""


class Design(Strict):
    """A whole test."""

    format: Literal[1] = 1
    title: str
    seed: int
    instructions: list[str]
    questions: list[Question]
    sounds: list[Sound]
    pages: list[Page]
    orders: list[list[str]]
    """Ids of pages in the order in which a listener meets them, one list for each listener; more
    listeners than orders begin at the first again."""
    systems: list[str]
    exclusion: Exclusion
    panel: str | None = None
    """Parameter of the address that a panel fills in, such as PROLIFIC_PID; None: none is kept."""
    completion_url: str | None = None
    """Where a panel's listener is sent at the end; None: a completion code is shown alone."""
    planned: dict[str, Any] = {}
    """What the power calculation assumed and said."""


def read_design(test: Path) -> Design:
    """Read a test's design.

    Raises:
        UserError: the folder is no listening test, or its design cannot be read.
    """
    if not (test / DESIGN).is_file():
        raise UserError(f"{test} is no listening test, it has no {DESIGN}: make one by rrpo listen")
    values = read_json(test / DESIGN)
    if not isinstance(values, dict):
        raise UserError(f"{test / DESIGN} is damaged, it holds no JSON object: copy it again")
    return parse(Design, values, test / DESIGN)


def pages_of(design: Design, order: int) -> dict[str, Any]:
    """Return what the listener with this order may know, as JSON: instructions, questions, pages.

    A page has `id`, `training` (bool), `sounds` (id and seconds), `questions`, `text`, `emotion`,
    `note`, and nothing that tells systems, sources, repeats, roles or right answers.
    """
    pages = {page.id: page for page in design.pages}
    seconds = {sound.id: sound.seconds for sound in design.sounds}
    return {
        "title": design.title,
        "instructions": design.instructions,
        "questions": [question.model_dump() for question in design.questions],
        "pages": [
            {
                "id": page.id,
                "training": page.role == "training",
                "sounds": [{"id": sound, "seconds": seconds[sound]} for sound in page.sounds],
                "questions": page.questions,
                "text": page.text,
                "emotion": page.emotion,
                "note": page.note,
            }
            for page in (pages[name] for name in design.orders[order % len(design.orders)])
        ],
    }
