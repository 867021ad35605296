"""How far a reward model's probabilities are to be believed: calibration and log-posterior."""

import numpy as np
from numpy.typing import NDArray

from rrpo.evaluate.clusters import (
    FEW,
    expanded_interval,
    interval_of,
    jackknife_interval,
    resampled_sums,
)
from rrpo.interval import Interval

BINS = 15


def posterior_figures(
    log_posteriors: NDArray[np.float64],
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Interval]:
    """Return the calibration error and the mean log-posterior, with intervals over clusters.

    Args:
        log_posteriors: (N, K) in nats.
        labels: (N,) true classes in 0…K-1.
        ids: (N,) the cluster of each utterance in 0…G-1.
        seed: of the resampling.
        resamples: how many times the clusters are resampled.

    Returns:
        `calibration_error` (expected calibration error, 15 bins; Guo et al. 2017, arXiv 1706.04599)
        and `mean_log_posterior` of the true class in nats.
    """
    right = log_posteriors.argmax(axis=1) == labels
    confidence = np.exp(log_posteriors.max(axis=1))
    gaps = np.zeros((int(ids.max()) + 1, BINS))
    np.add.at(gaps, (ids, _bins(confidence)), right - confidence)
    own = np.bincount(ids, weights=log_posteriors[np.arange(len(ids)), labels])
    counts = np.column_stack([gaps, own, np.bincount(ids)])
    sums = resampled_sums(counts, seed, resamples)

    def error(each: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.abs(each[..., :BINS]).sum(-1) / each[..., -1])

    if 1 < len(counts) < FEW:
        found = jackknife_interval(counts, error)
        calibration = Interval(found.mean, max(0.0, found.low), min(1.0, found.high))
    else:
        # An absolute value only grows with noise, and resampling adds noise: the spread is kept,
        # its middle is not.
        mean, errors = float(error(counts.sum(0))), error(sums)
        errors = np.clip(errors + (mean - errors.mean()), 0.0, 1.0)
        calibration = expanded_interval(mean, errors, len(counts))
    return {
        "calibration_error": calibration,
        "mean_log_posterior": interval_of(counts, lambda each: each[..., -2] / each[..., -1], sums),
    }


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the calibration bin (N,) of each confidence (N,): bin b holds (b/15, (b+1)/15]."""
    edges = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    return np.digitize(confidence, edges, right=True).astype(np.int64)
