"""Tables of a page of markdown."""

from collections.abc import Iterable, Sequence


def table(
    corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]
) -> list[str]:
    """Return the lines of a table: a head, then each row by its name and cells.

    Examples:
        >>> table("model", ["seen"], [("plain", ["0.5"])])
        ['| model | seen |', '|---|---|', '| plain | 0.5 |']
    """
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
