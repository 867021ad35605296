"""The design of a listening test: what is heard and asked, in which order, and what it is for.

`design.json` is the organiser's: it holds which system made which sound and the rules by which
listeners are excluded, fixed before anybody listens. A listener is given `pages_of` alone, which
names no system, no file and no right answer.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pydantic

from rrpo.config import Strict, parse
from rrpo.errors import UserError
from rrpo.files import read_json, sha256

DESIGN, SOUNDS, RATINGS, RESULTS = "design.json", "sounds", "ratings.sqlite", "results"
"""In a test's folder: the design, its sounds as ID.wav, what the server collected, and the results
files that listeners of a static page handed in."""
RESERVED = ("reference", "anchor", "attention")
"""Systems of sounds that are in a test beside the systems it compares."""

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
    labels: dict[str, str] = pydantic.Field(default_factory=dict)
    """Words at values of the scale, such as {"1": "bad", "5": "excellent"}."""
    choices: list[str] = pydantic.Field(default_factory=list)
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
    """Of its wav file, as listeners hear it."""
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

    attention_failed: int = pydantic.Field(default=1, ge=1)
    """As many wrong attention checks."""
    repeat_difference: float | None = pydantic.Field(default=None, ge=0.0)
    """Mean absolute difference between a rating and its repeat above this; None: no such rule."""
    reference_below_anchor: bool = True
    """The hidden references are rated no higher than the low anchors on average."""
    share_missing: float = pydantic.Field(default=0.5, ge=0.0, lt=1.0)
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
    bundled_voice: bool = False
    """Whether every system speaks with the bundled world's voice, which its emotion judge knows."""
    planned: dict[str, Any] = pydantic.Field(default_factory=dict)
    """What the power calculation assumed and said."""

    def question(self, name: str) -> Question:
        """Return a question by its name."""
        return next(one for one in self.questions if one.name == name)


def sound_file(test: Path, sound: str) -> Path:
    """Return where a sound lies in a test's folder, by its id."""
    return test / SOUNDS / f"{sound}.wav"


def read_design(test: Path) -> Design:
    """Read a test's design.

    Raises:
        UserError: the folder is no listening test, its design cannot be read or does not fit
            together, or a sound is missing or another than when the test was built.
    """
    path = test / DESIGN
    if not path.is_file():
        raise UserError(
            f"{test} is no listening test: it holds no {DESIGN}; make one by rrpo listen build"
        )
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged, it holds no JSON object: copy it again")
    design = parse(Design, values, path)
    try:
        check_design(design)
    except UserError as error:
        raise UserError(f"{path}: {error}: copy it again, or build the test again") from None
    for sound in design.sounds:
        file = sound_file(test, sound.id)
        if not file.is_file():
            raise UserError(f"{file} is missing: copy the whole folder of the test again")
        if sha256(file) != sound.sha256:
            raise UserError(
                f"{file} is not the sound that the test was built with: copy it again, or build "
                "the test again"
            )
    return design


def check_design(design: Design) -> None:
    """Check that a design fits together.

    Raises:
        UserError: an id is no plain word or stands twice, or names something that is not there, or
            a system is called as a part of the test is.
    """
    _require_systems(design)
    sounds = _unique("sound", (one.id for one in design.sounds))
    pages = _unique("page", (one.id for one in design.pages))
    questions = _unique("question", (one.name for one in design.questions))
    for page in design.pages:
        _require_known(f"page {page.id}", "sound", page.sounds, sounds)
        _require_known(f"page {page.id}", "question", page.questions, questions)
        _require_known(f"page {page.id}", "page", [page.repeats] if page.repeats else [], pages)
        if page.role == "attention" and page.answer is None:
            raise UserError(f"the attention check {page.id} has no right answer")
    for number, order in enumerate(design.orders):
        _require_known(f"order {number}", "page", order, pages)
        _unique(f"page of order {number}", order)
    if not design.orders or not all(design.orders):
        raise UserError("an order has no pages")


def _require_systems(design: Design) -> None:
    """Refuse systems that would be counted as another, or as a part of the test."""
    for name in design.systems:
        if name in RESERVED:
            raise UserError(f"a system cannot be called {name}, as a part of the test is")
        if design.systems.count(name) > 1:
            raise UserError(f"the system {name[:64]!r} stands twice")
    known = {*design.systems, *RESERVED}
    for sound in design.sounds:
        _require_known(f"sound {sound.id}", "system", [sound.system], known)
    system = {sound.id: sound.system for sound in design.sounds}
    for page in design.pages:
        if page.role in ("test", "repeat"):
            for name in page.sounds:
                if system.get(name) in RESERVED:
                    raise UserError(
                        f"page {page.id} is of the test and plays the {system[name]}: it compares "
                        "systems alone"
                    )


def _unique(what: str, names: Iterable[str]) -> set[str]:
    """Return names as a set; ids become names of files and parts of addresses, so plain words."""
    found: set[str] = set()
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise UserError(f"the {what} {name[:64]!r} is no plain word")
        if name in found:
            raise UserError(f"the {what} {name} stands twice")
        found.add(name)
    return found


def _require_known(where: str, what: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{where} names the {what} {name[:64]!r}, which is not there")


def pages_of(design: Design, order: int) -> dict[str, Any]:
    """Return what the listener with this order may know, as JSON: instructions, questions, pages.

    A page has `id`, `training` (bool), `sounds` (id and seconds), `questions`, `text`, `emotion`,
    `note`, and nothing that tells systems, sources, repeats, roles or right answers.
    """
    seconds = {one.id: one.seconds for one in design.sounds}
    pages = {one.id: one for one in design.pages}
    chosen = [pages[name] for name in design.orders[order % len(design.orders)]]
    asked = {name for page in chosen for name in page.questions}
    return {
        "title": design.title,
        "instructions": design.instructions,
        "questions": [one.model_dump() for one in design.questions if one.name in asked],
        "pages": [
            {
                "id": page.id,
                "training": page.role == "training",
                "sounds": [{"id": one, "seconds": seconds[one]} for one in page.sounds],
                "questions": page.questions,
                "text": page.text,
                "emotion": page.emotion,
                "note": page.note,
            }
            for page in chosen
        ],
    }
