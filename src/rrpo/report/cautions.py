"""Where a reward rose while something else got worse."""

from dataclasses import dataclass

from rrpo.interval import Interval
from rrpo.measures import (
    REWARD,
    Measure,
    figure_of,
    measures_in,
    own_reward_model,
    reward_model_label,
    system_label,
)
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


def find_cautions(found: Figures) -> list[Caution]:
    """Find where the own reward rises while something else gets worse.

    Compared are SFT with base, and every optimized policy with base and with SFT (under that
    policy's own reward model). A change counts when it is at least the measure's `step` (reward
    0.02 nats, judge probability 0.03, judge accuracy 0.05, a quality scorer 0.05, artifacts 0.05
    per second, word error 0.03, repetition 0.03, length 15 % in either direction), without an
    interval at least twice that. A length that comes nearer to the reference's does not count as
    worse. What is significant and what is not are cautions of their own.
    """
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
