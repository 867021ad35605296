"""Who speaks: one person under the spellings that people and programs make of a name."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rrpo.data.catalogue import folded
from rrpo.errors import UserError

if TYPE_CHECKING:
    from rrpo.data.utterance import Utterance

Person = tuple[str, str]
"""Corpus and folded name: Anna and ANNA are one, so that no voice is trained on and tested."""
NUMBER = re.compile(r"0*([0-9]+)(?:\.0*)?")
"""1, 01 and 1.0 are what programs make of 01."""
GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
SCIENTIFIC = re.compile(r"([0-9](?:[.,]([0-9]+))?)e\+([0-9]+)")
"""What a spreadsheet shows of a number of many digits: 1.2E+05."""
MONTHS = (
    *("jan", "feb", "mar|mär|mrz|maer", "apr", "may|mai", "jun", "jul", "aug", "sep", "oct|okt"),
    *("nov", "dec|dez"),
)
DAY = re.compile(r"([0-9]{1,2})[-./ ]([0-9]{1,2})")
"""What a spreadsheet takes for a date."""


def person(corpus: str, speaker: str) -> Person:
    """Return what tells a speaker from others: names are unique within a corpus.

    Examples:
        >>> person("", " ＡＮＮＡ"), person("", "007"), person("", "1,000.0") == person("", "1000")
        (('', 'anna'), ('', '7'), True)
    """
    name = folded(speaker)
    whole = name.partition(".")[0]
    plain = name.replace(",", "") if GROUPED.fullmatch(whole) else name
    number = NUMBER.fullmatch(plain)
    return corpus, number[1] if number else name


def require_one_partition(rows: "Sequence[Utterance]", path: Path) -> None:
    """Refuse a speaker whose utterances are in two partitions: a test on them would be none.

    Raises:
        UserError: there is one; the message names two of the utterances.
    """
    first: dict[Person, Utterance] = {}
    for row in rows:
        if not (row.speaker and row.partition):
            continue
        other = first.setdefault(person(row.corpus, row.speaker), row)
        if other.partition != row.partition:
            raise UserError(
                f"{path}: the speaker {row.speaker} is in {other.partition} and in "
                f"{row.partition}, as {other.id!r} and {row.id!r}: a speaker belongs in one "
                "partition, correct the manifest and tokenize it again"
            )


def spreadsheet_notes(names: Iterable[str]) -> list[str]:
    """Return what is to be said of names that a spreadsheet has changed.

    Raises:
        UserError: a name stands there in both forms, so that one person may count as two.
    """
    known = sorted({folded(name) for name in names})
    numbers = [name for name in known if name.isdecimal()]
    days = {
        name: sorted(map(int, match.groups())) for name in known if (match := DAY.fullmatch(name))
    }
    changed = []
    for name in known:
        scientific, dated = SCIENTIFIC.fullmatch(name), _date(name)
        if not scientific and not dated:
            continue
        changed.append(name.upper() if scientific else name)
        same = (
            [one for one in numbers if _rounds_to(one, scientific)]
            if scientific
            else [one for one, day in days.items() if day == dated]
        )
        if same:
            raise UserError(
                f"the speakers {changed[-1]!r} and {same[0]!r} may be one: a spreadsheet writes "
                "the first for the second; format that column as text and write the name out"
            )
    if not changed:
        return []
    return [
        f"the speaker {changed[0]!r}{_more(changed)} looks like what a spreadsheet makes of "
        "another name, and two people may have become one: format that column as text"
    ]


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _rounds_to(number: str, shown: re.Match[str]) -> bool:
    """Say whether a number of digits is shown so."""
    wanted = f"{shown[1].replace(',', '.')}e+{int(shown[3]):02d}"
    return len(number) < 300 and f"{float(number):.{len(shown[2] or '')}e}" == wanted


def _date(name: str) -> list[int]:
    """Return the day and the month of a date, the smaller first; none: it is no date.

    Examples:
        >>> _date("1-mar"), _date("mar-01"), _date("2026-03-01 00:00:00"), _date("anna")
        ([1, 3], [1, 3], [1, 3], [])
    """
    if match := re.fullmatch(r"[0-9]{4}-([0-9]{2})-([0-9]{2})(?: 00:00:00)?", name):
        return sorted(map(int, match.groups()))
    match = re.fullmatch(r"(?P<a>[0-9]{1,2})[-. ]+(?P<b>[a-zä]{3,4})\.?", name)
    match = match or re.fullmatch(r"(?P<b>[a-zä]{3,4})\.?[-. ]+(?P<a>[0-9]{1,2})", name)
    if not match:
        return []
    months = [at for at, names in enumerate(MONTHS, 1) if match["b"] in names.split("|")]
    return sorted([int(match["a"]), *months]) if months else []
