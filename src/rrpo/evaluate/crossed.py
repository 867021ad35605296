"""Intervals over two crossed factors: who is spoken to a classifier, and how it was trained.

A figure measured on a few speakers with a few trainings holds for other speakers and another
training only as far as both are resampled. Each is drawn one time fewer than there are (Rao & Wu
1988, "Resampling inference with complex survey data", JASA 83), so that the spread of few is not
too small, and percentiles are cut where Student's distribution puts them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, ndtr, stdtrit

from rrpo.errors import UserError
from rrpo.evaluate.confusion import confusion_matrices, unweighted_average_recall
from rrpo.evaluate.statistics import Figure, clusters
from rrpo.interval import Interval, exactly

ITERATIONS, TOLERANCE = 1000, 1e-9
"""Of weighing the classes."""
Training = tuple[str, int]
"""What a training was done on, which is fixed, and its seed, which is drawn."""


@dataclass(frozen=True, eq=False)
class Trials:
    """What several trainings of one classifier said of the same N utterances.

    Attributes:
        predictions: (S, N) predicted classes in 0…K-1, a row for each training.
        labels: (N,) true classes in 0…K-1.
        names: (N,) the cluster of each utterance, such as its speaker; see `clusters`.
        trainings: S of them; by default one seed after the other on the same data. Rows of the same
            training, such as of classifiers to be averaged, are drawn together; so are the
            seeds of two `Trials` that leave this out.
        scores: (S, N, K) float64, of each class; None where only the choice is known.
    """

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: NDArray[np.str_]
    trainings: Sequence[Training] = ()
    scores: NDArray[np.float64] | None = None

    @property
    def keys(self) -> list[Training]:
        """The training of each row."""
        return list(self.trainings) or [("", seed) for seed in range(len(self.predictions))]


Figures = Callable[
    [Trials, NDArray[np.int64], NDArray[np.float64], dict[Training, NDArray[np.float64]]],
    tuple[float, NDArray[np.float64]],
]
"""Trials, clusters (N,) and their weights (R, G), weights (R,) of trainings: figure, resamples."""


def stratified_interval(
    strata: Sequence[Trials],
    others: Sequence[Trials] | None = None,
    figure: Figure = unweighted_average_recall,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return a figure, averaged over trainings and strata, with its 95 % interval.

    The strata, such as languages, are fixed, and so is what was trained on. Speakers are drawn
    within each stratum. Seeds are drawn within what was trained on, alike in all strata that it is
    tested in. Degrees of freedom are the smaller of the speakers' and the seeds'.

    Args:
        strata: of one classifier.
        others: the same strata of another one; then it is the paired difference to that, what both
            find hard cancels.
        figure: maps confusion matrices (..., K, K) to (...); see `rrpo.evaluate.confusion`.
        seed: of the resampling.
        resamples: R, how many resamples are drawn.

    Raises:
        UserError: the arrays do not fit.
    """
    return _interval(strata, others, partial(trial_figures, figure=figure), seed, resamples)


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
    return _interval(strata, others, _centred_ranking, seed, resamples)


def _interval(
    strata: Sequence[Trials],
    others: Sequence[Trials] | None,
    figures: Figures,
    seed: int,
    resamples: int,
) -> Interval:
    for trials in [*strata, *(others or ())]:
        _check_trials(trials)
    weights, of_trainings = training_draws([*strata, *(others or ())], seed, resamples)
    mean, draws, of_speakers, of_utterances = 0.0, np.zeros(resamples), 0, 0
    for number, trials in enumerate(strata):
        ids, named = clusters(trials.names)
        speakers = cluster_draws(
            int(ids.max()) + 1, np.random.default_rng([seed, 1 + number]), resamples
        )
        degrees = speakers.shape[1] - 1
        of_speakers, of_utterances = of_speakers + named * degrees, of_utterances + degrees
        own, own_draws = figures(trials, ids, speakers, weights)
        if others is not None:
            paired = others[number]
            same_names = np.array_equal(trials.names, paired.names)
            if not same_names or not np.array_equal(trials.labels, paired.labels):
                raise UserError("only trials on the same utterances can be compared in pairs")
            other, other_draws = figures(paired, ids, speakers, weights)
            own, own_draws = own - other, own_draws - other_draws
        mean, draws = mean + own / len(strata), draws + own_draws / len(strata)
    # Utterances count only where no stratum has two speakers: beside those they say too much.
    degrees = of_speakers or of_utterances
    if of_trainings:
        degrees = min(degrees or of_trainings, of_trainings)
    draws = draws[np.isfinite(draws)]
    if degrees == 0 or draws.size == 0:
        return exactly(mean)
    cut = float(ndtr(-stdtrit(degrees, 0.975)))
    low, high = np.quantile(draws, [cut, 1 - cut])
    return Interval(mean, float(low), float(high))


def training_draws(
    strata: Sequence[Trials], seed: int, resamples: int
) -> tuple[dict[Training, NDArray[np.float64]], int]:
    """Draw the seeds of every data set that was trained on.

    Returns:
        the weights (R,) of each training, 1 on average, and the seeds' degrees of freedom.
    """
    seeds: dict[str, list[int]] = {}
    for data, number in dict.fromkeys(key for trials in strata for key in trials.keys):
        seeds.setdefault(data, []).append(number)
    # numpy fills a seed up with zeros: [seed, 0] would be the same stream as seed. Strata have the
    # others, from [seed, 1] on.
    rng = np.random.default_rng([seed, 0])
    weights: dict[Training, NDArray[np.float64]] = {}
    for data, numbers in seeds.items():
        drawn = cluster_draws(len(numbers), rng, resamples)
        for column, number in enumerate(numbers):
            weights[data, number] = drawn[:, column]
    return weights, sum(len(numbers) - 1 for numbers in seeds.values())


def cluster_draws(count: int, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """Draw `count` - 1 of `count` clusters with replacement: weights (R, count), 1 on average."""
    if count == 1:
        return np.ones((resamples, 1))
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), resamples)
    return np.asarray(drawn * (count / (count - 1)), dtype=np.float64)


def trial_figures(
    trials: Trials,
    ids: NDArray[np.int64],
    speakers: NDArray[np.float64],
    weights: dict[Training, NDArray[np.float64]],
    figure: Figure = unweighted_average_recall,
) -> tuple[float, NDArray[np.float64]]:
    """Return the figure averaged over trainings, and its resamples (R,).

    Args:
        trials: S trainings.
        ids: (N,) the cluster of each utterance in 0…G-1.
        speakers: (R, G) weights of the clusters.
        weights: (R,) of each training.
        figure: see `stratified_interval`.
    """
    size = 1 + max(int(trials.predictions.max(initial=0)), int(trials.labels.max(initial=0)))
    every = [confusion_matrices(trials.labels, row, size, ids) for row in trials.predictions]
    counts = np.stack(every, axis=1).astype(np.float64)  # (G, S, K, K)
    values = figure(np.einsum("rg,gskl->rskl", speakers, counts))
    drawn = np.stack([weights[key] for key in trials.keys], axis=1)
    return float(figure(counts.sum(0)).mean()), (values * drawn).sum(1) / drawn.sum(1)


def ranking_figures(
    trials: Trials,
    ids: NDArray[np.int64],
    speakers: NDArray[np.float64],
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
        ids: (N,) the cluster of each utterance in 0…G-1.
        speakers: (R, G) weights of the clusters.
        weights: (R,) of each training.
    """
    if trials.scores is None:
        raise UserError("these trials have no scores, only choices: nothing can be ranked")
    every = np.concatenate([np.ones((1, speakers.shape[1])), speakers])
    areas = []
    for scores in trials.scores:
        of_classes = []
        for number in np.unique(trials.labels):
            own = trials.labels == number
            column, count = scores[:, number], speakers.shape[1]
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
    speakers: NDArray[np.float64],
    weights: dict[Training, NDArray[np.float64]],
) -> tuple[float, NDArray[np.float64]]:
    """Return `ranking_figures`, its resamples around the figure."""
    found, draws = ranking_figures(trials, ids, speakers, weights)
    there = draws[np.isfinite(draws)]
    return found, np.clip(draws + (found - there.mean() if there.size else 0.0), 0.0, 1.0)


def with_equal_classes(trials: Trials) -> Trials:
    """Return trials to whose classifier all classes are equally probable on average.

    On speech of another kind a classifier prefers some classes to others. Without labels that can
    be undone where all are known to be about as frequent: of each training q(k|x) ∝ p(k|x) π_k with
    the weights π for which the mean of q(k|x) over the utterances is 1 / K (Sinkhorn's algorithm).
    The choice is the most probable class under q, so the choices are about equally many, not
    exactly.

    Raises:
        UserError: the trials have no scores, which are log-posteriors here, or a class is
            impossible for every utterance.
    """
    if trials.scores is None:
        raise UserError("these trials have no scores, only choices: nothing can be weighed")
    size = trials.scores.shape[-1]
    bias = np.zeros((len(trials.scores), 1, size))
    if not np.isfinite(trials.scores.max(axis=1)).all():
        raise UserError("a class is impossible for every utterance: nothing can be weighed")
    count = trials.scores.shape[1]
    for _ in range(ITERATIONS):
        posterior = log_softmax(trials.scores + bias, axis=-1)
        log_share = logsumexp(posterior, axis=1, keepdims=True) + np.log(size / count)
        bias -= log_share
        if np.abs(log_share).max() < TOLERANCE:
            break
    return replace(trials, predictions=(trials.scores + bias).argmax(-1))


def _mean_of_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean (R,) of the finite ones of (K, R), NaN where there is none."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(0) / there.sum(0))


def _check_trials(trials: Trials) -> None:
    shape = trials.predictions.shape
    if (
        len(shape) != 2
        or not shape[0]
        or not (trials.labels.shape == trials.names.shape == shape[1:])
        or len(trials.keys) != shape[0]
        or (trials.scores is not None and trials.scores.shape[:2] != shape)
    ):
        raise UserError(
            f"predictions of shape {shape}, {trials.labels.size} labels, {trials.names.size} "
            f"names and {len(trials.keys)} trainings do not fit: give a row of predictions for "
            "each training"
        )


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
