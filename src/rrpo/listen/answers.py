"""Answers beside what they are about: which system, which item, which question."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrpo.evaluate.clusters import Figure
from rrpo.evaluate.two_way import two_way_interval
from rrpo.interval import Interval
from rrpo.listen.design import Design, Page, Question, Role
from rrpo.listen.ratings import Ratings, Value

FEWEST = 5
"""Listeners, and items, under which no interval over them is given."""


@dataclass(frozen=True)
class Judgement:
    """One answer of a listener, who is numbered in the order of their coming.

    `systems` are those of the page's sounds, in the order in which they were heard.
    """

    listener: str
    page: Page
    question: Question
    value: Value
    systems: tuple[str, ...]
    item: str
    emotion: str | None
    seconds: float
    plays: int

    @property
    def role(self) -> Role:
        """What the page is for."""
        return self.page.role

    @property
    def score(self) -> float:
        """The answer as a number: a rating, 1 for the right emotion, how many places are marked."""
        if isinstance(self.value, tuple):
            return float(len(self.value))
        if isinstance(self.value, str):
            return float(self.value == self.emotion)
        return float(self.value)


def listener_names(ratings: Ratings) -> dict[str, str]:
    """Return id → L1, L2, … in the order of their coming: no figure needs to tell who it was."""
    return {one.id: f"L{number}" for number, one in enumerate(ratings.listeners, start=1)}


def judgements(design: Design, ratings: Ratings) -> list[Judgement]:
    """Join answers with the pages that they are of; answers to anything else are left out."""
    names = listener_names(ratings)
    pages = {page.id: page for page in design.pages}
    questions = {one.name: one for one in design.questions}
    sounds = {one.id: one for one in design.sounds}
    found = []
    for one in ratings.answers:
        page = pages.get(one.page)
        if page is None or one.question not in page.questions or one.listener not in names:
            continue
        heard = [sounds[name] for name in page.sounds]
        found.append(
            Judgement(
                names[one.listener],
                page,
                questions[one.question],
                one.value,
                tuple(sound.system for sound in heard),
                heard[0].item if heard else "",
                heard[0].emotion if heard else None,
                one.seconds,
                one.plays,
            )
        )
    return found


def counted(
    answers: Sequence[Judgement],
    shape: tuple[int, ...],
    count: Callable[[Judgement], tuple[tuple[int, ...], float]],
) -> NDArray[np.float64]:
    """Return counts (L, I, *shape) over listeners and items, as `two_way_interval` takes them.

    Args:
        count: says of an answer which element of the counts it adds to, and how much.
    """
    listeners = {name: at for at, name in enumerate(dict.fromkeys(a.listener for a in answers))}
    items = {name: at for at, name in enumerate(sorted({a.item for a in answers}))}
    table = np.zeros((len(listeners), len(items), *shape))
    for one in answers:
        place, value = count(one)
        table[(listeners[one.listener], items[one.item], *place)] += value
    return table


def mean_counts(answers: Sequence[Judgement], systems: Sequence[str]) -> NDArray[np.float64]:
    """Return totals and numbers (L, I, S, 2) of the answers about single sounds of systems."""
    place = {name: at for at, name in enumerate(systems)}
    totals = counted(answers, (len(systems),), lambda a: ((place[a.systems[0]],), a.score))
    numbers = counted(answers, (len(systems),), lambda a: ((place[a.systems[0]],), 1.0))
    return np.stack([totals, numbers], axis=-1)


def interval_over(
    counts: NDArray[np.float64], figure: Figure, seed: int, resamples: int = 2000
) -> Interval:
    """Return a figure of counts (L, I, *shape) with its interval over listeners and items.

    It has no ends where fewer than five listeners or items have answers, or all have answered
    alike: what is not seen to vary says nothing of how much it may.
    """
    there = np.abs(counts).reshape(*counts.shape[:2], -1).sum(axis=2)
    found = two_way_interval(counts, figure, seed, resamples)
    few = min(np.count_nonzero(there.sum(axis=1)), np.count_nonzero(there.sum(axis=0))) < FEWEST
    return Interval(found.mean) if few or found.low == found.high else found
