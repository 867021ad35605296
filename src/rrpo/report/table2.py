"""The layout of the paper's Table 2: reward models by test sets, ours and, apart, the paper's."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from rrpo.interval import MISSING, Interval
from rrpo.report import markdown

Models = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Name of a reward model as it is to be shown → test set → report (or its two accuracies)."""

MEASURES = {
    "unweighted_average_recall": "Unweighted accuracy (mean recall)",
    "accuracy": "Weighted accuracy",
}
PAPER_SETS = ("IEMOCAP (en)", "MER2023 (zh)", "ESD (zh)")
PAPER = {
    "DiffRO (baseline)": (66.0, 50.9, 64.4),
    "+ LS": (66.8, 51.4, 72.8),
    "+ LS + EAM": (69.1, 52.7, 82.3),
    "+ LS + EAM + Adv": (68.0, 54.8, 81.7),
}
"""Weighted accuracy in per cent (arXiv 2512.04552, Table 2). The first row is probably the
pre-trained model: 66.0 on IEMOCAP is what DiffRO's paper gives for its own."""


def table2(models: Models) -> str:
    """Return the table as markdown: ours, and in a block of their own the paper's figures.

    Args:
        models: rows in the order shown; each test set holds `unweighted_average_recall` and
            `accuracy` with their intervals. A test set that a model lacks is a dash.
    """
    sets = _sets(models)
    lines: list[str] = []
    for measure, title in MEASURES.items():
        rows = [
            (label, [_cell(found.get(name), measure) for name in sets])
            for label, found in models.items()
        ]
        lines += [
            f"{title}, with 95 % interval:",
            "",
            *markdown.table("reward model", sets, rows),
            "",
        ]
    paper = [(label, [f"{value:.1f}" for value in values]) for label, values in PAPER.items()]
    lines += [
        "The paper's own figures: weighted accuracy in per cent, of other models on other data; "
        "they cannot be compared with ours. Its first row is probably the pre-trained model "
        "(DiffRO's paper gives the same 66.0 for that), which had emotion labels; ours had none.",
        "",
        *markdown.table("paper's reward model", PAPER_SETS, paper),
    ]
    return "\n".join(lines) + "\n"


def print_table2(models: Models, console: Console) -> None:
    """Print our rows: in each cell the unweighted accuracy and, below it, the weighted."""
    table = Table(
        title="Unweighted accuracy (mean recall); below it the weighted accuracy",
        caption="95 % intervals over speakers where a test set names several, else over utterances",
        show_lines=True,
    )
    table.add_column("reward model")
    sets = _sets(models)
    for name in sets:
        table.add_column(name, justify="right", overflow="fold", min_width=17)
    for label, found in models.items():
        cells = ["\n".join(_cell(found.get(name), key) for key in MEASURES) for name in sets]
        table.add_row(label, *cells)
    console.print(table)


def print_differences(
    first: str, found: Mapping[str, Mapping[str, Interval]], console: Console
) -> None:
    """Print by how much each reward model's mean recall differs from the first one's, paired.

    Args:
        first: name of the one that the others are compared with.
        found: name of each other one → test set → difference with its interval.
    """
    table = Table(
        title=f"Unweighted accuracy less that of {first}, paired",
        caption="an interval that holds 0 is within noise",
    )
    table.add_column("reward model")
    sets = list(dict.fromkeys(name for one in found.values() for name in one))
    for name in sets:
        table.add_column(name, justify="right")
    for label, one in found.items():
        table.add_row(
            label, *(format(one[name], "+.3f") if name in one else MISSING for name in sets)
        )
    console.print(table)


def _sets(models: Models) -> list[str]:
    return list(dict.fromkeys(name for found in models.values() for name in found))


def _cell(report: Mapping[str, Any] | None, measure: str) -> str:
    return MISSING if report is None else str(report[measure])
