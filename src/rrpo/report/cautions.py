"""Where a reward rose while something else got worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.interval import Interval
from rrpo.measures import (
    REWARD,
    Entry,
    Measure,
    figure_of,
    measures_in,
    own_reward_model,
    reward_model_label,
    section,
    system_label,
)
from rrpo.report.curves import by_system, points
from rrpo.report.numbers import number

APART = {True: "intervals apart", False: "intervals overlap", None: "no intervals"}
"""What `Interval.apart` says of two figures, in words."""
UNGUARDED = ("reward", "kl")
"""Measures of which "worse" is undefined here: the reward itself and the KL."""


@dataclass(frozen=True)
class Caution:
    """Own reward rose while something else got worse.

    `clear` is true when, for at least one of the measures that got worse, the intervals do not
    overlap.
    """

    subject: str
    text: str
    clear: bool


def find_cautions(results: Mapping[str, Any], curves: Sequence[Entry]) -> list[Caution]:
    """Find where the own reward rises while something else gets worse.

    Compared are SFT with base, every optimized policy with base and with SFT (under that policy's
    own reward model), and every curve with itself, from the point where the other measure was
    best to the last point. A change counts when it is at least the measure's `step` (reward 0.02
    nats, judge probability 0.03, judge accuracy 0.05, a quality scorer 0.05, artifacts 0.05 per
    second, word error 0.03, repetition 0.03, length 15 % in either direction) or, for all but
    length, when it is smaller and the intervals do not overlap. Where no intervals are known, as
    on a curve of plain means, something gets worse only by twice its `step`, because a best point
    is partly luck. The text says for each whether the intervals overlap. A length that comes
    nearer to the reference's does not count as worse.

    Args:
        results: the content of a demo's results.json; absent parts are left out.
        curves: the rows of its curves.jsonl.
    """
    return [*_between_systems(results), *_along_curves(results, by_system(curves))]


def _counts(before: Interval, after: Interval, measure: Measure, steps: float = 1.0) -> bool:
    """Whether a change is large enough, or clear enough, to be spoken of."""
    change = abs(after.mean - before.mean)
    if measure.relative:
        return change >= steps * measure.step * abs(before.mean) > 0
    return change >= steps * measure.step - 1e-9 or bool(before.apart(after))


def _worse(
    before: Interval, after: Interval, measure: Measure, goal: Interval | None = None
) -> bool:
    if not _counts(before, after, measure, 2.0 if before.apart(after) is None else 1.0):
        return False
    if measure.better == "higher":
        return after.mean < before.mean
    if measure.better == "lower":
        return after.mean > before.mean
    if goal is None:
        return True
    return abs(after.mean - goal.mean) > abs(before.mean - goal.mean)


def _change_text(before: Interval, after: Interval, measure: Measure) -> str:
    verb = "rose" if after.mean > before.mean else "fell"
    return (
        f"{measure.phrase} {verb} from {number(before.mean, measure.digits)} "
        f"to {number(after.mean, measure.digits)} ({APART[before.apart(after)]})"
    )


def _reward_under(results: Mapping[str, Any], model: str, system: str) -> Interval | None:
    """Reward of a system under a reward model, from its `rewards` or, failing that, `reward`."""
    entry = section(section(results, "systems"), system)
    found = figure_of(entry, f"rewards.{model}")
    if found is None and own_reward_model(entry) == model:
        found = figure_of(entry, "reward")
    return found


def _between_systems(results: Mapping[str, Any]) -> list[Caution]:
    systems = section(results, "systems")
    reference = section(results, "reference")
    cautions = []
    for name in [name for name in systems if name != "base"]:
        model = own_reward_model(section(systems, name))
        for other in ("base", "sft"):
            if other == name or other not in systems:
                continue
            before, after = (_reward_under(results, model, who) for who in (other, name))
            if before is None or after is None or after.mean <= before.mean:
                continue
            if not _counts(before, after, REWARD):
                continue
            subject = f"{system_label(name)} over {system_label(other)}"
            lead = (
                f"Reward under the reward model “{reward_model_label(model)}” rose from "
                f"{number(before.mean)} to {number(after.mean)}"
            )
            pairs = [
                (
                    measure,
                    figure_of(systems[other], measure.key),
                    figure_of(systems[name], measure.key),
                )
                for measure in measures_in([systems[other], systems[name]])
            ]
            goals = {measure.key: figure_of(reference, measure.key) for measure, _, _ in pairs}
            cautions += _caution(subject, lead, pairs, goals)
    return cautions


def _along_curves(results: Mapping[str, Any], groups: Mapping[str, list[Entry]]) -> list[Caution]:
    reference = section(results, "reference")
    cautions = []
    for name, rows in groups.items():
        scored = points(rows, "step", "reward")
        if not scored:
            continue
        last_step, last_reward, last = scored[-1]
        changes: dict[tuple[float, float], list[str]] = {}
        clear = False
        for measure in measures_in(rows):
            goal, after = figure_of(reference, measure.key), figure_of(last, measure.key)
            best = _best(rows, measure, goal)
            if measure.key in UNGUARDED or best is None or after is None:
                continue
            step, before, reward = best
            rose = last_reward.mean > reward.mean and _counts(reward, last_reward, REWARD)
            if step < last_step and rose and _worse(before, after, measure, goal):
                text = _change_text(before, after, measure)
                changes.setdefault((step, reward.mean), []).append(text)
                clear = clear or bool(before.apart(after))
        if changes:
            texts = [
                f"From step {step:.0f} to step {last_step:.0f} own reward rose from "
                f"{number(reward)} to {number(last_reward.mean)} while {'; '.join(found)}."
                for (step, reward), found in changes.items()
            ]
            subject = f"Along the curve of {system_label(name)}"
            cautions.append(Caution(subject, " ".join(texts), clear))
    return cautions


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


def _caution(
    subject: str,
    lead: str,
    pairs: Sequence[tuple[Measure, Interval | None, Interval | None]],
    goals: Mapping[str, Interval | None],
) -> list[Caution]:
    texts, clear = [], False
    for measure, before, after in pairs:
        if measure.key in UNGUARDED or before is None or after is None:
            continue
        if _worse(before, after, measure, goals.get(measure.key)):
            texts.append(_change_text(before, after, measure))
            clear = clear or bool(before.apart(after))
    if not texts:
        return []
    return [Caution(subject, f"{lead}, while {'; '.join(texts)}.", clear)]
