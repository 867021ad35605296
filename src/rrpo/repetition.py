"""Stuck and looping tokens: where an utterance repeats itself, and whether it does nothing else."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrpo.errors import UserError

STUCK, LONGEST_LOOP, LOOPS = 5, 16, 3
"""Equal tokens in a row, longest period, and rounds of a period that count as repetition."""
LOOPING, LOOPING_LEAST = 1 / 3, 10
"""Share of stuck or looping tokens, and their count, from which on an utterance is a loop. The
share is at most 0.12 in the 900 utterances of the mini world's first test and fine-tuning sets."""


def as_ids(tokens: ArrayLike) -> NDArray[np.int64]:
    """Return token ids (T,) as int64.

    Raises:
        UserError: they are not whole numbers, or not of one dimension.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise UserError(
            f"tokens have shape {ids.shape} and type {ids.dtype}: give whole numbers (T,)"
        )
    return ids.astype(np.int64)


def runs_of(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last + 1 of each run of true flags (M,).

    Examples:
        >>> runs_of(np.array([True, True, False, True]))
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def repeated(tokens: ArrayLike) -> NDArray[np.bool_]:
    """Return which tokens (T,) are stuck or loop.

    Stuck: the same id at least five times in a row, as in long silence too. A loop: a pattern of
    2 to 16 tokens at least three times in a row.
    """
    ids = as_ids(tokens)
    marked = np.zeros(ids.size, dtype=bool)
    for period in range(1, min(LONGEST_LOOP, ids.size - 1) + 1):
        rounds = STUCK if period == 1 else LOOPS
        for start, stop in runs_of(ids[period:] == ids[:-period]):
            if stop - start >= period * (rounds - 1):
                marked[start : stop + period] = True
    return marked


def repetition(tokens: ArrayLike) -> float:
    """Return the share of tokens (T,) that are stuck or loop; 0 where there are no tokens.

    Examples:
        >>> repetition([1, 2, 3, 7, 7, 7, 7, 7, 4, 5])
        0.5
    """
    marked = repeated(tokens)
    return float(marked.mean()) if marked.size else 0.0


def loops(tokens: ArrayLike) -> bool:
    """Return whether speech of tokens (T,) is a loop, and not just has a repetition in it.

    Examples:
        >>> loops([1, 2, 3] + 12 * [7]), loops(range(20))
        (True, False)
    """
    marked = repeated(tokens)
    return int(marked.sum()) >= LOOPING_LEAST and float(marked.mean()) >= LOOPING
