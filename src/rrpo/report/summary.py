"""What a demo shows, in a few sentences drawn from its figures whichever way they fall."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.interval import Interval
from rrpo.measures import (
    BY_KEY,
    JUDGE_PROBABILITY,
    Entry,
    Measure,
    figure_of,
    quality_measures,
    system_label,
)
from rrpo.report.cautions import Caution, find_cautions
from rrpo.report.differences import Figures, figures
from rrpo.report.numbers import number

WORDS = BY_KEY["content_error"]


@dataclass(frozen=True)
class Summary:
    """What a page says before any table: at most five sentences, and its cautions."""

    verdict: list[str]
    cautions: list[Caution]


def summarize(results: Mapping[str, Any], samples: Sequence[Entry] = ()) -> Summary:
    """Put the figures of a demo into words.

    A difference is called one only where its 95 % interval excludes zero; otherwise the text says
    that there is no significant difference.

    Args:
        results: the content of a demo's results.json; absent parts are left out.
        samples: the rows of its samples.jsonl, for paired differences.
    """
    found = figures(results, samples)
    return Summary(_verdict(found), find_cautions(found))


def _verdict(found: Figures) -> list[str]:
    trained = [name for name in found.systems if name not in ("base", "sft")]
    new = [name for name in ("diffro", "rrpo") if name in trained] or trained[:3]
    old = "sft" if new and "sft" in found.systems else "base"
    new = new or [name for name in ("sft",) if name in found.systems]
    if not new or old not in found.systems:
        return []
    sentences = [_emotion(found, new, old), _words(found, new, old), _quality(found, new, old)]
    if {"diffro", "rrpo"} <= found.systems.keys():
        sentences.append(_pair(found, "rrpo", "diffro"))
    if not any(sentences):
        return []
    return [sentence for sentence in [*sentences, _limits(found, new[0])] if sentence]


def _limits(found: Figures, name: str) -> str:
    count = figure_of(found.systems[name], "utterances")
    said = f"{count.mean:.0f} utterances of " if count is not None else ""
    return (
        f"One seed and {said}a synthetic voice cannot tell whether another seed agrees, nor "
        "anything about human emotion."
    )


def _emotion(found: Figures, new: Sequence[str], old: str) -> str:
    wording = {
        1: "came closer to the asked emotion than",
        -1: "fell behind in the asked emotion:",
        0: "showed no significant difference in emotion from",
    }
    return _change(found, new, old, JUDGE_PROBABILITY, wording, number, "judge’s probability ")


def _words(found: Figures, new: Sequence[str], old: str) -> str:
    wording = {
        1: "got more words wrong than",
        -1: "got fewer words wrong than",
        0: "showed no significant difference in words wrong from",
    }
    return _change(found, new, old, WORDS, wording, lambda value: f"{100 * value:.0f}\u00a0%")


def _change(
    found: Figures,
    new: Sequence[str],
    old: str,
    measure: Measure,
    wording: Mapping[int, str],
    form: Callable[[float], str],
    unit: str = "",
) -> str:
    """Say how systems stand to an older one on a measure, those that stand alike together."""
    before = figure_of(found.systems[old], measure.key)
    clauses = []
    for kind, text in wording.items():
        names = [name for name in new if direction(found.difference(name, old, measure)) == kind]
        after = [figure_of(found.systems[name], measure.key) for name in names]
        values = [form(value.mean) for value in after if value is not None]
        if before is not None and values and len(values) == len(names):
            amounts = f"({unit}{_listed(values)} against {form(before.mean)})"
            clauses.append(
                f"{_listed(list(map(system_label, names)))} {text} {system_label(old)} {amounts}"
            )
    return "; ".join(clauses) + "." if clauses else ""


def direction(difference: Interval | None) -> int | None:
    """Return 1 or -1 where a difference is significant, 0 where not, None without one."""
    if difference is None:
        return None
    return (1 if difference.mean > 0 else -1) if difference.significant else 0


def _quality(found: Figures, new: Sequence[str], old: str) -> str:
    measures = quality_measures([found.systems[name] for name in (old, *new)])
    clauses = []
    for name in new:
        signs = {m.label: direction(found.difference(name, old, m)) for m in measures}
        for sign, verb in ((1, "gained"), (-1, "lost")):
            scorers = [label for label, found_sign in signs.items() if found_sign == sign]
            if scorers:
                clauses.append(f"{system_label(name)} {verb} speech quality ({_listed(scorers)})")
    if clauses:
        return f"Against {system_label(old)}, {'; '.join(clauses)}."
    if not measures:
        return ""
    names = _listed([system_label(name) for name in new])
    return f"In speech quality, {names} showed no significant difference from {system_label(old)}."


def _pair(found: Figures, new: str, old: str) -> str:
    """Say in what two systems differ, and in what they do not."""
    one, other = found.systems[new], found.systems[old]
    topics = {
        "emotion": [JUDGE_PROBABILITY],
        "words": [WORDS],
        "speech quality": quality_measures([one, other]),
    }
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "same": []}
    for topic, measures in topics.items():
        known = {
            m.label: (sign if m.better == "higher" else -sign)
            for m in measures
            if (sign := direction(found.difference(new, old, m))) is not None
        }
        signs = set(known.values())
        if {1, -1} <= signs:  # by the names of the measures, as they do not agree
            for sign, kind in ((1, "better"), (-1, "worse")):
                kinds[kind] += [label for label, one in known.items() if one == sign]
        elif known:
            kinds["better" if 1 in signs else "worse" if -1 in signs else "same"].append(topic)
    parts = [f"{kind} in {_listed(kinds[kind])}" for kind in ("better", "worse") if kinds[kind]]
    if kinds["same"]:
        parts.append(f"not significantly different in {_listed(kinds['same'])}")
    if not parts:
        return ""
    told = ", and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"Against {system_label(old)}, {system_label(new)} is {told}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
