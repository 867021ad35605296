"""Intervals over crossed factors: who speaks to a classifier, what is said, how it was trained.

A figure measured on a few speakers and sentences with a few trainings holds for others only as far
as all of them are resampled. Each is drawn one time fewer than there are (Rao & Wu 1988,
"Resampling inference with complex survey data", JASA 83), so that the spread of few is not too
small, and percentiles are cut where Student's distribution puts them. Speakers and sentences are
drawn apart, and an utterance counts by the product (Owen 2007, "The pigeonhole bootstrap", Annals
of Applied Statistics 1). Intervals are rather too wide, but of two speakers who differ they cover
in some 80 %, of three in 90 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, ndtr, stdtrit

from rrpo.errors import UserError
from rrpo.evaluate.clusters import Figure, clusters
from rrpo.evaluate.confusion import confusion_matrices, unweighted_average_recall
from rrpo.interval import Interval

ITERATIONS, TOLERANCE = 1000, 1e-9
"""Of weighing the classes."""
FEWEST = 5
"""Sentences from which on others are spoken for."""
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
        sentences: (N,) what was said; None, or under `FEWEST` of them: they are fixed.
    """

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: NDArray[np.str_]
    trainings: Sequence[Training] = ()
    scores: NDArray[np.float64] | None = None
    sentences: NDArray[np.str_] | None = None

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

    The strata, such as languages, are fixed, and so is what was trained on. Speakers and sentences
    are drawn within each stratum. Seeds are drawn within what was trained on, alike in all strata
    that it is tested in. Degrees of freedom are the least of the speakers', the sentences' and the
    seeds'.

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
    return crossed_interval(strata, others, partial(trial_figures, figure=figure), seed, resamples)


def crossed_interval(
    strata: Sequence[Trials],
    others: Sequence[Trials] | None,
    figures: Figures,
    seed: int,
    resamples: int,
) -> Interval:
    for trials in [*strata, *(others or ())]:
        _check_trials(trials)
    weights, of_trainings = training_draws([*strata, *(others or ())], seed, resamples)
    mean, draws = 0.0, np.zeros(resamples)
    of_speakers = of_sentences = of_utterances = 0
    for number, trials in enumerate(strata):
        drawn = _draw(trials, [seed, 1 + number], resamples)
        of_speakers, of_sentences = of_speakers + drawn.speakers, of_sentences + drawn.sentences
        of_utterances += drawn.utterances
        ids, speakers = drawn.ids, drawn.weights
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
    factors = (of_speakers or of_utterances, of_sentences, of_trainings)
    degrees = min(filter(None, factors), default=0)
    draws = draws[np.isfinite(draws)]
    if degrees == 0 or draws.size == 0:
        return Interval(mean)
    cut = float(ndtr(-stdtrit(degrees, 0.975)))
    low, high = np.quantile(draws, [cut, 1 - cut])
    return Interval(mean, float(low), float(high))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Utterances in cells of one speaker and one sentence: ids (N,), weights (R, G), degrees."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float64]
    speakers: int
    sentences: int
    utterances: int


def _draw(trials: Trials, seed: Sequence[int], resamples: int) -> _Drawn:
    """Draw the speakers of a stratum, and the sentences where there are enough."""
    ids, named = clusters(trials.names)
    speakers = cluster_draws(int(ids.max()) + 1, np.random.default_rng(seed), resamples)
    degrees = speakers.shape[1] - 1
    known = np.unique([] if trials.sentences is None else trials.sentences, return_inverse=True)
    if len(known[0]) < FEWEST:
        return _Drawn(ids, speakers, named * degrees, 0, degrees)
    sentences = cluster_draws(len(known[0]), np.random.default_rng([*seed, 1]), resamples)
    cells, cell_of = np.unique(np.stack([ids, known[1].reshape(-1)]), axis=1, return_inverse=True)
    weights = speakers[:, cells[0]] * sentences[:, cells[1]]
    return _Drawn(cell_of.reshape(-1), weights, named * degrees, sentences.shape[1] - 1, degrees)


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
    with np.errstate(invalid="ignore"):  # a resample without a single weight has no figure
        values = figure(np.einsum("rg,gskl->rskl", speakers, counts))
    drawn = np.stack([weights[key] for key in trials.keys], axis=1)
    return float(figure(counts.sum(0)).mean()), (values * drawn).sum(1) / drawn.sum(1)


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
