"""Intervals of figures over two crossed factors, such as who listened and what was heard.

Ratings of one listener are alike, and so are those of one item: a mean holds for other listeners
and other items only as far as both are resampled.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from rrpo.errors import UserError
from rrpo.evaluate.clusters import Figure
from rrpo.evaluate.crossed import cluster_draws
from rrpo.interval import Interval


def two_way_interval(
    counts: ArrayLike, figure: Figure, seed: int = 0, resamples: int = 2000
) -> Interval:
    """Return a figure of summed counts with its 95 % interval over rows and columns.

    Rows and columns are drawn independently, each one time fewer than there are (`cluster_draws`),
    and a cell counts as often as its row times as its column was drawn (the pigeonhole bootstrap:
    Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1). What is left in a cell
    beside its row and its column is then counted three times, so the resamples lie too far apart
    where that is most of the spread, as in paired differences. They are therefore moved towards
    their middle until their variance is V, that of two-way clusters (Cameron, Gelbach & Miller
    2011, "Robust inference with multiway clustering", JBES 29): with jackknife variances over
    rows, over columns and over single cells, V = V_r + V_i − V_c, at least V_c / 3. V_c is what
    rows and columns leave where every cell is there, else all that differs between cells.
    Percentiles are cut where Student's distribution puts them. Its degrees of freedom are
    Satterthwaite's of the three variances, at least those of the fewer of rows and columns. How
    often the intervals hold the truth: docs/studies/listening_coverage.json.

    Args:
        counts: (L, I, *shape) what adds up in each cell, zero where nothing was measured.
        figure: maps summed counts (..., *shape) to (...); NaN where it is not defined.
        seed: of the resampling; the same seed gives the same interval.
        resamples: R, how many times rows and columns are drawn.

    Returns:
        The figure with its ends. Rows or columns of which there is a single one are not resampled;
        the ends are infinite where both are single, or no resample has the figure.

    Raises:
        UserError: there is no cell, or a count is NaN or infinite.

    Examples:
        >>> mean = lambda sums: sums[..., 0] / sums[..., 1]
        >>> two_way_interval([[[2, 1], [3, 1]], [[3, 1], [4, 1]]], mean).mean
        3.0
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2 or not table.size or not np.isfinite(table).all():
        raise UserError(
            f"the counts of an interval have shape {table.shape}: give finite ones of rows and "
            "columns"
        )
    shape = table.shape[2:]
    flat = table.reshape(*table.shape[:2], -1)
    flat = flat[flat.any(axis=(1, 2))][:, flat.any(axis=(0, 2))]
    mean = float(figure(table.sum((0, 1))))
    if not flat.size or not np.isfinite(mean):
        return Interval(mean)
    variance, degrees = _variance(flat, figure, shape)
    draws = _draws(flat, figure, shape, seed, resamples)
    draws = draws[np.isfinite(draws)]
    if degrees == 0 or not draws.size:
        return Interval(mean)
    spread = float(draws.std())
    if spread > 0:
        draws = mean + (draws - draws.mean()) * np.sqrt(variance) / spread
    cut = float(ndtr(-stdtrit(degrees, 0.975)))
    low, high = np.quantile(draws, [cut, 1 - cut])
    return Interval(mean, float(low), float(high))


def _draws(
    flat: NDArray[np.float64], figure: Figure, shape: tuple[int, ...], seed: int, resamples: int
) -> NDArray[np.float64]:
    """Return the figure (R,) of each resample of rows and columns of counts (L, I, K)."""
    rng = np.random.default_rng(seed)
    rows = cluster_draws(flat.shape[0], rng, resamples)
    columns = cluster_draws(flat.shape[1], rng, resamples)
    by_column = np.tensordot(rows, flat, axes=(1, 0))  # (R, I, K)
    sums = np.einsum("rik,ri->rk", by_column, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(figure(sums.reshape(-1, *shape)), dtype=np.float64)


def _variance(
    flat: NDArray[np.float64], figure: Figure, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Return the variance of a figure of counts (L, I, K), and its degrees of freedom."""
    size, other = flat.shape[:2]
    of_rows = _jackknife(_left(flat.sum(1), figure, shape))
    of_columns = _jackknife(_left(flat.sum(0), figure, shape))
    if size < 2 or other < 2:
        return (of_rows, size - 1) if size > 1 else (of_columns, other - 1)
    cells = flat.reshape(-1, flat.shape[-1])
    there = cells.any(axis=1)
    left = _left(cells[there], figure, shape)
    if there.all() and np.isfinite(left).all():
        # Every row has every column, so a row's figure holds nothing of the columns' differences,
        # nor the other way round: only what is left beside both is counted twice.
        table = left.reshape(size, other)
        rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        of_cells = float(np.square(rest).sum()) * (left.size - 1) ** 2 / left.size
        of_cells /= (size - 1) * (other - 1)
    else:
        of_cells = _jackknife(left)
    total = max(of_rows + of_columns - of_cells, of_cells / 3.0)
    if not total > 0:
        return 0.0, min(size, other) - 1
    left_over = max(int(there.sum()) - size - other + 1, 1)
    parts = ((of_rows, size - 1), (of_columns, other - 1), (of_cells, left_over))
    degrees = total**2 / sum(part**2 / each for part, each in parts)
    return total, max(degrees, min(size, other) - 1.0)


def _left(
    clusters: NDArray[np.float64], figure: Figure, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the figure (G,) of counts (G, K) with each cluster left out."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(figure((clusters.sum(0) - clusters).reshape(-1, *shape)))


def _jackknife(left: NDArray[np.float64]) -> float:
    """Return the variance of a figure, of which (G,) is known with each cluster left out."""
    left = left[np.isfinite(left)]
    count = left.size
    return float((count - 1) / count * np.square(left - left.mean()).sum()) if count > 1 else 0.0


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return totals over numbers, (..., 2) to (...): the mean of what was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def ratio_difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first of two means less the second, (..., 2, 2) to (...)."""
    means = ratio(sums)
    return np.asarray(means[..., 0] - means[..., 1])
