"""Simulated listeners whose opinion of every system is known: what an analysis is checked with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from rrpo.listen.design import Design, Page, Question
from rrpo.listen.orders import Hear, assign
from rrpo.listen.power import ASSUMED, Variances
from rrpo.listen.ratings import Answer, Listener, Ratings, Value


@dataclass(frozen=True)
class Opinion:
    """What listeners think: question → system → the mean on the scale, before it ends."""

    means: Mapping[str, Mapping[str, float]]
    variances: Variances = ASSUMED


def expected_rating(mean: float, variances: Variances, question: Question) -> float:
    """Return the mean of ratings on a scale with steps and ends: the truth of a simulation."""
    spread = math.sqrt(sum(vars(variances).values()))
    values = np.arange(question.low, question.high + question.step / 2, question.step)
    edges = (values[:-1] + values[1:]) / 2.0
    below = np.concatenate([[0.0], ndtr((edges - mean) / spread), [1.0]])
    return float((values * np.diff(below)).sum())


def on_scale(values: NDArray[np.float64], question: Question) -> NDArray[np.float64]:
    """Round opinions to the steps of a scale, and cut them at its ends."""
    steps = np.round((values - question.low) / question.step) * question.step + question.low
    return np.asarray(np.clip(steps, question.low, question.high))


class Crowd:
    """Listeners of a design, who answer by an opinion; the same seed answers the same."""

    def __init__(self, design: Design, opinion: Opinion, seed: int = 0) -> None:
        self.design, self.opinion = design, opinion
        self.rng = np.random.default_rng(seed)
        self.sounds = {one.id: one for one in design.sounds}
        self.effects: dict[tuple[str, ...], float] = {}

    def ratings(self, listeners: int, careless: int = 0) -> Ratings:
        """Return the answers of whole tests.

        Args:
            listeners: how many.
            careless: how many of them, the last ones, answer anything.
        """
        pages = {page.id: page for page in self.design.pages}
        people, answers = [], []
        for number in range(listeners):
            name, order = f"simulated-{number}", number % len(self.design.orders)
            people.append(Listener(name, order, True))
            for page in (pages[one] for one in self.design.orders[order]):
                for question in map(self.design.question, page.questions):
                    value = self._answer(name, page, question, number >= listeners - careless)
                    answers.append(Answer(name, page.id, question.name, value, 9.0, 1))
        return Ratings(people, answers)

    def _answer(self, listener: str, page: Page, question: Question, careless: bool) -> Value:
        if question.kind == "number":
            right = float(page.answer or 0)
            return right + 1.0 if careless else right
        if question.kind == "marks":
            return ()
        if question.kind in ("scale", "choice"):
            felt = self.felt(listener, page.sounds[0], question)
            if question.kind == "scale":
                return self._scaled(felt, question, careless)
            emotion = self.sounds[page.sounds[0]].emotion or question.choices[0]
            known = felt > 0 and not careless
            return emotion if known else str(self.rng.choice(question.choices))
        first, second = (self.felt(listener, one, question) for one in page.sounds)
        if question.kind == "comparison":
            return self._scaled(second - first, question, careless)
        if careless:
            return "first" if self.rng.random() < 0.5 else "second"
        return "second" if second > first else "first"

    def _scaled(self, felt: float, question: Question, careless: bool) -> float:
        if careless:
            felt = float(self.rng.uniform(question.low, question.high))
        return float(on_scale(np.array([felt]), question)[0])

    def felt(self, listener: str, sound: str, question: Question) -> float:
        """Return what a listener thinks of a sound this time."""
        one, parts = self.sounds[sound], self.opinion.variances
        name = question.name
        mean = self.opinion.means[name].get(one.system)
        if mean is None:
            mean = {"reference": 4.6, "anchor": 1.4}.get(one.system, 3.0)
        drawn = (
            self._effect(parts.listener, name, listener)
            + self._effect(parts.item, name, "item", one.item)
            + self._effect(parts.listener_system, name, listener, one.system)
            + self._effect(parts.item_system, name, "item", one.item, one.system)
            + self._effect(parts.listener_item, name, listener, "item", one.item)
        )
        return mean + drawn + float(self.rng.normal(0.0, np.sqrt(parts.rest)))

    def _effect(self, variance: float, *key: str) -> float:
        """Draw an effect once, and return it ever after."""
        if key not in self.effects:
            self.effects[key] = float(self.rng.normal(0.0, np.sqrt(variance)))
        return self.effects[key]


SCALE = Question(name="naturalness", kind="scale", prompt="")
"""From 1 to 5 in steps of .5, as the paper's."""


def simulated_counts(
    means: Sequence[float],
    listeners: int,
    items: int,
    hear: Hear,
    variances: Variances,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return totals and numbers of ratings (L, I, S, 2) of a test on the scale of 1 to 5.

    New listeners and items are drawn, and so is who hears what; nobody is careless.
    """
    shape = (listeners, items, len(means))

    def drawn(variance: float, *of: int) -> NDArray[np.float64]:
        """Draw an effect of some of listeners (0), items (1) and systems (2)."""
        size = [shape[axis] if axis in of else 1 for axis in range(3)]
        return rng.normal(0.0, math.sqrt(variance), size)

    felt = np.asarray(means) + drawn(variances.listener, 0) + drawn(variances.item, 1)
    felt = felt + drawn(variances.listener_system, 0, 2) + drawn(variances.item_system, 1, 2)
    felt = felt + drawn(variances.listener_item, 0, 1) + drawn(variances.rest, 0, 1, 2)
    heard = np.zeros(shape)
    orders = assign(items, len(means), listeners, hear, int(rng.integers(2**31)))
    for listener, order in enumerate(orders[:listeners]):
        for item, system in order:
            heard[listener, item, system] = 1.0
    return np.stack([on_scale(felt, SCALE) * heard, heard], axis=-1)
