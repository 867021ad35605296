"""Tables of a page of markdown."""

from collections.abc import Iterable, Sequence

from rrpo.interval import MISSING

Row = tuple[str, Sequence[str]]
"""Name and cells."""


def table(corner: str, columns: Sequence[str], rows: Iterable[Row]) -> list[str]:
    """Return the lines of a table: a head, then each row by its name and cells.

    Examples:
        >>> table("model", ["seen"], [("plain", ["0.5"])])
        ['| model | seen |', '|---|---|', '| plain | 0.5 |']
    """
    lines = [_row(corner, columns), "|---" * (len(columns) + 1) + "|"]
    return lines + [_row(name, cells) for name, cells in rows]


def measured(rows: Iterable[Row]) -> list[Row]:
    """Leave out the rows that have no figure in any cell.

    Examples:
        >>> measured([("word error", ["–", "0.1"]), ("DNSMOS", ["–", "–"])])
        [('word error', ['–', '0.1'])]
    """
    return [row for row in rows if any(cell != MISSING for cell in row[1])]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} ".replace("|  ", "| ") + f"| {' | '.join(cells)} |"
