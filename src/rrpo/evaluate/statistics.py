"""Intervals of means and differences over utterances, or clusters of them."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrpo.errors import UserError
from rrpo.evaluate.clusters import (
    FEW,
    clustered_interval,
    clusters,
    expanded_interval,
    finite_sample,
    jackknife_interval,
    resampled_sums,
)
from rrpo.interval import Interval, exactly


def interval(
    values: ArrayLike, seed: int = 0, resamples: int = 2000, groups: ArrayLike | None = None
) -> Interval:
    """Return the mean of one figure per utterance with its 95 % interval.

    The interval is the bias-corrected and accelerated bootstrap (BCa; Efron 1987, "Better
    bootstrap confidence intervals", JASA 82), resampling utterances. With groups whole groups are
    resampled instead (`clustered_interval`). Of fewer than eight utterances or groups it is
    Student's (`jackknife_interval`). Values that are all the same leave nothing to resample: both
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
        return jackknife_interval(counts, _ratio)
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

    Pairs are resampled together, so what both systems share (an easy sentence) cancels. Of shares
    (bool) that differ alike in every pair the interval is that of their two intervals.

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
    if not shares or found.low < found.high:
        return found
    # Shares that differ alike in every pair may differ otherwise in the next.
    each = [interval(values, seed, resamples, groups) for values in (first, second)]
    return difference_of_intervals(*each)


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
