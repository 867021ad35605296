"""Curves of training: their rows by system, and the values along them."""

from collections.abc import Sequence

from rrpo.interval import Interval, read_interval
from rrpo.measures import SYSTEMS, Entry, figure_of


def by_system(rows: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group the rows of curves.jsonl by system, in display order, each sorted by step."""
    groups: dict[str, list[Entry]] = {}
    for row in rows:
        name = row.get("system")
        if isinstance(name, str):
            groups.setdefault(name, []).append(row)
    order = [name for name in SYSTEMS if name in groups]
    order += [name for name in groups if name not in SYSTEMS]
    return {name: sorted(groups[name], key=_step) for name in order}


def _step(row: Entry) -> float:
    found = read_interval(row.get("step"))
    return found.mean if found else 0.0


def value_of(row: Entry, key: str) -> Interval | None:
    """Read a measure from a curve row, where the own reward is called `own_reward`."""
    return figure_of(row, "own_reward" if key == "reward" else key)


def points(rows: Sequence[Entry], across: str, up: str) -> list[tuple[float, Interval, Entry]]:
    """Return (x, y, row) of the rows that have both measures, in the order of the steps."""
    found = []
    for row in rows:
        x, y = value_of(row, across), value_of(row, up)
        if x is not None and y is not None:
            found.append((x.mean, y, row))
    return found
