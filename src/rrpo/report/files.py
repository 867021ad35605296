"""What pages are made from: files of a run or a demo, which may be damaged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from rrpo.errors import UserError

WRONG = (ArithmeticError, AttributeError, LookupError, TypeError, UndefinedError, ValueError)
"""What values of another kind than a run writes lead to."""


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn what files of a wrong content lead to into one line."""
    try:
        yield
    except WRONG as error:
        raise UserError(
            f"{folder}: no page can be made of its files ({type(error).__name__}: "
            f"{str(error)[:120]}): one of them is not as the run wrote it, copy or make it again"
        ) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line; an empty list where there is no such file.

    Raises:
        UserError: a line is not a JSON object.
    """
    if not path.is_file():
        return []
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable text ({error}): make it again") from None
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {count} is not JSON ({error}): make it again") from None
        if not isinstance(row, dict):
            raise UserError(f"{path} line {count} is not a JSON object: make it again")
        rows.append(row)
    return rows
