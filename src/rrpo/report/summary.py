"""The summary of a demo in words, drawn from its figures whichever way they fall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.report.curves import at, by_system, greatest, points
from rrpo.report.measures import (
    JUDGE_PROBABILITY,
    REWARD,
    Entry,
    Estimate,
    Measure,
    apart,
    estimate,
    figure_of,
    interval,
    measures_in,
    number,
    own_reward_model,
    plain_name,
    quality_measures,
    reward_model_label,
    section,
    system_label,
)

UNGUARDED = ("reward", "kl")
"""Measures that getting worse is not a matter of: the reward itself and the distance moved."""


@dataclass(frozen=True)
class Statement:
    """A sentence or two under a topic."""

    topic: str
    text: str


@dataclass(frozen=True)
class Caution:
    """Own reward rose while something else got worse.

    `clear` is true when, for at least one of the measures that got worse, the intervals do not
    overlap.
    """

    subject: str
    text: str
    clear: bool


@dataclass(frozen=True)
class Summary:
    """What the page says before any table."""

    statements: list[Statement]
    cautions: list[Caution]


def summarize(results: Mapping[str, Any], curves: Sequence[Entry]) -> Summary:
    """Put the figures of a demo into words.

    No p-value is made up: a difference is called a rise or a fall only where the two 95 %
    intervals do not overlap; otherwise the text says that they overlap.

    A caution is given where the own reward rises while something else gets worse, comparing SFT
    with base, every optimized policy with base and with SFT (under that policy's own reward
    model), and every curve with itself, from the point where the other measure was best to the
    last point. A change counts when it is at least the measure's `step` (reward 0.02 nats, judge
    probability 0.03, judge accuracy 0.05, a quality scorer 0.05, artifacts 0.05 per second, word
    error 0.03, repetition 0.03, length 15 % in either direction), or, but for length, when it is smaller
    and the intervals do not overlap. The text says for each whether the intervals overlap. A length that
    comes nearer to the reference's does not count as worse.

    Args:
        results: the content of a demo's results.json; absent parts are left out.
        curves: the rows of its curves.jsonl.
    """
    systems = section(results, "systems")
    groups = by_system(curves)
    statements = [
        *_in_short(systems),
        *_emotion(systems, section(results, "reference")),
        *_quality(systems),
        *_artifacts(systems),
        *_equal_distance(groups),
        *_equal_emotion(groups),
        *_reward_models(section(results, "reward_models")),
    ]
    return Summary(statements, [*_between_systems(results), *_along_curves(results, groups)])


def by_topic(statements: Sequence[Statement]) -> list[tuple[str, list[str]]]:
    """Gather the texts of each topic, in the order in which the topics first come."""
    topics: dict[str, list[str]] = {}
    for statement in statements:
        topics.setdefault(statement.topic, []).append(statement.text)
    return list(topics.items())


def compare(new: str, value: Estimate, old: str, other: Estimate, measure: Measure) -> str:
    """Say how one system stands to another on a measure, and whether the intervals overlap."""
    digits = measure.digits
    amounts = f"{_shown(value, digits)} against {_shown(other, digits)}"
    change = value.mean - other.mean
    amount = number(abs(change), digits)
    separate = apart(value, other)
    if amount == number(0, digits):
        return f"{new} and {old} read the same on {measure.phrase} ({amounts})."
    if separate:
        verb = "raised" if change > 0 else "lowered"
        return (
            f"{new} {verb} {measure.phrase} over {old} by {amount} ({amounts}); "
            "the 95 % intervals do not overlap."
        )
    way = "higher" if change > 0 else "lower"
    ending = "the 95 % intervals overlap, so this run does not tell the two apart."
    if separate is None:
        ending = "no intervals are known, so how far chance reaches is open."
    return f"{new} reads {amount} {way} than {old} on {measure.phrase} ({amounts}); {ending}"


def _shown(value: Estimate, digits: int) -> str:
    return f"{number(value.mean, digits)} {interval(value, digits)}".strip()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _standings(new: Entry, old: Entry, measures: Sequence[Measure]) -> list[int]:
    """Per measure: 1 above with intervals apart, -1 below with intervals apart, 0 otherwise."""
    found = []
    for measure in measures:
        value, other = figure_of(new, measure.key), figure_of(old, measure.key)
        if value is not None and other is not None:
            sign = 1 if value.mean > other.mean else -1
            found.append(sign if apart(value, other) else 0)
    return found


def _in_short(systems: Mapping[str, Entry]) -> list[Statement]:
    if not {"rrpo", "diffro"} <= systems.keys():
        return []
    new, old = systems["rrpo"], systems["diffro"]
    verdict = {1: "above", -1: "below", 0: "not told apart from"}
    parts = []
    emotion = _standings(new, old, [JUDGE_PROBABILITY])
    if emotion:
        parts.append(f"on emotion, RRPO is {verdict[emotion[0]]} DiffRO for the judge")
    quality = _standings(new, old, quality_measures([new, old]))
    if quality:
        counts = ", ".join(
            f"{verdict[kind]} it on {quality.count(kind)}" for kind in verdict if kind in quality
        )
        plural = "scorer" if len(quality) == 1 else "scorers"
        parts.append(f"of {len(quality)} quality {plural}, RRPO is {counts}")
    if not parts:
        return []
    ending = " Both are compared here at the end of training, which is not equal KL."
    return [Statement("In short", _sentence("; ".join(parts)) + ending)]


def _pairs(systems: Mapping[str, Entry]) -> list[tuple[str, str]]:
    wanted = (("diffro", "sft"), ("rrpo", "sft"), ("rrpo", "diffro"))
    return [(new, old) for new, old in wanted if new in systems and old in systems]


def _emotion(systems: Mapping[str, Entry], reference: Entry) -> list[Statement]:
    found = []
    for new, old in _pairs(systems):
        value = figure_of(systems[new], JUDGE_PROBABILITY.key)
        other = figure_of(systems[old], JUDGE_PROBABILITY.key)
        if value is not None and other is not None:
            text = compare(system_label(new), value, system_label(old), other, JUDGE_PROBABILITY)
            found.append(Statement("Emotion", text))
    ceiling = figure_of(reference, JUDGE_PROBABILITY.key)
    if found and ceiling is not None:
        text = f"Real tokens, resynthesised by the same codec, read {_shown(ceiling, 2)}."
        found.append(Statement("Emotion", text))
    return found


def _quality(systems: Mapping[str, Entry]) -> list[Statement]:
    found = []
    for new, old in _pairs(systems):
        parts = []
        for measure in quality_measures([systems[new], systems[old]]):
            value = figure_of(systems[new], measure.key)
            other = figure_of(systems[old], measure.key)
            if value is None or other is None:
                continue
            state = {True: "apart", False: "overlap", None: "unknown"}[apart(value, other)]
            parts.append(
                f"{measure.label} {number(value.mean)} against {number(other.mean)} "
                f"({number(value.mean - other.mean, signed=True)}, intervals {state})"
            )
        if parts:
            text = f"{system_label(new)} against {system_label(old)}: {'; '.join(parts)}."
            found.append(Statement("Quality", text))
    return found


def _artifacts(systems: Mapping[str, Entry]) -> list[Statement]:
    measure = next((m for m in measures_in(systems.values()) if m.key.startswith("artif")), None)
    if measure is None:
        return []
    found = []
    for new, old in _pairs(systems):
        value, other = figure_of(systems[new], measure.key), figure_of(systems[old], measure.key)
        if value is not None and other is not None:
            text = compare(system_label(new), value, system_label(old), other, measure)
            found.append(Statement("Artifacts", text))
    return found


def _equal_distance(groups: Mapping[str, list[Entry]]) -> list[Statement]:
    """DiffRO and RRPO at the greatest KL that both reached."""
    reached = [greatest(groups.get(name, []), "kl") for name in ("diffro", "rrpo")]
    if reached[0] is None or reached[1] is None or min(reached[0], reached[1]) <= 0:
        return []
    target = min(reached[0], reached[1])
    text = _equal(groups, "kl", target)
    if not text:
        return []
    start = f"At {number(target, 3)} nats per token, the furthest from the base that both reached"
    return [Statement("Equal KL", f"{start}: {text}")]


def _equal_emotion(groups: Mapping[str, list[Entry]]) -> list[Statement]:
    """DiffRO and RRPO at the greatest judge probability that both reached."""
    key = JUDGE_PROBABILITY.key
    reached = [greatest(groups.get(name, []), key) for name in ("diffro", "rrpo")]
    if reached[0] is None or reached[1] is None:
        return []
    target = min(reached[0], reached[1])
    text = _equal(groups, key, target)
    if not text:
        return []
    start = f"Where the judge's probability first reaches {number(target)}, the most both reached"
    return [Statement("Equal emotion", f"{start}: {text}")]


def _equal(groups: Mapping[str, list[Entry]], across: str, target: float) -> str:
    parts = []
    for measure in measures_in([row for name in ("diffro", "rrpo") for row in groups[name]]):
        if measure.key in (across, "reward") or measure.group == "Speech":
            continue
        pair = [at(groups[name], across, target, measure.key) for name in ("diffro", "rrpo")]
        if pair[0] is not None and pair[1] is not None:
            diffro, rrpo = (number(value, measure.digits) for value in pair if value is not None)
            parts.append(f"{measure.label} DiffRO {diffro}, RRPO {rrpo}")
    return f"{'; '.join(parts)} (read off the curves, no intervals)." if parts else ""


def _reward_models(models: Mapping[str, Any]) -> list[Statement]:
    found = []
    hardened = [name for name in models if name != "plain"][-1:]
    for name in hardened if "plain" in models else []:
        tests = section(models["plain"], "accuracy")
        for test in tests:
            value = figure_of(models[name], f"accuracy.{test}")
            other = estimate(tests[test])
            if value is None or other is None:
                continue
            measure = Measure(
                "", "", f"accuracy on the test set “{test}”", "", "higher", 0.0, 3, ""
            )
            labels = (f"The {reward_model_label(name)} reward model", "the plain one")
            text = compare(labels[0], value, labels[1], other, measure)
            found.append(Statement("Reward models", text))
    return found


def _counts(before: Estimate, after: Estimate, measure: Measure) -> bool:
    """Whether a change is large enough, or clear enough, to be spoken of."""
    change = abs(after.mean - before.mean)
    if measure.relative:
        return change >= measure.step * abs(before.mean) > 0
    return change >= measure.step - 1e-9 or bool(apart(before, after))


def _worse(
    before: Estimate, after: Estimate, measure: Measure, goal: Estimate | None = None
) -> bool:
    if not _counts(before, after, measure):
        return False
    if measure.better == "higher":
        return after.mean < before.mean
    if measure.better == "lower":
        return after.mean > before.mean
    if goal is None:
        return True
    return abs(after.mean - goal.mean) > abs(before.mean - goal.mean)


def _change_text(before: Estimate, after: Estimate, measure: Measure) -> str:
    verb = "rose" if after.mean > before.mean else "fell"
    state = {True: "intervals apart", False: "intervals overlap", None: "no intervals"}
    return (
        f"{measure.phrase} {verb} from {number(before.mean, measure.digits)} "
        f"to {number(after.mean, measure.digits)} ({state[apart(before, after)]})"
    )


def _reward_under(results: Mapping[str, Any], model: str, system: str) -> Estimate | None:
    """Reward of a system under a reward model, from its `rewards` or, failing that, `reward`."""
    entry = section(section(results, "systems"), system)
    found = figure_of(entry, f"rewards.{model}")
    if found is None and own_reward_model(system, entry) == model:
        found = figure_of(entry, "reward")
    return found


def _between_systems(results: Mapping[str, Any]) -> list[Caution]:
    systems = section(results, "systems")
    reference = section(results, "reference")
    cautions = []
    for name in [name for name in systems if name != "base"]:
        model = own_reward_model(name, section(systems, name))
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
                f"reward under the {reward_model_label(model)} reward model rose from "
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
        texts, clear = [], False
        for measure in measures_in(rows):
            goal, after = figure_of(reference, measure.key), figure_of(last, measure.key)
            best = _best(rows, measure, goal)
            if measure.key in UNGUARDED or best is None or after is None:
                continue
            step, before, reward = best
            rose = last_reward.mean > reward.mean and _counts(reward, last_reward, REWARD)
            if step < last_step and rose and _worse(before, after, measure, goal):
                texts.append(
                    f"from step {step:.0f} to step {last_step:.0f} own reward rose from "
                    f"{number(reward.mean)} to {number(last_reward.mean)} while "
                    f"{_change_text(before, after, measure)}"
                )
                clear = clear or bool(apart(before, after))
        if texts:
            subject = f"Along the curve of {system_label(name)}"
            cautions.append(Caution(subject, _sentence("; ".join(texts)), clear))
    return cautions


def _best(
    rows: Sequence[Entry], measure: Measure, goal: Estimate | None
) -> tuple[float, Estimate, Estimate] | None:
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
    pairs: Sequence[tuple[Measure, Estimate | None, Estimate | None]],
    goals: Mapping[str, Estimate | None],
) -> list[Caution]:
    texts, clear = [], False
    for measure, before, after in pairs:
        if measure.key in UNGUARDED or before is None or after is None:
            continue
        if _worse(before, after, measure, goals.get(measure.key)):
            texts.append(_change_text(before, after, measure))
            clear = clear or bool(apart(before, after))
    if not texts:
        return []
    return [Caution(subject, f"{plain_name(lead)}, while {'; '.join(texts)}.", clear)]
