"""How well a score separates two kinds: the receiver operating characteristic and its area."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrpo.evaluate.clusters import expanded_interval, finite_sample, resampled_sums
from rrpo.evaluate.scored_trials import ordered_pairs
from rrpo.interval import Interval


def area_under_roc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Return the chance that a positive scores above a negative, ties counted half.

    That is the area under the receiver operating characteristic (Hanley & McNeil 1982, "The
    meaning and use of the area under a ROC curve", Radiology 143).

    Args:
        positives: (n,) scores of what should score high.
        negatives: (m,) of what should not.

    Raises:
        UserError: there are none of one, or one is NaN or infinite.

    Examples:
        >>> area_under_roc([2.0, 3.0], [1.0, 2.0])
        0.875
    """
    high, low = (
        finite_sample(positives, "positives"),
        np.sort(finite_sample(negatives, "negatives")),
    )
    under = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(under.mean() / 2 / low.size)


def clustered_area_under_roc(
    positives: ArrayLike,
    positive_ids: ArrayLike,
    negatives: ArrayLike,
    negative_ids: ArrayLike,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return `area_under_roc` with its 95 % interval over clusters, such as speakers.

    Whole clusters are resampled, with their positives and negatives. With M[g, h] how often a
    positive of cluster g beats a negative of cluster h, and w how often each cluster was drawn, the
    area of a resample is w M w over the pairs there are, so scores are compared only once.

    Args:
        positives: (n,) scores of what should score high.
        positive_ids: (n,) their clusters in 0…G-1, as `clusters` numbers them.
        negatives: (m,) of what should not.
        negative_ids: (m,) their clusters.
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times the clusters are resampled; a draw without a positive or without
            a negative has no area and is left out.

    Returns:
        the area of all clusters together with its ends; see `expanded_interval`.

    Raises:
        UserError: as `area_under_roc`.

    Examples:
        >>> clustered_area_under_roc([2.0, 3.0], [0, 1], [1.0, 1.0], [0, 1])
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    high, low = finite_sample(positives, "positives"), finite_sample(negatives, "negatives")
    own, other = np.asarray(positive_ids, np.int64), np.asarray(negative_ids, np.int64)
    count = int(max(own.max(), other.max())) + 1
    wins = ordered_pairs(high, own, low, other, count)
    drawn = resampled_sums(np.eye(count), seed, resamples)
    pairs = (drawn @ np.bincount(own, minlength=count)) * (
        drawn @ np.bincount(other, minlength=count)
    )
    won = ((drawn @ wins) * drawn).sum(axis=1)
    some = pairs > 0
    return expanded_interval(area_under_roc(high, low), won[some] / pairs[some], count)


def roc_curve(
    positives: ArrayLike, negatives: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares (k,) of negatives and of positives at or over each threshold.

    From the threshold that nothing reaches, (0, 0), down to the lowest score, (1, 1).

    Raises:
        UserError: as `area_under_roc`.
    """
    high, low = (
        np.sort(finite_sample(positives, "positives")),
        np.sort(finite_sample(negatives, "negatives")),
    )
    thresholds = np.append(np.unique(np.concatenate([high, low])), np.inf)[::-1]
    false = 1.0 - np.searchsorted(low, thresholds, "left") / low.size
    true = 1.0 - np.searchsorted(high, thresholds, "left") / high.size
    return false, true
