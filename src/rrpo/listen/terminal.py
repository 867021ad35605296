"""What an analysis says, on a terminal of 80 columns."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rrpo.interval import MISSING, Interval
from rrpo.report.numbers import counted, narrow_ends, number

MOST = 6
"""Differences that are printed of a question; the page has all."""


def print_analysis(figures: Mapping[str, Any], console: Console) -> None:
    """Print means, differences and who is left out."""
    counts, questions = figures["listeners"], figures["questions"]
    means = {name: found for name, found in questions.items() if "systems" in found}
    if means:
        console.print(_means(means))
    for found in questions.values():
        for kind in ("differences", "comparisons", "shares", "strengths"):
            if values := found.get(kind):
                by_chance = f" (chance: {found['chance']:g})" if kind == "shares" else ""
                console.print(_list(f"{found['label']}: {kind}{by_chance}", values))
        for line in found["notes"]:
            console.print(escape(f"{found['label']}: {line}"))
    took_part = counted(counts["took_part"], "listener")
    console.print(f"{took_part}, {counts['finished']} to the end, {counts['analysed']} analysed")
    for line in figures["cautions"]:
        console.print(f"warning: {line}")
    for name, why in figures["excluded"].items():
        console.print(escape(f"left out: {name}: {'; '.join(why)}"))


def _means(means: Mapping[str, Any]) -> Table:
    title = "95 % intervals over listeners and items"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("system", overflow="fold")
    for found in means.values():
        table.add_column(escape(found["label"]), justify="right")
    systems = dict.fromkeys(name for found in means.values() for name in found["systems"])
    for name in systems:
        cells = [_cell(found["systems"].get(name)) for found in means.values()]
        table.add_row(escape(name), *cells)
    return table


def _list(title: str, values: Mapping[str, Interval]) -> Table:
    table = Table(title=escape(title), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("mean with 95 % interval", justify="right")
    for name, value in list(values.items())[:MOST]:
        table.add_row(escape(name), _cell(value))
    if len(values) > MOST:
        table.add_row(f"… and {len(values) - MOST} more on the page", "")
    return table


def _cell(value: Interval | None) -> str:
    return MISSING if value is None else f"{number(value.mean)}  {narrow_ends(value)}".rstrip()
