"""Two training curves compared where they stand equal: at the same KL, at the same judge's verdict.

A comparison at one step says little: a faster climber is further along in everything. Each curve is
read as a path of straight pieces from step to step, and a measure is looked up where the key first
reaches a value. A key with noise, such as a judge's mean over few utterances, reaches it too early,
and the more so the slower it climbs: that favours the slower of two curves. A KL has little noise.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from rrpo.errors import UserError
from rrpo.interval import Interval

GRID = 20
"""Values of the key at which two curves are compared."""


def reached(keys: Sequence[float], values: Sequence[float], key: float) -> float | None:
    """Return the measure where the key first reaches a value, or None if it never does.

    Args:
        keys: of the curve's points, in the order of the steps; they may fall and rise again.
        values: the measure at those points.
        key: the value to be reached.

    Examples:
        >>> reached([0.0, 1.0, 0.5], [4.0, 3.0, 2.0], 0.25)
        3.75
    """
    if not keys or key < keys[0]:
        return None
    if key == keys[0]:
        return values[0]
    for index in range(1, len(keys)):
        if keys[index] >= key:
            before, after = keys[index - 1], keys[index]
            share = (key - before) / (after - before)
            return values[index - 1] + share * (values[index] - values[index - 1])
    return None


def matched_means(
    first: Sequence[Mapping[str, float]],
    second: Sequence[Mapping[str, float]],
    key: str,
    measure: str,
) -> tuple[float, float] | None:
    """Return the means of both curves' measure over the values of the key that both reach.

    The key runs in equal steps from the higher of the two starts, which is left out, to the lower
    of the two tops; None where these do not overlap.
    """
    low = max(first[0][key], second[0][key])
    high = min(max(point[key] for point in curve) for curve in (first, second))
    if high <= low:
        return None
    found = []
    for value in np.linspace(low, high, GRID + 1)[1:]:
        one, other = (
            reached([point[key] for point in curve], [point[measure] for point in curve], value)
            for curve in (first, second)
        )
        if one is not None and other is not None:
            found.append((one, other))
    if not found:
        return None
    means = np.mean(found, axis=0)
    return float(means[0]), float(means[1])


def mean_difference(
    first: Sequence[Mapping[str, float]],
    second: Sequence[Mapping[str, float]],
    key: str,
    measure: str,
) -> float | None:
    """Return the mean of first minus second over the values of the key that both curves reach.

    As `matched_means`; None where these do not overlap.
    """
    means = matched_means(first, second, key, measure)
    return None if means is None else means[0] - means[1]


def run_interval(values: Sequence[float]) -> Interval:
    """Return the mean of one figure per run with Student's 95 % interval over runs.

    For the few runs of a study, too few to be resampled. A single run has no spread: the ends are
    then not known.

    Raises:
        UserError: there is no value.

    Examples:
        >>> run_interval([1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    if not values:
        raise UserError("an interval over runs needs at least one run")
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean)
    half = float(stdtrit(sample.size - 1, 0.975) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half)
