"""One recording under two names: it counts twice, has two labels, or is trained on and tested.

A copy is known by what it holds, its samples or its tokens, and not by the bytes of its file: the
FLAC of a WAV is one.
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

from rrpo.data.catalogue import folded
from rrpo.data.manifest import TEST
from rrpo.errors import UserError


class Labelled(Protocol):
    """A recording or an utterance."""

    @property
    def emotion(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def partition(self) -> str: ...


def find_copies(
    rows: Sequence[Labelled], contents: Sequence[Hashable], names: Sequence[str], alike: str
) -> dict[int, int]:
    """Return the number of each copy → that of the first row with the same content.

    Args:
        rows: their labels.
        contents: what each holds; None: it is not compared.
        names: what a message calls each.
        alike: what two of the same content are, as in "the same recording".

    Raises:
        UserError: two of them have other emotions or words, or one alone is held out for tests.
    """
    first: dict[Hashable, int] = {}
    copies: dict[int, int] = {}
    wrong: list[str] = []
    for number, content in enumerate(contents):
        if content is None:
            continue
        other = first.setdefault(content, number)
        if other == number:
            continue
        copies[number] = other
        if differ := _difference(rows[other], rows[number]):
            wrong.append(f"{names[other]} and {names[number]} are {alike}, {differ}")
    if wrong:
        more = f" (and {len(wrong) - 1} more of that kind)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0]}{more}: keep the row that is right and remove the other")
    return copies


def _difference(one: Labelled, other: Labelled) -> str:
    """Say in what two rows of the same content contradict each other; empty: in nothing."""
    if one.emotion != other.emotion:
        return f"labelled {one.emotion} and {other.emotion}"
    if (one.partition == TEST) != (other.partition == TEST):
        return "one held out for tests and one not"
    words = [_letters(row.text) for row in (one, other)]
    if all(words) and words[0] != words[1]:
        return f"with the texts {one.text[:40]!r} and {other.text[:40]!r}"
    return ""


def spelt_alike(text: str) -> str:
    """Return what all spellings of a text have in common: its letters and digits, or all of it.

    Examples:
        >>> spelt_alike("It is LATE."), spelt_alike("it is late"), spelt_alike("…")
        ('itislate', 'itislate', '…')
    """
    return _letters(text) or text


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, folded(text)))
