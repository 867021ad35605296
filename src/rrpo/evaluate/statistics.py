"""Confidence intervals over utterances by the bootstrap, and how well a score tells two apart."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

from rrpo.errors import UserError


def interval(values: ArrayLike, seed: int = 0, resamples: int = 2000) -> dict[str, float]:
    """Return the mean of one figure per utterance with its 95 % interval.

    The interval is the bias-corrected and accelerated bootstrap (BCa; Efron 1987, "Better
    bootstrap confidence intervals", JASA 82), resampling utterances. A single value and values
    that are all the same leave nothing to resample: both ends are then the mean.

    Args:
        values: (n,) one figure per utterance.
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times the utterances are drawn anew.

    Returns:
        "mean", "low" and "high", in the unit of `values`.

    Raises:
        UserError: there are no values, or one is NaN or infinite.

    Examples:
        >>> interval([2.0, 2.0])
        {'mean': 2.0, 'low': 2.0, 'high': 2.0}
    """
    sample = _checked(values, "values")
    mean = float(sample.mean())
    if np.ptp(sample) <= 1e-12 * float(np.abs(sample).max()):
        return {"mean": mean, "low": mean, "high": mean}
    for method in ("BCa", "percentile"):
        # The acceleration is undefined where the jackknife has no spread (heavily tied values);
        # scipy then warns and returns NaN, and the plain percentile interval stands in.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bootstrap(
                (sample,),
                np.mean,
                n_resamples=resamples,
                vectorized=True,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            break
    return {"mean": mean, "low": float(found.low), "high": float(found.high)}


def paired_interval(
    first: ArrayLike, second: ArrayLike, seed: int = 0, resamples: int = 2000
) -> dict[str, float]:
    """Return the mean difference `first - second` of paired figures with its 95 % interval.

    Pairs are resampled together, so what both systems share (an easy sentence) cancels.

    Args:
        first: (n,) one figure per utterance of one system.
        second: (n,) of the other system, on the same utterances in the same order.
        seed: of the resampling.
        resamples: how many times the pairs are drawn anew.

    Raises:
        UserError: the lengths differ, there are no values, or one is NaN or infinite.
    """
    one, other = _checked(first, "first values"), _checked(second, "second values")
    if one.size != other.size:
        raise UserError(
            f"cannot pair {one.size} values with {other.size}: score both systems on the same "
            "utterances"
        )
    return interval(one - other, seed, resamples)


def recall(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the unweighted average recall: the mean over the classes present of their recall.

    Raises:
        UserError: the lengths differ or there are no labels.

    Examples:
        >>> recall([0, 0, 0, 1], [0, 0, 0, 0])
        0.5
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.size == 0 or truth.shape != guess.shape:
        raise UserError(f"cannot compare {guess.size} predictions with {truth.size} labels")
    return float(np.mean([np.mean(guess[truth == label] == label) for label in np.unique(truth)]))


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
    high, low = _checked(positives, "positives"), np.sort(_checked(negatives, "negatives"))
    under = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(under.mean() / 2 / low.size)


def roc_curve(
    positives: ArrayLike, negatives: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares (k,) of negatives and of positives at or over each threshold.

    From the threshold that nothing reaches, (0, 0), down to the lowest score, (1, 1).

    Raises:
        UserError: as `area_under_roc`.
    """
    high, low = np.sort(_checked(positives, "positives")), np.sort(_checked(negatives, "negatives"))
    thresholds = np.append(np.unique(np.concatenate([high, low])), np.inf)[::-1]
    false = 1.0 - np.searchsorted(low, thresholds, "left") / low.size
    true = 1.0 - np.searchsorted(high, thresholds, "left") / high.size
    return false, true


def _checked(values: ArrayLike, name: str) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise UserError(f"the {name} of an interval have shape {sample.shape}: give at least one")
    if not np.isfinite(sample).all():
        raise UserError(
            f"the {name} of an interval hold {int((~np.isfinite(sample)).sum())} NaN or infinite "
            "figures: leave those utterances out or score them again"
        )
    return sample
