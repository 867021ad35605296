"""Where a reward rose while something else got worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rrpo.evaluate.statistics import difference_of_intervals
from rrpo.interval import Interval
from rrpo.measures import (
    REWARD,
    Entry,
    Measure,
    figure_of,
    measures_in,
    own_reward_model,
    reward_model_label,
    system_label,
)
from rrpo.report.curves import points
from rrpo.report.differences import Figures, reward_of
from rrpo.report.numbers import number

UNGUARDED = ("reward", "kl")
"""Measures of which "worse" is undefined here: the reward itself and the KL."""


@dataclass(frozen=True)
class Caution:
    """Own reward rose while something else got worse.

    `significant` is true where the intervals of both changes exclude zero.
    """

    subject: str
    text: str
    significant: bool


@dataclass(frozen=True)
class _Change:
    """A measure before and after, and the difference with its interval."""

    measure: Measure
    before: Interval
    after: Interval
    difference: Interval

    @property
    def known(self) -> bool:
        return self.difference.known

    def counts(self) -> bool:
        """Whether it is large enough to be spoken of; twice as large without an interval."""
        change = abs(self.after.mean - self.before.mean)
        least = self.measure.step * (1.0 if self.known else 2.0)
        if self.measure.relative:
            return change >= least * abs(self.before.mean) > 0
        return change >= least - 1e-9

    def worse(self, goal: Interval | None) -> bool:
        """Whether it is for the worse; a length is the worse the further from the goal."""
        if not self.counts():
            return False
        if self.measure.better == "higher":
            return self.after.mean < self.before.mean
        if self.measure.better == "lower":
            return self.after.mean > self.before.mean
        if goal is None:
            return True
        return abs(self.after.mean - goal.mean) > abs(self.before.mean - goal.mean)

    def text(self) -> str:
        verb = "rose" if self.after.mean > self.before.mean else "fell"
        digits = self.measure.digits
        return (
            f"{self.measure.phrase} {verb} from {number(self.before.mean, digits)} "
            f"to {number(self.after.mean, digits)}"
        )


def find_cautions(found: Figures, groups: Mapping[str, list[Entry]]) -> list[Caution]:
    """Find where the own reward rises while something else gets worse.

    Compared are SFT with base, every optimized policy with base and with SFT (under that policy's
    own reward model), and every curve with itself, from the point where the other measure was
    best to the last point. A change counts when it is at least the measure's `step` (reward 0.02
    nats, judge probability 0.03, judge accuracy 0.05, a quality scorer 0.05, artifacts 0.05 per
    second, word error 0.03, repetition 0.03, length 15 % in either direction). Where no intervals
    are known, as on a curve of plain means, only twice its `step` counts, because a best point is
    partly luck. A length that comes nearer to the reference's does not count as worse. What is
    significant and what is not are cautions of their own.

    Args:
        found: the figures of the systems.
        groups: the rows of curves.jsonl by system, sorted by step.
    """
    return [*_between_systems(found), *_along_curves(found, groups)]


def _between_systems(found: Figures) -> list[Caution]:
    cautions = []
    for name in [name for name in found.systems if name != "base"]:
        model = own_reward_model(found.systems[name])
        for other in ("base", "sft"):
            if other == name or other not in found.systems:
                continue
            before, after = (reward_of(found.systems, who, model) for who in (other, name))
            difference = found.reward_difference(name, other, model)
            if before is None or after is None or difference is None:
                continue
            rise = _Change(REWARD, before, after, difference)
            if after.mean <= before.mean or not rise.counts():
                continue
            lead = (
                f"Reward under the reward model “{reward_model_label(model)}” rose from "
                f"{number(before.mean)} to {number(after.mean)}"
            )
            worse = _worse(found, name, other)
            for significant in (True, False):
                texts = [
                    change.text()
                    for change in worse
                    if (rise.difference.significant and change.difference.significant)
                    is significant
                ]
                if texts:
                    subject = f"{system_label(name)} over {system_label(other)}"
                    text = f"{lead}, while {'; '.join(texts)}."
                    cautions.append(Caution(subject, text, significant))
    return cautions


def _worse(found: Figures, name: str, other: str) -> list[_Change]:
    changes = []
    for measure in measures_in([found.systems[other], found.systems[name]]):
        before, after = (figure_of(found.systems[who], measure.key) for who in (other, name))
        difference = found.difference(name, other, measure)
        if measure.key in UNGUARDED or before is None or after is None or difference is None:
            continue
        change = _Change(measure, before, after, difference)
        if change.worse(figure_of(found.reference, measure.key)):
            changes.append(change)
    return changes


def _along_curves(found: Figures, groups: Mapping[str, list[Entry]]) -> list[Caution]:
    cautions = []
    for name, rows in groups.items():
        scored = points(rows, "step", "reward")
        if not scored:
            continue
        last_step, last_reward, last = scored[-1]
        changes: dict[tuple[float, float], list[str]] = {}
        for measure in measures_in(rows):
            goal, after = figure_of(found.reference, measure.key), figure_of(last, measure.key)
            best = _best(rows, measure, goal)
            if measure.key in UNGUARDED or best is None or after is None:
                continue
            step, before, reward = best
            rise = _between(REWARD, reward, last_reward)
            change = _between(measure, before, after)
            rose = last_reward.mean > reward.mean and rise.counts()
            if step < last_step and rose and change.worse(goal):
                changes.setdefault((step, reward.mean), []).append(change.text())
        if changes:
            texts = [
                f"From step {step:.0f} to step {last_step:.0f} own reward rose from "
                f"{number(reward)} to {number(last_reward.mean)} while {'; '.join(found_texts)}."
                for (step, reward), found_texts in changes.items()
            ]
            # The best point of a curve is partly luck: never more than a remark.
            subject = f"Along the curve of {system_label(name)}"
            cautions.append(Caution(subject, " ".join(texts), False))
    return cautions


def _between(measure: Measure, before: Interval, after: Interval) -> _Change:
    return _Change(measure, before, after, difference_of_intervals(after, before))


def _best(
    rows: Sequence[Entry], measure: Measure, goal: Interval | None
) -> tuple[float, Interval, Interval] | None:
    """Return (step, value, reward) where a measure was best; a length starts at the first point."""
    found = [
        (step, value, reward)
        for step, value, row in points(rows, "step", measure.key)
        if (reward := figure_of(row, "own_reward")) is not None
    ]
    if not found:
        return None
    if measure.better == "higher":
        return max(found, key=lambda item: item[1].mean)
    if measure.better == "lower":
        return min(found, key=lambda item: item[1].mean)
    if goal is not None:
        return min(found, key=lambda item: abs(item[1].mean - goal.mean))
    return found[0]
