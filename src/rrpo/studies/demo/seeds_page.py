"""Pages of figures that are pooled over seeds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rrpo.interval import MISSING, cell
from rrpo.measures import reward_model_label
from rrpo.report import markdown
from rrpo.studies.demo.pooled import KEYS, MEASURED, Pooled, title_of

MAIN = (
    "judge probability",
    "word error",
    "DistillMOS",
    "DNSMOS P.808",
    "artifacts / s",
    "KL / token",
)
"""Titles of the measures that decide; the others stand in a table of their own."""


def by_name(
    rows: Mapping[str, Mapping[str, Pooled | None]],
    measures: Sequence[str],
    show: Callable[[Pooled | None], str] = cell,
) -> list[str]:
    """Return a table with a row for each name and a column for each measure that one of them has.

    Examples:
        >>> by_name({"base": {"tokens": Pooled(50.0)}}, ["tokens", "PLCMOS"])
        ['| | tokens |', '|---|---|', '| base | 50.0 |']
    """
    known = [one for one in measures if any(found.get(one) for found in rows.values())]
    told = [(name, [show(found.get(one)) for one in known]) for name, found in rows.items()]
    return markdown.table("", known, markdown.measured(told))


def in_two(
    rows: Mapping[str, Mapping[str, Pooled | None]],
    show: Callable[[Pooled | None], str] = cell,
) -> list[str]:
    """Return a table of the measures that decide, and one of the others where there are any."""
    others = [one for one in MEASURED if one not in MAIN]
    lines: list[str] = []
    for measures in (MAIN, others):
        if any(found.get(one) for found in rows.values() for one in measures):
            lines += ["", *by_name(rows, measures, show)]
    return lines[1:]


def of_seeds(value: Pooled | None) -> str:
    """Return the mean of each seed.

    Examples:
        >>> of_seeds(Pooled(0.25, seeds=(0.2, 0.3)))
        '0.20, 0.30'
    """
    if value is None:
        return MISSING
    digits = 1 if abs(value.mean) >= 10 else 2
    return ", ".join(f"{one:.{digits}f}" for one in value.seeds)


def difference(value: Pooled | None, count: int = 0) -> str:
    """Return a difference, to three digits so that an interval says whether it holds 0.

    Args:
        count: of the seeds; where it has fewer it says of how many.
    """
    shown = cell(value, "+.3f")
    few = value is not None and len(value.seeds) < count
    return f"{shown} ({len(value.seeds)} of {count} seeds)" if few and value else shown


def seeds_page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    systems = {title_of(name): found for name, found in study["systems"].items()}
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}, "
        "mean with Student's 95 % interval over the seeds. Each seed trains again and says other "
        "sentences.",
        "",
        *in_two(systems),
        "",
        "Differences, first minus second, paired within each seed:",
        "",
        *in_two(study["differences"], difference),
    ]
    words = {title_of(name): value for name, value in study["words"].items() if value}
    if words:
        lines += [
            "",
            "Word error less the base's, paired by utterance:",
            "",
            *markdown.table(
                "", ["less the base's"], [(n, [f"{v:+.3f}"]) for n, v in words.items()]
            ),
        ]
    for key, title in KEYS.items():
        lines += [
            "",
            f"At equal {title}, a mean over all values that both curves reach, with Student's 95 % "
            "interval over the seeds in which they overlap, all where no number is said:",
            "",
        ]
        found = study["matched"][key]
        known = list(dict.fromkeys(one for each in found.values() for one in each))
        lines += by_name(found, known, partial(difference, count=study["seeds"]))
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
    lines += ["", "<details><summary>Seed by seed</summary>", ""]
    lines += [*by_name(systems, MAIN, of_seeds), "", *by_name(study["differences"], MAIN, of_seeds)]
    return "\n".join([*lines, "", "</details>"]) + "\n"
