"""Utterances that have something in common, such as a speaker: intervals over these clusters."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from rrpo.errors import UserError
from rrpo.interval import Interval

Figure = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A figure of summed counts: (..., *shape) to (...)."""
FEW = 8
"""Clusters below which a bootstrap is too narrow: of a mean over 4 it covers in 88 % of cases."""
DRAWN = 2_000_000
"""Numbers of clusters that are held at a time while resampling."""


def clusters(names: ArrayLike) -> tuple[NDArray[np.int64], bool]:
    """Number the clusters that utterances belong to by name, such as their speakers.

    Args:
        names: (N,) text, empty or None where it is not known.

    Returns:
        ids (N,) in 0…G-1 and whether they are those of the names. Where a name is missing or all
        are the same, every utterance is a cluster of its own.
    """
    named = ["" if name is None else str(name) for name in np.ravel(np.asarray(names, object))]
    known, ids = np.unique(named, return_inverse=True)
    if known.size < 2 or "" in known:
        return np.arange(ids.size), False
    return ids.reshape(-1).astype(np.int64), True


def resampled_sums(counts: ArrayLike, seed: int = 0, resamples: int = 2000) -> NDArray[np.float64]:
    """Draw clusters with replacement, whole and as many as there are, and add up their counts.

    This is the cluster bootstrap (Davison & Hinkley 1997, "Bootstrap methods and their
    application", section 3.8; Field & Welsh 2007, "Bootstrapping clustered data", JRSS B 69).

    Args:
        counts: (G, *shape) what adds up, such as a confusion matrix for each cluster.
        seed: of the resampling.
        resamples: R, how many times the clusters are resampled.

    Returns:
        (R, *shape) sums.

    Raises:
        UserError: there is no cluster, or a count is NaN or infinite.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim == 0 or len(table) == 0 or not np.isfinite(table).all():
        raise UserError(
            f"the counts of an interval have shape {table.shape}: give finite ones of at least one "
            "cluster"
        )
    # Clusters with the same counts are drawn as one kind: the same distribution, and far fewer
    # numbers where the clusters are single utterances.
    kinds, times = np.unique(table.reshape(len(table), -1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    at_a_time = max(1, DRAWN // len(kinds))
    parts = [
        rng.multinomial(len(table), times / len(table), min(at_a_time, resamples - start)) @ kinds
        for start in range(0, resamples, at_a_time)
    ]
    return np.concatenate(parts).reshape(resamples, *table.shape[1:])


def expanded_interval(mean: float, draws: NDArray[np.float64], count: int) -> Interval:
    """Return a figure with the 95 % expanded percentile interval of its resamples.

    Percentiles of a bootstrap over few clusters lie too close: by sqrt((G-1)/G), and by the normal
    distribution where Student's holds. The share cut off at each end is therefore
    Phi(-sqrt(G/(G-1)) t_{.975, G-1}) and not .025 (Hesterberg 2015, "What teachers should know
    about the bootstrap", The American Statistician 69). With fewer than `FEW` clusters no bootstrap
    covers well; of a single one the ends are not known.

    Args:
        mean: the figure of the sample itself.
        draws: (R,) the figure of each resample.
        count: G, the number of clusters.
    """
    if count < 2:
        return Interval(mean)
    cut = float(ndtr(-math.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975)))
    low, high = np.quantile(draws, [cut, 1 - cut])
    return Interval(mean, float(low), float(high))


def clustered_interval(
    counts: ArrayLike, figure: Figure, seed: int = 0, resamples: int = 2000
) -> Interval:
    """Return a figure of summed counts with its 95 % interval over clusters.

    Utterances of one speaker are not independent: taken as if they were, an interval is too narrow.
    Whole clusters are resampled (`resampled_sums`, `expanded_interval`); of fewer than eight they
    are left out one by one (`jackknife_interval`).

    Args:
        counts: (G, *shape) counts of each cluster.
        figure: maps summed counts (..., *shape) to (...).
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times the clusters are resampled.

    Returns:
        the figure of all clusters together with its ends.

    Raises:
        UserError: there is no cluster, or a count is NaN or infinite.

    Examples:
        >>> share = lambda sums: sums[..., 0] / sums[..., 1]
        >>> clustered_interval([[1, 2], [2, 4]], share)
        Interval(mean=0.5, low=0.5, high=0.5)
    """
    table = np.asarray(counts, dtype=np.float64)
    return interval_of(table, figure, resampled_sums(table, seed, resamples))


def interval_of(table: NDArray[np.float64], figure: Figure, sums: NDArray[np.float64]) -> Interval:
    """Return what `clustered_interval` does of a table (G, *shape) and its `resampled_sums`."""
    if 1 < len(table) < FEW:
        return jackknife_interval(table, figure)
    return expanded_interval(float(figure(table.sum(0))), figure(sums), len(table))


def jackknife_interval(counts: ArrayLike, figure: Figure) -> Interval:
    """Return a figure of summed counts with Student's 95 % interval by the jackknife.

    With f_g the figure without cluster g its variance is (G − 1) / G Σ_g (f_g − mean f)², on G − 1
    degrees of freedom (Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 11). Of
    a mean over clusters of one size it is Student's interval of their means; over four whose sizes
    are very unlike it covers in some 93 %. Where a single cluster has all that counts, the figure
    is of nothing without it, and the ends are not known.

    Args:
        counts: (G, *shape) counts of each cluster; G of at least 2.
        figure: maps summed counts (..., *shape) to (...).

    Examples:
        >>> f"{jackknife_interval([[1.0, 2], [2.0, 2]], lambda sums: sums[..., 0] / sums[..., 1])}"
        '0.75 [-2.43, 3.93]'
    """
    table = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        without, size = figure(table.sum(0) - table), len(table)
    mean = float(figure(table.sum(0)))
    if not np.isfinite(without).all():
        return Interval(mean)
    half = float(stdtrit(size - 1, 0.975)) * math.sqrt((size - 1) * without.var())
    return Interval(mean, mean - half, mean + half)


def finite_sample(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return figures (n,) as float64; `name` is what they are called.

    Raises:
        UserError: there are none, or one is NaN or infinite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise UserError(f"the {name} of an interval have shape {sample.shape}: give at least one")
    if not np.isfinite(sample).all():
        raise UserError(
            f"the {name} of an interval hold {int((~np.isfinite(sample)).sum())} NaN or infinite "
            "figures: leave those utterances out or score them again"
        )
    return sample
