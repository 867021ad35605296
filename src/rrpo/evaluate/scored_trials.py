"""What the scores of crossed trials say: how well they rank, and what the truth costs in nats."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rrpo.errors import UserError
from rrpo.evaluate.crossed import Training, Trials, crossed_interval
from rrpo.interval import Interval


def stratified_ranking(
    strata: Sequence[Trials],
    others: Sequence[Trials] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return the area under the ROC curve of the scores, as `stratified_interval`.

    It is that of each class against the rest, averaged over the classes present: how often an
    utterance of a class has a higher score of it than one of another class. No choice is made, so
    nothing hangs on which classes a classifier prefers where it is unsure.

    A resample holds some clusters twice, so it has more pairs within a cluster than there are, and
    these are more alike. Of the resamples the spread is kept and their middle is not. Of two
    clusters it never sees a pair between them: then the interval is a poor one.

    Raises:
        UserError: the arrays do not fit, or the trials have no scores.
    """
    return crossed_interval(strata, others, _centred_ranking, seed, resamples)


def stratified_entropy(
    strata: Sequence[Trials],
    others: Sequence[Trials] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return the cross-entropy −log p(true class) in nats, as `stratified_interval`.

    Scores are log-posteriors. Guessing costs log K.

    Raises:
        UserError: the arrays do not fit, or the trials have no scores.
    """
    return crossed_interval(strata, others, entropy_figures, seed, resamples)


def entropy_figures(
    trials: Trials,
    ids: NDArray[np.int64],
    cells: NDArray[np.float64],
    weights: dict[Training, NDArray[np.float64]],
) -> tuple[float, NDArray[np.float64]]:
    """Return the cross-entropy averaged over trainings, and resamples (R,).

    Args as of `ranking_figures`.
    """
    if trials.scores is None:
        raise UserError("these trials have no scores, only choices: nothing has a probability")
    size = cells.shape[1]
    costs = -trials.scores[:, np.arange(trials.labels.size), trials.labels]  # (S, N)
    sums = np.stack([np.bincount(ids, row, size) for row in costs], axis=1)  # (G, S)
    with np.errstate(invalid="ignore"):
        values = (cells @ sums) / (cells @ np.bincount(ids, minlength=size))[:, None]
    drawn = np.stack([weights[key] for key in trials.keys], axis=1)
    return float(costs.mean()), (values * drawn).sum(1) / drawn.sum(1)


def ranking_figures(
    trials: Trials,
    ids: NDArray[np.int64],
    cells: NDArray[np.float64],
    weights: dict[Training, NDArray[np.float64]],
) -> tuple[float, NDArray[np.float64]]:
    """Return the area under the ROC curve averaged over classes and trainings, and resamples (R,).

    The area is the share of pairs of an utterance of the class and one of another that the scores
    put in order, ties counting one half (Hanley & McNeil 1982, "The meaning and use of the area
    under a receiver operating characteristic curve", Radiology 143). Pairs are counted by cluster,
    W (G, G), so that a resample with weights w is wᵀ W w / (wᵀ p · wᵀ n), with p and n the numbers
    of utterances of the class and of the others in each cluster.

    Args:
        trials: S trainings, with scores.
        ids: (N,) the cell of each utterance in 0…G-1: a speaker, or a speaker's sentence.
        cells: (R, G) their weights.
        weights: (R,) of each training.
    """
    if trials.scores is None:
        raise UserError("these trials have no scores, only choices: nothing can be ranked")
    every = np.concatenate([np.ones((1, cells.shape[1])), cells])
    areas = []
    for scores in trials.scores:
        of_classes = []
        for number in np.unique(trials.labels):
            own = trials.labels == number
            column, count = scores[:, number], cells.shape[1]
            pairs = ordered_pairs(column[own], ids[own], column[~own], ids[~own], count)
            present, absent = (np.bincount(ids[one], minlength=count) for one in (own, ~own))
            with np.errstate(invalid="ignore"):
                area = ((every @ pairs) * every).sum(1) / ((every @ present) * (every @ absent))
            of_classes.append(area)
        areas.append(_mean_of_present(np.stack(of_classes)))
    found = np.stack(areas, axis=1)  # (1 + R, S), the first of the utterances as they are
    drawn = np.stack([weights[key] for key in trials.keys], axis=1)
    return float(found[0].mean()), (found[1:] * drawn).sum(1) / drawn.sum(1)


def _centred_ranking(
    trials: Trials,
    ids: NDArray[np.int64],
    cells: NDArray[np.float64],
    weights: dict[Training, NDArray[np.float64]],
) -> tuple[float, NDArray[np.float64]]:
    """Return `ranking_figures`, its resamples around the figure."""
    found, draws = ranking_figures(trials, ids, cells, weights)
    there = draws[np.isfinite(draws)]
    return found, np.clip(draws + (found - there.mean() if there.size else 0.0), 0.0, 1.0)


def ordered_pairs(
    positives: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    negatives: NDArray[np.float64],
    negative_ids: NDArray[np.int64],
    count: int,
) -> NDArray[np.float64]:
    """Count how often a positive of cluster g is above a negative of h, (G, G); a tie is half.

    Args:
        positives: (n,) scores of what should score high.
        positive_ids: (n,) their clusters in 0…G-1.
        negatives: (m,) of what should not.
        negative_ids: (m,) their clusters.
        count: G.
    """
    pairs = np.empty((count, count))
    for cluster in range(count):
        rest = np.sort(negatives[negative_ids == cluster])
        under = np.searchsorted(rest, positives, "left") + np.searchsorted(rest, positives, "right")
        pairs[:, cluster] = np.bincount(positive_ids, under / 2, count)
    return pairs


def _mean_of_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean (R,) of the finite ones of (K, R), NaN where there is none."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(0) / there.sum(0))
