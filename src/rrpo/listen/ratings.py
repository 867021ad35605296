"""What listeners answered: kept by the server in SQLite, or handed in as files of a static page."""

import itertools
import json
import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pydantic

from rrpo.config import Strict, parse
from rrpo.errors import UserError
from rrpo.files import read_json, sha256
from rrpo.listen.design import DESIGN, RATINGS, RESULTS, Design, Page, Question, read_design

MARKS = 200
"""Most marks of an answer."""
LARGEST = 999_999
"""Of the numbers that an answer may be."""

PANEL_ID = "^[A-Za-z0-9_-]{1,100}$"
PanelId = Annotated[str, pydantic.Field(pattern=PANEL_ID)]
"""What a panel calls a listener: no sign in it means anything to a page or a spreadsheet."""

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


class PageAnswers(Strict):
    """What a listener's browser sends of one page: a value for each of its questions."""

    page: str = pydantic.Field(max_length=100)
    values: dict[str, Any]
    seconds: float = pydantic.Field(ge=0)
    plays: int = pydantic.Field(ge=0, lt=2**31)


class Results(Strict):
    """The file that a listener of a static page hands in."""

    format: int = pydantic.Field(ge=1, le=1)
    design: str
    """SHA-256 of the design whose pages were answered."""
    listener: str = pydantic.Field(pattern="^[0-9a-f]{20}$")
    order: int = pydantic.Field(ge=0)
    panel_id: PanelId | None = None
    pages: list[PageAnswers]


def read_ratings(test: Path) -> Ratings:
    """Read what the server kept and the results files in the test's `results` folder.

    Raises:
        UserError: a file cannot be read, is of another test, holds no answers, or is of a listener
            or a panel's participant who is there already.
    """
    design, own = read_design(test), sha256(test / DESIGN)
    kept = _kept(test / RATINGS, own) if (test / RATINGS).is_file() else Ratings([], [])
    listeners, answers = list(kept.listeners), list(kept.answers)
    sources = {listener.id: test / RATINGS for listener in listeners}
    people = {listener.panel_id: test / RATINGS for listener in listeners if listener.panel_id}
    for path in _results_files(test / RESULTS):
        one = _handed_in(path, design, own)
        (listener,) = one.listeners
        if listener.id in sources:
            raise UserError(
                f"{path} is of listener {listener.id}, and so is {sources[listener.id]}: remove "
                "one, of two files the one with fewer answers"
            )
        if listener.panel_id in people:
            raise UserError(
                f"{path} is of {listener.panel_id}, and so is a listener in "
                f"{people[listener.panel_id]}: one participant counts once, remove one"
            )
        sources[listener.id] = path
        if listener.panel_id:
            people[listener.panel_id] = path
        listeners.append(listener)
        answers.extend(one.answers)
    return Ratings(listeners, answers)


def _results_files(folder: Path) -> list[Path]:
    """Return the results files of a folder, whose names may end in capitals.

    Raises:
        UserError: something else is there, which would be left out in silence.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: make it a folder of results files")
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in files:
        if path.suffix.lower() != ".json" or not path.is_file():
            raise UserError(
                f"{path} is no results file: name it {path.name}.json if it is one, or move it away"
            )
    return files


def is_panel_id(text: str) -> bool:
    """Say whether a panel may call a listener so."""
    return re.fullmatch(PANEL_ID, text) is not None


def answers_of(
    design: Design, order: int, answered: PageAnswers, listener: str = ""
) -> list[Answer]:
    """Check what was answered on a page; return an answer for each of its questions.

    Args:
        design: of the test.
        order: index of the listener's order in it.
        answered: of one page.
        listener: id of the listener.

    Raises:
        UserError: the page is not one of the listener's, a question is not the page's or is not
            answered, a sound was not played, or a value is none that the question takes.
    """
    page = next((one for one in design.pages if one.id == answered.page), None)
    if page is None or page.id not in design.orders[order]:
        raise UserError(f"the listener has no page {answered.page!r}: load the test again")
    if set(answered.values) != set(page.questions):
        names = ", ".join(page.questions) or "nothing"
        raise UserError(f"page {page.id} asks {names}: answer these and no other")
    if answered.plays < len(page.sounds):
        raise UserError(f"page {page.id} was answered before its sounds were played: play each")
    questions = {question.name: question for question in design.questions}
    return [
        Answer(
            listener,
            page.id,
            name,
            _value(questions[name], answered.values[name], _seconds(design, page)),
            answered.seconds,
            answered.plays,
        )
        for name in page.questions
    ]


def _seconds(design: Design, page: Page) -> float:
    """Return the length of a page's first sound, the one that is marked."""
    return next((one.seconds for one in design.sounds if one.id in page.sounds[:1]), 0.0)


def _value(question: Question, value: object, seconds: float) -> Value:
    """Return a value as one that the question takes.

    Raises:
        UserError: it takes no such value.
    """
    if question.kind in ("scale", "comparison"):
        wanted = f"a number from {question.low:g} to {question.high:g} in steps of {question.step}"
        if _is_number(value) and question.low <= value <= question.high:  # type: ignore[operator]
            steps = (value - question.low) / question.step  # type: ignore[operator]
            if abs(steps - round(steps)) < 1e-6:
                return float(value)  # type: ignore[arg-type]
    elif question.kind == "number":
        wanted = f"a whole number from 0 to {LARGEST}"
        if _is_number(value) and 0 <= value <= LARGEST and value == int(value):  # type: ignore
            return float(value)  # type: ignore[arg-type]
    elif question.kind == "marks":
        wanted = f"at most {MARKS} rising places from 0 to {seconds:g} s"
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= MARKS:
            # A browser's length of a sound may differ in the last digit.
            right = all(_is_number(one) and 0 <= one <= seconds + 0.01 for one in value)
            if right and all(one < other for one, other in itertools.pairwise(value)):
                return tuple(map(float, value))
    else:
        choices = question.choices
        if question.kind == "preference":
            choices = ["first", "second", *(["same"] if question.tie else [])]
        wanted = f"one of {', '.join(choices)}"
        if isinstance(value, str) and value in choices:
            return value
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    raise UserError(f"{question.name} is {shown}: answer with {wanted}")


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _handed_in(path: Path, design: Design, own: str) -> Ratings:
    """Read a results file.

    Raises:
        UserError: it is damaged, of another test, or names what the test does not ask.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: ask the listener for the file again")
    results = parse(Results, content, path)
    if results.design != own:
        raise UserError(
            f"{path} is of another test, or of an earlier design of this one: move it away"
        )
    if results.order >= len(design.orders):
        raise UserError(f"{path}: there is no order {results.order}: ask for the file again")
    if not results.pages:
        raise UserError(f"{path} holds no answers: ask for the file again, or move it away")
    pages = [answered.page for answered in results.pages]
    if len(set(pages)) < len(pages):
        twice = next(page for page in pages if pages.count(page) > 1)
        raise UserError(f"{path} answers page {twice} twice: ask the listener for the file again")
    try:
        answers = [
            answer
            for answered in results.pages
            for answer in answers_of(design, results.order, answered, results.listener)
        ]
    except UserError as error:
        raise UserError(f"{path}: {error}; or the file was edited: ask for it again") from None
    finished = set(pages) == set(design.orders[results.order])
    listener = Listener(results.listener, results.order, finished, results.panel_id)
    return Ratings([listener], answers)


def _kept(path: Path, own: str) -> Ratings:
    """Read the server's database, which may be in use.

    Raises:
        UserError: it is damaged, or of another design.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return read_database(database, path, own)
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy it again, with its -wal") from None


def read_database(database: sqlite3.Connection, path: Path, own: str) -> Ratings:
    """Read all that a server kept.

    Args:
        database: of the tables of `rrpo.listen.store`.
        path: where it lies.
        own: SHA-256 of the test's design.

    Raises:
        UserError: it is of another design.
        sqlite3.Error: it is damaged.
    """
    require_design(database, path, own)
    with database:
        database.execute("BEGIN")  # one state, whatever is written meanwhile
        rows = database.execute(
            "SELECT id, place, finished, panel_id FROM listeners ORDER BY rowid"
        ).fetchall()
        listeners = [Listener(name, place, bool(done), panel) for name, place, done, panel in rows]
        answers = list(_answers(database))
    return Ratings(listeners, answers)


def _answers(database: sqlite3.Connection) -> Iterator[Answer]:
    """Yield the answers in the order in which they were kept."""
    rows = database.execute(
        "SELECT listener, page, question, value, seconds, plays FROM answers "
        "JOIN pages USING (listener, page) ORDER BY pages.rowid, answers.rowid"
    )
    for listener, page, question, value, seconds, plays in rows:
        read = json.loads(value)
        kept = Answer(listener, page, question, read, seconds, plays)
        yield replace(kept, value=tuple(read)) if isinstance(read, list) else kept


def require_design(database: sqlite3.Connection, path: Path, own: str) -> None:
    """Refuse ratings of another design.

    Raises:
        UserError: the design was changed since they were collected.
    """
    (found,) = database.execute("SELECT design FROM test").fetchone() or (None,)
    if found != own:
        raise UserError(
            f"{path} was collected with another {DESIGN}: put that one back, or move {path.name} "
            "away"
        )
