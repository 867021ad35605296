"""Artifacts that can be told from speech tokens: loops, and ids that decode to an artifact."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.codec_identity import TOKEN_RATE
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import TRANSIENTS, Artifact, detect
from rrpo.progress import Progress
from rrpo.repetition import as_ids, repeated, runs_of

if TYPE_CHECKING:
    from torch import Tensor


def token_artifacts(tokens: ArrayLike, carriers: Mapping[str, Sequence[int]]) -> list[Artifact]:
    """Mark the tokens (T,) that decode to artifacts, in the order of their starts.

    Args:
        tokens: ids.
        carriers: kind → the ids that carry it, from `rrpo_world.transients.carriers` or
            `carrier_shares`.

    Returns:
        An artifact of each run of carriers of a kind, its strength their count; and one of kind
        "repetition" of each stretch that is stuck or loops, its strength the count of its tokens.

    Raises:
        UserError: the tokens are not whole numbers (T,).

    Examples:
        >>> token_artifacts([4, 9, 4], {"click": [9]})
        [Artifact(kind='click', start=0.04, end=0.08, strength=1.0)]
    """
    ids = as_ids(tokens)
    flags = {kind: np.isin(ids, list(carried)) for kind, carried in carriers.items()}
    flags["repetition"] = repeated(ids)
    found = []
    for kind, marked in flags.items():
        for first, last in runs_of(marked):
            times = (first / TOKEN_RATE, last / TOKEN_RATE)
            found.append(Artifact(kind, *times, float(last - first)))
    return sorted(found, key=lambda artifact: artifact.start)


def carrier_shares(
    decode: "Callable[[Tensor], Audio]",
    ids: Sequence[int],
    contexts: "Sequence[Tensor]",
) -> NDArray[np.float64]:
    """Return the share of contexts in which each id is detected as a click and as a pop.

    For any codec: an id takes the place of the middle token of a context, the context is decoded
    and searched by `detect`. A context with an artifact in its own middle does not count for
    that kind; where none is left, the share is 0. The mini codec's decoder can be asked itself
    (`rrpo_world.transients.transient_shares`), which takes seconds for all ids.

    Args:
        decode: turns ids (T,) int64 into audio (N,) at 16 kHz, N in proportion to T.
        ids: which ids to try, n of them.
        contexts: stretches of real tokens (T,), each of an odd length.

    Returns:
        (n, 2) float64, a column for each of `TRANSIENTS`.

    Raises:
        UserError: there is no context, or one has an even length.
    """
    if not contexts or any(context.numel() % 2 == 0 for context in contexts):
        raise UserError("give stretches of an odd number of tokens to put each id into")
    detected = np.zeros((len(ids), len(TRANSIENTS)))
    fit = np.zeros(len(TRANSIENTS))
    with Progress("listen to token ids", len(ids) * len(contexts)) as progress:
        for number, context in enumerate(contexts):
            clean = ~_detected_in_the_middle(decode, context)
            fit += clean
            for row, token in enumerate(ids):
                changed = context.clone()
                changed[context.numel() // 2] = token
                found = _detected_in_the_middle(decode, changed)
                detected[row] += found & clean
                progress.update(number * len(ids) + row + 1)
    return detected / np.maximum(fit, 1.0)


def _detected_in_the_middle(
    decode: "Callable[[Tensor], Audio]", tokens: "Tensor"
) -> NDArray[np.bool_]:
    """Return which transients (2,) are detected within the middle token or half a token of it."""
    audio = decode(tokens)
    length = len(audio) / SAMPLE_RATE / tokens.numel()
    start = (tokens.numel() // 2 - 0.5) * length
    found = {
        artifact.kind
        for artifact in detect(audio, SAMPLE_RATE, TRANSIENTS)
        if artifact.start < start + 2 * length and artifact.end > start
    }
    return np.array([kind in found for kind in TRANSIENTS])
