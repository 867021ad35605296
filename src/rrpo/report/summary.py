"""The summary of a demo in words, drawn from its figures whichever way they fall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.interval import Interval, read_interval
from rrpo.measures import (
    JUDGE_PROBABILITY,
    Entry,
    Measure,
    figure_of,
    measures_in,
    quality_measures,
    reward_model_label,
    section,
    system_label,
)
from rrpo.report.cautions import Caution, find_cautions
from rrpo.report.curves import at, by_system, greatest
from rrpo.report.numbers import number, with_ends


@dataclass(frozen=True)
class Statement:
    """A sentence or two under a topic."""

    topic: str
    text: str


@dataclass(frozen=True)
class Summary:
    """What the page says before any table."""

    statements: list[Statement]
    cautions: list[Caution]


def summarize(results: Mapping[str, Any], curves: Sequence[Entry]) -> Summary:
    """Put the figures of a demo into words.

    No p-value is made up: a difference is called a rise or a fall only where the two 95 %
    intervals do not overlap; otherwise the text says that they overlap.

    `rrpo.report.cautions` says when a caution is given.

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
        *_artifacts(results),
        *_equal_distance(groups),
        *_equal_emotion(groups),
        *_reward_models(section(results, "reward_models")),
    ]
    return Summary(statements, find_cautions(results, groups))


def by_topic(statements: Sequence[Statement]) -> list[tuple[str, list[str]]]:
    """Gather the texts of each topic, in the order in which the topics first come."""
    topics: dict[str, list[str]] = {}
    for statement in statements:
        topics.setdefault(statement.topic, []).append(statement.text)
    return list(topics.items())


def compare(new: str, value: Interval, old: str, other: Interval, measure: Measure) -> str:
    """Say how one system stands to another on a measure, and whether the intervals overlap."""
    digits = measure.digits
    amounts = f"{with_ends(value, digits)} against {with_ends(other, digits)}"
    change = value.mean - other.mean
    amount = number(abs(change), digits)
    separate = value.apart(other)
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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _standings(new: Entry, old: Entry, measures: Sequence[Measure]) -> list[int]:
    """Per measure: 1 above with intervals apart, -1 below with intervals apart, 0 otherwise."""
    found = []
    for measure in measures:
        value, other = figure_of(new, measure.key), figure_of(old, measure.key)
        if value is not None and other is not None:
            sign = 1 if value.mean > other.mean else -1
            found.append(sign if value.apart(other) else 0)
    return found


def _in_short(systems: Mapping[str, Entry]) -> list[Statement]:
    if not {"rrpo", "diffro"} <= systems.keys():
        return []
    new, old = systems["rrpo"], systems["diffro"]
    verdict = {1: "above", -1: "below", 0: "not significantly different from"}
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
        text = f"Real tokens, resynthesised by the same codec, read {with_ends(ceiling, 2)}."
        found.append(Statement("Emotion", text))
    return found


def _quality(systems: Mapping[str, Entry]) -> list[Statement]:
    found = []
    for new, old in _pairs(systems):
        kinds: dict[str, list[str]] = {}
        for measure in quality_measures([systems[new], systems[old]]):
            value = figure_of(systems[new], measure.key)
            other = figure_of(systems[old], measure.key)
            if value is None or other is None:
                continue
            kind = {True: "", False: "intervals overlap", None: "no intervals known"}
            name = kind[value.apart(other)]
            if not name:
                way = "higher" if value.mean > other.mean else "lower"
                name = f"{way}, intervals apart"
            change = number(value.mean - other.mean, signed=True)
            kinds.setdefault(name, []).append(f"{measure.label} {number(value.mean)} ({change})")
        if kinds:
            parts = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in kinds.items())
            text = f"{system_label(new)} against {system_label(old)}: {parts}."
            found.append(Statement("Quality", text))
    return found


def _artifacts(results: Mapping[str, Any]) -> list[Statement]:
    entries = {"reference": section(results, "reference")} | section(results, "systems")
    texts = [
        f"{system_label(name)} {with_ends(value, 2)}"
        for name, entry in entries.items()
        if (value := figure_of(entry, "artifacts_per_second")) is not None
    ]
    if not texts:
        return []
    return [Statement("Artifacts", f"Marks of the detector per second: {', '.join(texts)}.")]


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
    return [Statement("Equal KL", f"{start}, DiffRO and RRPO read {text}")]


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
    start = f"Where the judge’s probability first reaches {number(target)}, the most both reached"
    return [Statement("Equal emotion", f"{start}, DiffRO and RRPO read {text}")]


def _equal(groups: Mapping[str, list[Entry]], across: str, target: float) -> str:
    parts = []
    for measure in measures_in([row for name in ("diffro", "rrpo") for row in groups[name]]):
        wanted = measure.group == "Quality" or measure.key in (JUDGE_PROBABILITY.key, "kl")
        if measure.key == across or not wanted:
            continue
        pair = [at(groups[name], across, target, measure.key) for name in ("diffro", "rrpo")]
        if pair[0] is not None and pair[1] is not None:
            diffro, rrpo = (number(value, measure.digits) for value in pair if value is not None)
            judge = measure.key == JUDGE_PROBABILITY.key
            label = "judge’s probability" if judge else measure.label
            parts.append(f"{label} {diffro} and {rrpo}")
    return f"{', '.join(parts)} (read off the curves, no intervals)." if parts else ""


def _reward_models(models: Mapping[str, Any]) -> list[Statement]:
    found = []
    hardened = [name for name in models if name != "plain"][-1:]
    for name in hardened if "plain" in models else []:
        tests = section(models["plain"], "accuracy")
        for test in tests:
            value = figure_of(models[name], f"accuracy.{test}")
            other = read_interval(tests[test])
            if value is None or other is None:
                continue
            measure = Measure(
                "", "", "", f"accuracy on the test set “{test}”", "", "higher", 0.0, 3, ""
            )
            labels = (f"The {reward_model_label(name)} reward model", "the plain one")
            text = compare(labels[0], value, labels[1], other, measure)
            found.append(Statement("Reward models", text))
    return found
