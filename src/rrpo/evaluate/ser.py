"""A reward model as a recogniser of speech emotion (SER): does it deserve to be optimized?

Scored are the emotions that both sides have, those of the reward model that occur in the test set,
and the reward model chooses among these alone. A choice among all its classes would be another
figure: it also counts as an error what the test set can never confirm. Utterances of other emotions
are left out, and the report says how many.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate import confusion
from rrpo.evaluate.calibration import posterior_figures
from rrpo.evaluate.clusters import Figure, clusters, interval_of, resampled_sums
from rrpo.evaluate.crossed import Trials, stratified_interval
from rrpo.evaluate.scored_trials import stratified_ranking
from rrpo.evaluate.statistics import wilson_interval
from rrpo.interval import Interval
from rrpo.reward import RewardModel
from rrpo.reward.labels import check_tokens
from rrpo.reward.posteriors import log_posteriors
from rrpo.reward.regularize import TASK

GROUPS = 200
"""Utterances without speakers are drawn in so many groups where pairs of them are counted."""
MEASURES = (
    "accuracy",
    "unweighted_average_recall",
    "macro_f1",
    "area_under_roc",
    "calibration_error",
    "mean_log_posterior",
    "confusion",
)
"""What of a report is kept by measure and test set among the figures of a reward model."""


@dataclass(frozen=True, eq=False)
class Recognition:
    """Test utterances and what a reward model made of them.

    Attributes:
        classes: the K emotions that are scored.
        labels: (N,) int64 true classes in 0…K-1.
        log_posteriors: (N, K) float64 in nats, normalised over the K classes.
        speakers: (N,) text, empty where unknown.
        languages: (N,) text, empty where unknown.
        left_out: utterances by emotion that were left out, because the reward model lacks it.
        untested: classes of the reward model that the test set lacks.
    """

    classes: Sequence[str]
    labels: NDArray[np.int64]
    log_posteriors: NDArray[np.float64]
    speakers: NDArray[np.str_]
    languages: NDArray[np.str_]
    left_out: Mapping[str, int] = field(default_factory=dict)
    untested: Sequence[str] = ()

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The most probable class (N,) of each utterance."""
        return np.asarray(self.log_posteriors.argmax(axis=1), dtype=np.int64)

    def where(self, chosen: NDArray[np.bool_]) -> "Recognition":
        """Return the chosen utterances, a mask (N,), with the same classes."""
        return replace(
            self,
            labels=self.labels[chosen],
            log_posteriors=self.log_posteriors[chosen],
            speakers=self.speakers[chosen],
            languages=self.languages[chosen],
        )


def scored_rows(
    model: RewardModel, utterances: Sequence[Utterance]
) -> tuple[list[Utterance], list[str]]:
    """Return the utterances whose emotion the model knows, and the classes both sides share.

    Raises:
        UserError: there are no utterances, an utterance has no emotion, or fewer than two emotions
            are shared.
    """
    known = model.classes(TASK)
    check_tokens(utterances, model.config.codes)
    unlabelled = [row.id for row in utterances if not row.emotion]
    if unlabelled:
        raise UserError(
            f"{len(unlabelled)} of {len(utterances)} utterances have no emotion, the first is "
            f"{unlabelled[0]!r}: label them or leave them out"
        )
    found = {row.emotion for row in utterances}
    shared = [name for name in known if name in found]
    if not shared:
        raise UserError(
            f"no utterance has an emotion that this reward model knows: found "
            f"{', '.join(sorted(found))}, it knows {', '.join(known)}"
        )
    if len(shared) < 2:
        raise UserError(
            f"every utterance that this reward model can be tested on is {shared[0]!r}: "
            "a test needs at least two of its emotions"
        )
    return [row for row in utterances if row.emotion in shared], shared


def recognise(
    model: RewardModel, utterances: Sequence[Utterance], batch_size: int = 64
) -> Recognition:
    """Let a reward model recognise the emotion of labelled utterances.

    Raises:
        UserError: as `scored_rows`, or a token that the model does not know.
    """
    rows, shared = scored_rows(model, utterances)
    known = model.classes(TASK)
    tokens = [torch.from_numpy(row.tokens) for row in rows]
    every = log_posteriors(model, tokens, TASK, batch_size).double()
    among = every[:, [known.index(name) for name in shared]].log_softmax(-1)
    others = Counter(row.emotion for row in utterances if row.emotion not in shared)
    return Recognition(
        shared,
        np.array([shared.index(row.emotion) for row in rows], dtype=np.int64),
        among.numpy(),
        np.array([row.speaker or "" for row in rows]),
        np.array([row.language or "" for row in rows]),
        dict(others.most_common()),
        [name for name in known if name not in shared],
    )


def evaluate(
    model: RewardModel, utterances: Sequence[Utterance], seed: int = 0, resamples: int = 2000
) -> dict[str, Any]:
    """Test a reward model on labelled utterances; see `recognise` and `report`."""
    return report(recognise(model, utterances), seed, resamples)


def report(found: Recognition, seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """Return every figure of a recognition.

    A figure has its 95 % interval (`clustered_interval`), over speakers where every utterance names
    one and there are at least two, else over utterances; "interval_over" says which, "clusters" how
    many. In a resample that lacks a class, the figures are over the others. A share that is 0 or 1
    has nothing to resample and gets Wilson's interval (1927) for its number of clusters.

    Returns:
        `classes`, `left_out`, `untested` (see `Recognition`); `chance` (1 / K); `confusion`, its
        rows true and its columns predicted; what `figures` returns; `emotions`, each with its
        `count`, `recall` (None without an utterance) and `predicted`, the share of all utterances
        that are taken for it;
        `languages` and `speakers`, by name what `figures` returns (empty where none is named).

    Raises:
        UserError: the arrays do not belong together, or a posterior is not finite.
    """
    _check(found)
    counts = confusion.confusion_matrices(found.labels, found.predictions, len(found.classes))
    emotions = {
        name: _emotion(found, index, seed, resamples) for index, name in enumerate(found.classes)
    }
    groups = {
        kind: {
            name or "not named": figures(found.where(names == name), seed, resamples)
            for name in np.unique(names).tolist()
            if (names != "").any()
        }
        for kind, names in (("languages", found.languages), ("speakers", found.speakers))
    }
    return {
        "classes": list(found.classes),
        "left_out": dict(found.left_out),
        "untested": list(found.untested),
        "chance": 1.0 / len(found.classes),
        **figures(found, seed, resamples),
        "confusion": counts[0].tolist(),
        "emotions": emotions,
        **groups,
    }


def figures(found: Recognition, seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """Return the figures of some utterances together.

    Returns:
        `count`, `interval_over` and `clusters`; `accuracy` (weighted), `unweighted_average_recall`
        (over the classes present), `macro_f1` (over those that occur or are predicted),
        `area_under_roc` (each class present against the rest, averaged; None of one class alone),
        `calibration_error` (expected calibration error, 15 bins; Guo et al. 2017, arXiv
        1706.04599) and `mean_log_posterior` of the true emotion in nats.
    """
    size, rows = len(found.classes), len(found.labels)
    ids, named = clusters(found.speakers)
    matrices = confusion.confusion_matrices(found.labels, found.predictions, size, ids)
    sums = resampled_sums(matrices, seed, resamples)

    def share(figure: Figure) -> Interval:
        return _share(matrices, figure, sums)

    return {
        "count": rows,
        "interval_over": "speakers" if named else "utterances",
        "clusters": len(matrices),
        "accuracy": share(confusion.accuracy),
        "unweighted_average_recall": share(confusion.unweighted_average_recall),
        "macro_f1": share(confusion.macro_f1),
        "area_under_roc": _ranking(found, ids if named else ids % GROUPS, seed, resamples),
        **posterior_figures(found.log_posteriors, found.labels, ids, seed, resamples),
    }


def _ranking(
    found: Recognition, ids: NDArray[np.int64], seed: int, resamples: int
) -> Interval | None:
    """Return the area under the ROC curve (`stratified_ranking`) over the clusters ids (N,).

    Of one that is 0 or 1 the resamples say nothing; it has the interval of as many utterances as
    the rarest class has, all or none of them in order. Where the resamples are all alike, as of two
    speakers of whom one has a single emotion, the ends are not known.
    """
    if len(np.unique(found.labels)) < 2:
        return None
    scores = found.log_posteriors[None]
    trials = Trials(found.predictions[None], found.labels, ids.astype(str), (), scores)
    area = stratified_ranking([trials], seed=seed, resamples=resamples)
    if 0.0 < area.mean < 1.0:
        return area if area.low < area.high else Interval(area.mean)
    rarest = int(np.unique(found.labels, return_counts=True)[1].min())
    return wilson_interval(area.mean, rarest)


def difference(
    found: Recognition, other: Recognition, figure: Figure = confusion.unweighted_average_recall
) -> Interval:
    """Return a figure less that of another reward model on the same utterances, paired.

    Speakers are resampled as in `rrpo.evaluate.crossed`: what both find hard cancels.

    Raises:
        UserError: they do not score the same classes of the same utterances.
    """
    if found.classes != other.classes or not np.array_equal(found.labels, other.labels):
        raise UserError("only reward models that score the same emotions can be compared in pairs")
    own, others = (
        [Trials(one.predictions[None], one.labels, one.speakers)] for one in (found, other)
    )
    return stratified_interval(own, others, figure)


def share_interval(
    hits: NDArray[np.bool_], speakers: NDArray[np.str_], seed: int = 0, resamples: int = 2000
) -> Interval:
    """Return the share of hits (N,) with its interval over speakers (N,), as in a report."""
    ids, _ = clusters(speakers)
    counts = np.column_stack([np.bincount(ids, weights=hits), np.bincount(ids)])
    sums = resampled_sums(counts, seed, resamples)
    return _share(counts, lambda each: each[..., 0] / each[..., 1], sums)


def by_measure(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Turn reports by test set into measures, each a dict by test set."""
    return {
        measure: {name: found[measure] for name, found in reports.items()} for measure in MEASURES
    }


def _emotion(found: Recognition, index: int, seed: int, resamples: int) -> dict[str, Any]:
    """Return how many utterances of a class there are, how many are found, how many are claimed."""
    own, claimed = found.labels == index, found.predictions == index
    return {
        "count": int(own.sum()),
        "recall": share_interval(claimed[own], found.speakers[own], seed, resamples)
        if own.any()
        else None,
        "predicted": share_interval(claimed, found.speakers, seed, resamples),
    }


def _share(counts: NDArray[np.number], figure: Figure, sums: NDArray[np.float64]) -> Interval:
    """Return a figure between 0 and 1 of clusters' counts (G, *shape) with its interval.

    Where it is 0 or 1 nothing varies: it has Wilson's, each cluster one trial.
    """
    table = np.asarray(counts, dtype=np.float64)
    mean = float(figure(table.sum(0)))
    if not 0.0 < mean < 1.0:
        return wilson_interval(mean, len(table))
    return _within(interval_of(table, figure, sums))


def _within(found: Interval) -> Interval:
    """Return the interval of a share, of which there is none under 0 or over 1."""
    if not found.known:
        return found
    return Interval(found.mean, max(0.0, found.low), min(1.0, found.high))


def _check(found: Recognition) -> None:
    """Refuse arrays that do not belong together."""
    rows, size = len(found.labels), len(found.classes)
    shapes = (found.log_posteriors.shape, found.speakers.shape, found.languages.shape)
    if rows == 0 or size < 2 or shapes != ((rows, size), (rows,), (rows,)):
        raise UserError(
            f"{rows} labels, posteriors {shapes[0]}, speakers {shapes[1]} and languages "
            f"{shapes[2]} of {size} classes do not fit: give one of each for every utterance"
        )
    if not np.isfinite(found.log_posteriors).all():
        raise UserError(
            "a log-posterior is NaN or infinite: the reward model is broken, train it again"
        )
