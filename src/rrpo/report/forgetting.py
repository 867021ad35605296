"""The table of a forgetting report (`rrpo.forgetting`), for a terminal and for a model card."""

from collections.abc import Mapping
from typing import Any

from rrpo.interval import MISSING, cell, read_interval
from rrpo.measures import section
from rrpo.report.markdown import Row

FIGURES = {
    "kl": "KL to base",
    "kl_base": "KL of base",
    "length": "length / base's",
    "never_ended": "never ended",
    "word_error": "word error",
    "read_aloud": "reads aloud",
    "instruction_heard": "instruction heard",
}
"""Figures of a group of texts, in the order of their columns."""


def forgetting_table(report: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a report; a figure of both is "policy (base)".

    Columns without any figure are left out.
    """
    groups = section(report, "groups")
    cells = {name: {key: _cell(group, key) for key in FIGURES} for name, group in groups.items()}
    kept = [key for key in FIGURES if any(row[key] != MISSING for row in cells.values())]
    rows: list[Row] = [
        (name, [str(groups[name]["utterances"]), *(row[key] for key in kept)])
        for name, row in cells.items()
    ]
    return ["utterances", *(FIGURES[key] for key in kept)], rows


def _cell(group: Mapping[str, Any], key: str) -> str:
    if key in group:
        return cell(read_interval(group[key]))
    policy, base = (read_interval(section(group, who).get(key)) for who in ("policy", "base"))
    if policy is None or base is None:
        return MISSING
    return f"{policy.mean:.2f} ({base.mean:.2f})"
