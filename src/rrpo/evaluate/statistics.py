"""Bootstrap intervals over utterances or clusters of them."""

import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from rrpo.errors import UserError
from rrpo.interval import Interval, exactly

Figure = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A figure of summed counts: (..., *shape) to (...)."""
FEW = 8
"""Clusters below which a bootstrap of a mean is too narrow: at 4 it covers in 88 % of cases."""
DRAWN = 2_000_000
"""Numbers of clusters that are held at a time while resampling."""


def interval(
    values: ArrayLike, seed: int = 0, resamples: int = 2000, groups: ArrayLike | None = None
) -> Interval:
    """Return the mean of one figure per utterance with its 95 % interval.

    The interval is the bias-corrected and accelerated bootstrap (BCa; Efron 1987, "Better
    bootstrap confidence intervals", JASA 82), resampling utterances. With groups whole groups are
    resampled instead (`clustered_interval`). Of fewer than eight utterances or groups it is
    Student's (`student_interval`). Values that are all the same leave nothing to resample: both
    ends are then the mean. Of bool it is never narrower than Wilson's interval of a share of as
    many utterances, nor beyond 0 and 1; of a single number the ends are not known.

    Args:
        values: (n,) one figure per utterance; of bool, whether it has something.
        seed: of the resampling; the same seed gives the same interval.
        resamples: how many times the utterances are resampled.
        groups: (n,) text, what utterances have in common, such as the sentence they say; where it
            does not distinguish them (`clusters`), every utterance is a group of its own.

    Returns:
        the mean and its ends, in the unit of `values`.

    Raises:
        UserError: there are no values, one is NaN or infinite, or there are not as many groups.

    Examples:
        >>> interval([2.0, 2.0])
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    sample = finite_sample(values, "values")
    counts = np.column_stack([sample, np.ones(sample.size)])
    if groups is not None:
        _check_groups(sample, groups)
        counts = _grouped(sample, groups)
    found = _spread(sample, counts, groups is not None, seed, resamples)
    if np.asarray(values).dtype != np.bool_:
        return found
    # Within 0 and 1, and no narrower than of independent trials; all alike are one trial a group.
    alike = not found.known or found.mean in (0.0, 1.0)
    least = wilson_interval(found.mean, len(counts) if alike else sample.size)
    if alike:
        return least
    low, high = min(found.low, least.low), max(found.high, least.high)
    return Interval(found.mean, max(0.0, low), min(1.0, high))


def _spread(
    sample: NDArray[np.float64],
    counts: NDArray[np.float64],
    grouped: bool,
    seed: int,
    resamples: int,
) -> Interval:
    """Return a mean with its interval, over G groups with counts (G, 2), `grouped` or each one."""
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean)
    if np.ptp(sample) <= 1e-12 * float(np.abs(sample).max()):
        return exactly(mean)
    if len(counts) < FEW:
        return student_interval(counts)
    if grouped:
        return clustered_interval(counts, _ratio, seed, resamples)
    from scipy.stats import bootstrap  # takes a second, which most commands do not need

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
    return Interval(mean, float(found.low), float(found.high))


def wilson_interval(share: float, trials: int) -> Interval:
    """Return a share of so many trials with Wilson's 95 % interval, which 0 and 1 have, too.

    Examples:
        >>> f"{wilson_interval(0.0, 20):.2f}"
        '0.00 [0.00, 0.16]'
    """
    from scipy.stats import binomtest  # takes a second, which most commands do not need

    ends = binomtest(round(share * trials), trials).proportion_ci(method="wilson")
    return Interval(share, float(ends.low), float(ends.high))


def paired_interval(
    first: ArrayLike,
    second: ArrayLike,
    seed: int = 0,
    resamples: int = 2000,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return the mean difference `first - second` of paired figures with its 95 % interval.

    Pairs are resampled together, so what both systems share (an easy sentence) cancels.

    Args:
        first: (n,) one figure per utterance of one system.
        second: (n,) of the other system, on the same utterances in the same order.
        seed: of the resampling.
        resamples: how many times the pairs are resampled.
        groups: (n,) what pairs have in common, as in `interval`.

    Raises:
        UserError: the lengths differ, there are no values, or one is NaN or infinite.
    """
    shares = {np.asarray(values).dtype for values in (first, second)} == {np.dtype(np.bool_)}
    one, other = finite_sample(first, "first values"), finite_sample(second, "second values")
    if one.size != other.size:
        raise UserError(
            f"cannot pair {one.size} values with {other.size}: score both systems on the same "
            "utterances"
        )
    found = interval(one - other, seed, resamples, groups)
    # Shares that differ alike in every pair may differ otherwise in the next.
    return Interval(found.mean) if shares and found.low == found.high else found


def unpaired_interval(
    first: ArrayLike,
    second: ArrayLike,
    groups: tuple[ArrayLike, ArrayLike],
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return the difference of two means, `first - second`, of samples with nothing in common.

    Each sample's groups are resampled on their own; the smaller number of groups says how far the
    interval is expanded (`expanded_interval`).

    Args:
        first: (n,) one figure per utterance.
        second: (m,) of other utterances.
        groups: (n,) and (m,) text, what utterances have in common, as in `interval`.
        seed: of the resampling.
        resamples: how many times the groups are resampled.

    Raises:
        UserError: there are no values, one is NaN or infinite, or there are not as many groups.
    """
    means, draws, sizes = [], [], []
    for number, (values, names) in enumerate(zip((first, second), groups, strict=True)):
        sample = finite_sample(values, "values")
        _check_groups(sample, names)
        counts = _grouped(sample, names)
        means.append(float(sample.mean()))
        draws.append(_ratio(resampled_sums(counts, seed + number, resamples)))
        sizes.append(len(counts))
    return expanded_interval(means[0] - means[1], draws[0] - draws[1], min(sizes))


def difference_of_intervals(first: Interval, second: Interval) -> Interval:
    """Return the first figure less the second, of which only means and intervals are known.

    The method of variance estimates recovery (Zou & Donner 2008, "Construction of confidence
    intervals about effect measures", Statistics in Medicine 27): with d = m₁ − m₂ the ends are
    d − √((m₁ − l₁)² + (h₂ − m₂)²) and d + √((h₁ − m₁)² + (m₂ − l₂)²).

    Args:
        first: a measurement.
        second: an independent one in the same unit.

    Examples:
        >>> difference_of_intervals(Interval(5.0, 2.0, 9.0), Interval(4.0, 1.0, 8.0))
        Interval(mean=1.0, low=-4.0, high=6.0)
    """
    mean = first.mean - second.mean
    return Interval(
        mean,
        mean - math.hypot(first.mean - first.low, second.high - second.mean),
        mean + math.hypot(first.high - first.mean, second.mean - second.low),
    )


def _check_groups(sample: NDArray[np.float64], groups: ArrayLike) -> None:
    if np.size(groups) != sample.size:
        raise UserError(f"{sample.size} values have {np.size(groups)} groups: name one for each")


def _grouped(sample: NDArray[np.float64], groups: ArrayLike) -> NDArray[np.float64]:
    """Return the total and the number of values (G, 2) of each group."""
    ids, _ = clusters(groups)
    return np.column_stack([np.bincount(ids, weights=sample), np.bincount(ids)])


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return totals over numbers, (..., 2) to (...)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


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
    about the bootstrap", The American Statistician 69). With fewer than about five clusters no
    bootstrap covers well; of a single one the ends are not known.

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
    Whole clusters are resampled (`resampled_sums`, `expanded_interval`).

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
    sums = resampled_sums(table, seed, resamples)
    return expanded_interval(float(figure(table.sum(0))), figure(sums), len(table))


def student_interval(counts: ArrayLike) -> Interval:
    """Return a mean over clusters with Student's 95 % interval.

    The mean is that of all utterances, m = Σ_g s_g / Σ_g n_g. Its variance is that of the residuals
    s_g − m n_g, Σ_g (s_g − m n_g)² / (n̄² G (G − 1)): of clusters of one size that of their means.

    Args:
        counts: (G, 2) the total s_g and the number of values n_g of each cluster; G of at least 2.

    Examples:
        >>> f"{student_interval([[1.0, 2], [2.0, 2]])}"
        '0.75 [-2.43, 3.93]'
    """
    totals, sizes = np.asarray(counts, dtype=np.float64).T
    mean = float(totals.sum() / sizes.sum())
    residuals = (totals - mean * sizes) / sizes.mean()
    degrees = len(residuals) - 1
    half = float(
        stdtrit(degrees, 0.975) * math.sqrt((residuals**2).sum() / len(residuals) / degrees)
    )
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
