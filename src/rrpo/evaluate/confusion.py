"""Confusion matrices, their sums over groups of utterances, and the figures drawn from them.

Every figure maps matrices (..., K, K), rows the truth and columns the prediction, to (...).
Matrices of groups add up, so a resample of groups needs no look at single utterances.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrpo.errors import UserError


def confusion_matrices(
    labels: ArrayLike, predictions: ArrayLike, classes: int, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Count utterances by group, true class and predicted class.

    Args:
        labels: (N,) true classes in 0…K-1.
        predictions: (N,) predicted classes in 0…K-1.
        classes: K.
        groups: (N,) the group of each utterance in 0…G-1; by default all are one.

    Returns:
        (G, K, K) counts, rows the truth; G is 1 without groups.

    Raises:
        UserError: the lengths differ, there are none, or a class lies outside 0…K-1.
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    group = np.zeros(truth.shape, dtype=np.int64) if groups is None else np.asarray(groups)
    if truth.ndim != 1 or truth.size == 0 or not truth.shape == guess.shape == group.shape:
        raise UserError(
            f"cannot compare predictions of shape {guess.shape} with labels of shape {truth.shape} "
            f"in groups of shape {group.shape}: give one of each for every utterance"
        )
    for name, values in (("label", truth), ("prediction", guess)):
        if values.min() < 0 or values.max() >= classes:
            raise UserError(f"a {name} lies outside 0…{classes - 1}: give indices of classes")
    counts = np.zeros((int(group.max()) + 1, classes, classes), dtype=np.int64)
    np.add.at(counts, (group, truth, guess), 1)
    return counts


def accuracy(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the weighted accuracy, the share of utterances that are right, of (..., K, K)."""
    hits, truth, _ = _sums(confusion)
    return np.asarray(hits.sum(-1) / truth.sum(-1))


def unweighted_average_recall(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the unweighted accuracy (UAR) of (..., K, K): the mean recall of the classes present.

    A class without an utterance has no recall and is left out; one that is never predicted has 0.

    Examples:
        >>> float(unweighted_average_recall(np.array([[3, 0], [1, 0]])))
        0.5
    """
    hits, truth, _ = _sums(confusion)
    recall = hits / np.maximum(truth, 1)
    return np.asarray(recall.sum(-1) / (truth > 0).sum(-1))


def macro_f1(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the mean F1 of (..., K, K) over the classes that occur or are predicted."""
    hits, truth, guess = _sums(confusion)
    score = 2 * hits / np.maximum(truth + guess, 1)
    return np.asarray(score.sum(-1) / (truth + guess > 0).sum(-1))


def class_recall(number: int) -> Callable[[NDArray[np.number]], NDArray[np.float64]]:
    """Return the figure that is the recall of one class, NaN where the class does not occur.

    Examples:
        >>> class_recall(1)(np.array([[8, 2], [1, 3]]))
        array(0.75)
    """

    def recall(confusion: NDArray[np.number]) -> NDArray[np.float64]:
        if number >= confusion.shape[-1]:  # neither there nor predicted
            return np.full(confusion.shape[:-2], np.nan)
        hits, truth, _ = _sums(confusion)
        with np.errstate(invalid="ignore"):
            return np.asarray(hits[..., number] / truth[..., number])

    return recall


def _sums(
    confusion: NDArray[np.number],
) -> tuple[NDArray[np.number], NDArray[np.number], NDArray[np.number]]:
    """Return the hits, the true and the predicted counts (..., K) of each class."""
    return (
        np.diagonal(confusion, axis1=-2, axis2=-1),
        confusion.sum(axis=-1),
        confusion.sum(axis=-2),
    )
