"""The one reader of text tables: a header and rows of cells, or lines of a name and a value.

Lines end in \\n, \\r\\n or \\r and in nothing else: U+2028, U+0085, vertical tabulators and form
feeds belong to a text.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rrpo.data.encodings import Text, damage, read_text
from rrpo.data.files import is_sound
from rrpo.errors import UserError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""What stands between cells, and how it may be called on a command line."""
LITERAL = ("\t", "|")
"""Separators of tables whose quotes are mostly signs of a text, as nothing else needs them."""
NOTHING = frozenset(("", "nan", "none", "null", "n/a", "<na>", "#n/a"))
"""What programs write for nothing; NA is a name as well, so it stays."""
ERRORS = frozenset(
    ("#name?", "#ref!", "#value!", "#div/0!", "#num!", "#null!", "#spill!", "#calc!", "########")
)
"""What a spreadsheet writes into a cell that it could not make sense of."""
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad\u200e\u200f"))
"""Signs that are neither seen nor spoken: joints of words, marks of a direction or of an order of
bytes. Those that shape letters (U+200C, U+200D) stay."""


@dataclass(frozen=True)
class Row:
    """A row of a table: the number of its first line, and its cells by the names of columns.

    A cell that says nothing (`nan`) is empty, and in `blanked` as it was written. `hidden` cells
    had invisible signs.
    """

    number: int
    cells: dict[str, str]
    blanked: dict[str, str] = field(default_factory=dict)
    hidden: int = 0


@dataclass(frozen=True)
class Table:
    """A table that was read, and what is to be said of the reading."""

    file: Path
    rows: list[Row]
    notes: list[str]


def lines(content: str) -> list[str]:
    """Return the lines of a text, without their ends.

    Examples:
        >>> lines("a\\u2028b\\r\\nc\\x0bd\\re")
        ['a\\u2028b', 'c\\x0bd', 'e']
    """
    found = re.split(r"\r\n|\n|\r", content)
    return found if found[-1] else found[:-1]


def is_nothing(value: str) -> bool:
    """Say whether a cell is empty, or says so in the word of a program.

    Examples:
        >>> [is_nothing(value) for value in (" ", "NaN", "None", "NA", "nancy")]
        [True, True, True, False, False]
    """
    return value.strip().casefold() in NOTHING


def notes_of(file: Path, text: Text, blanked: int = 0, hidden: int = 0) -> list[str]:
    """Return what is to be said of how a file was read."""
    notes = []
    if text.guessed:
        notes.append(
            f"{file} is not UTF-8: read as {text.encoding.upper()}, which you should check by its "
            "texts"
        )
    if blanked:
        notes.append(f"{file}: {blanked} cells that say nan, none, null or n/a are read as empty")
    if hidden:
        notes.append(f"{file}: invisible signs are left out of {hidden} cells (such as U+200B)")
    return notes


def visible(value: str) -> str:
    """Return a cell without blanks around it and signs that nobody sees.

    Examples:
        >>> visible(" sa\\u200bd\\ufeff ")
        'sad'
    """
    return value.translate(INVISIBLE).strip()


def separator_of(name: str) -> str:
    """Return the separator that an option names, by its sign or in a word; empty: to be found.

    Raises:
        UserError: it is neither one sign nor a word that is known.
    """
    named = {word: sign for sign, word in SEPARATORS.items()} | {"\\t": "\t"}
    sign = named.get(name.casefold(), name)
    if len(sign) > 1 or sign in ('"', "\r", "\n"):
        raise UserError(
            f"--separator {name}: name one sign, or one of {', '.join(SEPARATORS.values())}"
        )
    return sign


def read_table(
    file: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    separator: str = "",
    encoding: str = "",
    quotes: bool = True,
) -> Table:
    """Read a table with a header; cells are stripped, blank lines left out.

    Args:
        required: columns that must be there; capitals do not matter unless two differ in nothing
            else.
        optional: columns that are read where they are there; all others are left out.
        separator: between cells; empty: found by the header.
        encoding: that of the file; empty: found.
        quotes: whether a cell may be quoted.

    Raises:
        UserError: it is missing or no text, lacks a required column or has one twice, a row has
            too few or too many cells, a quote is not closed, a cell is a spreadsheet's error, or it
            holds no rows.
    """
    text = read_text(file, encoding)
    content = text.content.removeprefix("\ufeff")
    if re.match(r"\s*(?:\{|\[\s*[{\[])", content):
        raise UserError(
            f"{file} is JSON and no table: write its values as CSV, with the columns "
            f"{' and '.join(required)}"
        )
    skipped = 0
    if said := re.match(r'"?sep=(.)"?[^\S\t\r\n]*(?:\r\n|\n|\r)', content, re.IGNORECASE):
        separator, skipped = separator or said[1], 1
        content = content[said.end() :]
    separator = separator or _find_separator(content, required)
    records = _records(file, content, separator, quotes)
    whole = [(line + skipped, cells) for line, cells in records if any(map(str.strip, cells))]
    if not whole:
        raise UserError(f"{file} is empty: a table with the columns {' and '.join(required)}")
    header = [name.strip() for name in whole[0][1]]
    places = _places(file, header, required, optional)
    rows = [
        _row(file, number, cells, places, len(header), separator) for number, cells in whole[1:]
    ]
    if not rows:
        raise UserError(f"{file} holds no rows: name at least one audio file")
    blanked, hidden = (sum(len(row.blanked) for row in rows), sum(row.hidden for row in rows))
    return Table(file, rows, notes_of(file, text, blanked, hidden))


def _find_separator(content: str, required: Sequence[str]) -> str:
    """Return the separator that finds the required columns in the header, or else most columns."""
    best, most = ",", (0, 0)
    for separator in SEPARATORS:
        try:
            cells = next((one for _, _, one in _parse(content, separator, True) if any(one)), [])
        except csv.Error:
            continue
        names = {cell.strip().casefold() for cell in cells}
        found = sum(name.casefold() in names for name in required), len(cells)
        if found > most:
            best, most = separator, found
    return best


def _parse(content: str, separator: str, quotes: bool) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first and the last line of each record, and its cells."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    stream = io.StringIO(content, newline="")
    reader = csv.reader(
        stream, delimiter=separator, quoting=quoting, strict=True, skipinitialspace=True
    )
    first = 1
    try:
        for cells in reader:
            yield first, reader.line_num, cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {first}: {error}") from None


def _records(file: Path, content: str, separator: str, quotes: bool) -> list[tuple[int, list[str]]]:
    """Return the records of a table, each with its first line."""
    try:
        found = list(_parse(content, separator, quotes))
        if quotes:
            _require_closed(found, lines(content), separator)
    except csv.Error as error:
        if separator in LITERAL and quotes:
            found = list(_parse(content, separator, False))
            widths = {len(cells) for _, _, cells in found if any(cells)}
            if len(widths) == 1:
                return [(first, cells) for first, _, cells in found]
        raise UserError(
            f"{file}, {error}: a quote is not closed, or one within a text is not doubled"
        ) from None
    return [(first, cells) for first, _, cells in found]


def _require_closed(
    records: Sequence[tuple[int, int, list[str]]], there: Sequence[str], separator: str
) -> None:
    """Refuse a quoted cell that runs over several lines if these look like rows of their own."""
    width = len(records[0][2]) if records else 0
    for first, last, cells in records:
        kind = Path(cells[0].strip()).suffix.lower() if last > first and cells else ""
        for line in there[first:last] if kind else ():
            inner = line.split(separator)
            if len(inner) >= width and inner[0].strip().lower().endswith(kind):
                raise csv.Error(f"line {first}: the row runs on over other rows")


def _places(
    file: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """Return the places of the wanted columns."""
    places = {}
    for name in dict.fromkeys((*required, *optional)):
        found = [at for at, one in enumerate(header) if one == name]
        if not found:
            found = [at for at, one in enumerate(header) if one.casefold() == name.casefold()]
        if len(found) > 1:
            raise UserError(f"{file} has {len(found)} columns {name}: rename all but one")
        if not found and name in required:
            raise UserError(
                f"{file} lacks the column {name}: it has {', '.join(header)[:200]}; its first line "
                "must name the columns, divided by one of , ; | or tabulators (of a table of your "
                f"own, --column {name}=OTHER names one that is called otherwise)"
            )
        if found:
            places[name] = found[0]
    return places


def _row(
    file: Path,
    number: int,
    cells: Sequence[str],
    places: dict[str, int],
    width: int,
    separator: str,
) -> Row:
    if len(cells) < width or any(map(str.strip, cells[width:])):
        shown = "a tabulator" if separator == "\t" else f"{separator!r}"
        raise UserError(
            f"{file}, line {number}: {len(cells)} cells where the header has {width}: put a cell "
            f"that holds {shown} or a line break in quotes, and leave no cell out"
        )
    values = {name: visible(cells[at]) for name, at in places.items()}
    hidden = sum(values[name] != cells[at].strip() for name, at in places.items())
    for name, value in values.items():
        if harm := _damage(value):
            raise UserError(f"{file}, line {number}: {name} {value[:40]!r} {harm}: repair it")
        if value.casefold() in ERRORS:
            raise UserError(
                f"{file}, line {number}: {name} is {value}, what a spreadsheet writes where it "
                "cannot read a cell: write the value as text"
            )
    blanked = {name: value for name, value in values.items() if value and is_nothing(value)}
    return Row(number, values | dict.fromkeys(blanked, ""), blanked, hidden)


def _damage(value: str) -> str:
    """Say how a text was damaged; the name of a file is as it is on the disk."""
    return "" if is_sound(Path(value)) else damage(value)


def read_pairs(
    file: Path, empty: bool = False, one_word: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Read lines of a name, blanks or a tabulator, and a value, as in kaldi's files.

    Args:
        empty: whether a value may say `nan` or the like, and is then empty.
        one_word: whether a value is one word, as a speaker and an emotion are.

    Returns:
        Name → value in their order, and what is to be said of the reading.

    Raises:
        UserError: it is missing or no text, a name stands twice, or a value is missing.
    """
    text = read_text(file)
    pairs: dict[str, str] = {}
    at: dict[str, int] = {}
    blanked = hidden = 0
    for number, line in enumerate(lines(text.content.removeprefix("\ufeff")), start=1):
        name, value = (*re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1), "")[:2]
        if not name:
            continue
        shown = name if name.isprintable() else repr(name)[1:-1]  # a blank that is none of ours
        where = f"{file}, line {number}: {shown}"
        if name in at:
            raise UserError(f"{where} stands twice, in line {at[name]} too: keep one of them")
        if not value or (is_nothing(value) and not empty):
            found = f" but {value!r}" if value else ""
            raise UserError(f"{where} has no value{found}: write it after a blank, or leave it out")
        if one_word and len(value.split()) > 1:
            raise UserError(
                f"{where} has {len(value.split())} values, {value!r}: leave one, or write its "
                "words with _ between them"
            )
        blanked += is_nothing(value)
        hidden += visible(value) != value.strip()
        value = visible(value)
        if harm := _damage(value):
            raise UserError(f"{where}: {value[:40]!r} {harm}: repair it")
        pairs[name], at[name] = "" if is_nothing(value) else value, number
    return pairs, notes_of(file, text, blanked, hidden)
