"""The content head of a reward model, and what a text is to it: symbols, each a number."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrpo.errors import UserError
from rrpo.tokens import pad

TextKind = Literal["ids", "characters"]
"""What a head's symbols are: ids of the policy's text, or Unicode code points of the text."""
BLANK = 0
"""Class of CTC's blank."""
IMPOSSIBLE = -10.0
"""Nats per symbol of a text that cannot be aligned."""
OFTEN = 2
"""Times that a symbol must occur in the different texts of the data to have a class of its own."""
APOSTROPHES = "'\u2018\u2019\u02bc"


def characters(text: str) -> list[int]:
    """Return a text as Unicode code points: what is heard of it, in any script.

    NFKC, lower case. Apostrophes are left out, any other punctuation is a space, runs of spaces are
    one space, and there is none at the ends.

    Examples:
        >>> "".join(map(chr, characters("Don\u2019t, Ma\u00df\uff11!")))
        'dont ma\xdf1'
    """
    kept = [
        " " if unicodedata.category(sign).startswith("P") else sign
        for sign in unicodedata.normalize("NFKC", text).lower()
        if sign not in APOSTROPHES
    ]
    return [ord(sign) for sign in " ".join("".join(kept).split())]


def frequent_symbols(texts: Iterable[Sequence[int]]) -> list[int]:
    """Return the symbols that occur at least twice in different texts, in ascending order.

    The same text said again, in another emotion or by another voice, counts once.

    Examples:
        >>> frequent_symbols([[7, 3], [3, 5, 7], [3, 5, 7]])
        [3, 7]
    """
    counts = Counter(symbol for text in set(map(tuple, texts)) for symbol in text)
    return sorted(symbol for symbol, count in counts.items() if count >= OFTEN)


def least_frames(text: Tensor) -> int:
    """Return how many frames CTC needs for a text (L,): equal neighbours have a blank between.

    Examples:
        >>> least_frames(torch.tensor([5, 5, 8]))
        4
    """
    return text.numel() + int((text[1:] == text[:-1]).sum())


class ContentHead(nn.Linear):
    """Logits of CTC's classes in every frame: the blank, the symbols, and where they are listed
    one more for any other.

    Attributes:
        phones: n, where the symbols are 0…n-1; 0 where they are listed.
        symbols: the listed ones, in the order of their classes.
    """

    def __init__(self, width: int, phones: int = 0, symbols: Sequence[int] = ()) -> None:
        super().__init__(width, 1 + (phones or len(symbols) + 1))
        self.phones, self.symbols = phones, list(symbols)
        self._classes = {symbol: place for place, symbol in enumerate(self.symbols, 1)}

    @property
    def unknown(self) -> int | None:
        """The class of every symbol that is not listed; None where all symbols are known."""
        return None if self.phones else len(self.symbols) + 1

    def classes(self, text: Tensor) -> Tensor:
        """Map the symbols of a text (L,) int64 to their classes (L,) int64, from 1.

        Raises:
            UserError: a symbol is not below `phones`.
        """
        if not self.phones:
            other = len(self.symbols) + 1
            found = [self._classes.get(symbol, other) for symbol in text.tolist()]
            return torch.tensor(found, dtype=torch.int64)
        if text.numel() and not 0 <= int(text.min()) <= int(text.max()) < self.phones:
            raise UserError(
                f"a text id is not below {self.phones}: the reward model's content head "
                "belongs to another policy's text"
            )
        return text + 1

    def require(self, text: Tensor) -> Tensor:
        """Return the classes (L,) int64 of a text (L,) int64 that has a symbol the head knows.

        Raises:
            UserError: it has none, or as `classes`.
        """
        classes = self.classes(text)
        known = classes.numel() if self.unknown is None else int((classes != self.unknown).sum())
        if not known:
            raise UserError(
                "the reward model's content head knows no symbol of a text: it was trained on "
                "texts of another kind, or there is nothing to say"
            )
        return classes

    def log_likelihood(self, hidden: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Tensor:
        """Return log p(text | speech) in nats per symbol (B,), by CTC (Graves et al. 2006).

        A row with fewer frames than CTC needs for its text gets `IMPOSSIBLE`, without gradient.

        Args:
            hidden: (B, T, D) frame embeddings.
            mask: (B, T) bool.
            texts: B tensors (L_b,) int64 of symbols.

        Raises:
            UserError: as `require`.
        """
        classes = [self.require(text) for text in texts]
        sizes = torch.tensor([text.numel() for text in classes], device=mask.device)
        log_p = self(hidden).float().log_softmax(-1).transpose(0, 1)
        loss = functional.ctc_loss(
            log_p,
            pad(classes).to(mask.device),
            mask.sum(1),
            sizes,
            reduction="none",
            zero_infinity=True,
        )
        needed = torch.tensor([least_frames(text) for text in classes], device=mask.device)
        return torch.where(mask.sum(1) >= needed, -loss / sizes, IMPOSSIBLE)

    def read(self, hidden: Tensor, mask: Tensor) -> list[list[int]]:
        """Return the classes of the best path in each row, without repeats and blanks.

        Args:
            hidden: (B, T, D) frame embeddings.
            mask: (B, T) bool.
        """
        best = self(hidden).argmax(-1)
        read = []
        for row, size in zip(best.tolist(), mask.sum(1).tolist(), strict=True):
            before = [BLANK, *row]
            path = zip(row[:size], before, strict=False)
            read.append([one for one, last in path if one not in (last, BLANK)])
        return read
