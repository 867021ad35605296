"""Pages of figures that are pooled over seeds."""

from collections.abc import Iterable, Mapping
from typing import Any

from rrpo.interval import MISSING
from rrpo.measures import reward_model_label
from rrpo.report import markdown
from rrpo.studies.demo.pooled import KEYS, MEASURED, Pooled, title_of


def cell(value: Pooled | None) -> str:
    """Return a figure as mean, interval and the means of the seeds."""
    if value is None:
        return MISSING
    digits = 1 if abs(value.mean) >= 10 else 2
    return f"{value} ({', '.join(f'{one:.{digits}f}' for one in value.seeds)})"


def by_measure(
    columns: Mapping[str, Mapping[str, Pooled | None]], measures: Iterable[str] = MEASURED
) -> list[str]:
    """Return a table with a row for each measure that a column knows."""
    rows = [(name, [cell(found.get(name)) for found in columns.values()]) for name in measures]
    return markdown.table("", list(columns), markdown.measured(rows))


def seeds_page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    names = list(study["systems"])
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}, "
        f"{max(study['seconds']):.0f} s a seed at most. Mean with Student's 95 % interval over the "
        "seeds, each of which trains again and says other sentences; in brackets their means.",
        "",
        *by_measure({title_of(name): study["systems"][name] for name in names}),
        "",
        "Differences, first minus second, paired within each seed:",
        "",
        *by_measure(study["differences"]),
    ]
    words = {title_of(name): value for name, value in study["words"].items() if value}
    if words:
        lines += [
            "",
            "Word error less the base's, paired by utterance; bootstrap over sentences, those of "
            "all seeds together:",
            "",
            *markdown.table(
                "", ["less the base's"], [(n, [f"{v:+.3f}"]) for n, v in words.items()]
            ),
        ]
    for key, title in KEYS.items():
        lines += [
            "",
            f"At equal {title}, a mean over all values that both curves reach, with Student's 95 % "
            "interval over the seeds in which they overlap (in brackets):",
            "",
        ]
        matched = study["matched"][key]
        lines += by_measure(
            matched, dict.fromkeys(name for one in matched.values() for name in one)
        )
    models = study["reward_models"]
    sets = list(next(iter(models.values())))
    right = [
        (reward_model_label(name), [cell(found[test]) for test in sets])
        for name, found in models.items()
    ]
    changed = [(name, list(map(cell, values))) for name, values in study["hardening"].items()]
    lines += [
        "",
        "Reward models by test set, whose utterances are the same in every seed: the intervals are "
        "over trainings alone.",
        "",
        *markdown.table("", sets, right),
    ]
    lines += [
        "",
        "What hardening changes in the reward model (means over seeds, Student's 95 % interval "
        "over trainings, on the same test utterances; FGM acts on the encoder's frames, and its "
        "number is the length of an utterance's whole step):",
        "",
        *markdown.table("", ["plain", "hardened", "hardened − plain"], changed),
    ]
    return "\n".join(lines) + "\n"
