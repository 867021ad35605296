"""Trials: what a detector scores at an artifact of known place, and elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.evaluate.artifacts import KINDS, Scores, scores
from rrpo.evaluate.statistics import area_under_roc, interval
from rrpo.progress import Progress
from rrpo.studies.insertions import WAYS, Inserted
from rrpo.studies.peers import EVERY, Essentia, Event, highest

NEAR = 0.04
"""Seconds around an artifact that count as its place."""
SYNTHETIC = "mini world"
ALL_REAL = "real speech"
GOAL = 0.2
"""Least peak of the clicks whose separation is the aim."""


@dataclass(frozen=True)
class Speech:
    """One clean utterance (N,) and where it comes from."""

    corpus: str
    emotion: str
    name: str
    audio: Audio


@dataclass(frozen=True)
class Trial:
    """What was scored at one inserted artifact, and in windows of clean speech of that length."""

    corpus: str
    positive: float
    negatives: list[float]


Trials = dict[str, dict[float, list[Trial]]]


def trials(
    speech: Sequence[Speech], windows: int, seed: int, peer: Essentia | None = None
) -> tuple[Trials, Trials]:
    """Put every artifact into every utterance; return way → level → trials, ours and the peer's.

    The score of a place is the highest within 40 ms of it. The artifact's is compared with those
    of `windows` random stretches as long, in the same utterance without the artifact.
    """
    ours: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    theirs: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    with Progress("insert and search", len(speech)) as progress:
        for number, one in enumerate(speech):
            clean = scores(one.audio)
            other = peer if number % EVERY == 0 else None
            found = {kind: other.events(one.audio, kind) for kind in KINDS} if other else {}
            for index, (name, way) in enumerate(WAYS.items()):
                for step, level in enumerate(way.levels):
                    rng = np.random.default_rng([seed, number, index, step])
                    inserted = way.insert(one.audio, level, rng)
                    places = _elsewhere(one.audio, inserted, windows, rng)
                    heard = scores(inserted.audio, kinds=(way.kind,))[way.kind]
                    ours[name][level].append(_trial(one, inserted, heard, clean[way.kind], places))
                    if other:
                        events = other.events(inserted.audio, way.kind)
                        theirs[name][level].append(
                            _peer_trial(one, inserted, events, found[way.kind], places)
                        )
            progress.update(number + 1)
    return ours, theirs


def _elsewhere(
    audio: Audio, inserted: Inserted, count: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Draw windows of clean speech as long as the place of the artifact, cut at the ends."""
    length = inserted.end - inserted.start + 2 * NEAR
    last = max(audio.size / SAMPLE_RATE - length, 0.0)
    return [(start, start + length) for start in rng.uniform(0.0, last, count)]


def _trial(
    one: Speech,
    inserted: Inserted,
    heard: Scores,
    clean: Scores,
    places: Sequence[tuple[float, float]],
) -> Trial:
    positive = heard.highest(inserted.start - NEAR, inserted.end + NEAR)
    return Trial(one.corpus, positive, [clean.highest(*place) for place in places])


def _peer_trial(
    one: Speech,
    inserted: Inserted,
    heard: list[Event],
    clean: list[Event],
    places: Sequence[tuple[float, float]],
) -> Trial:
    positive = highest(heard, inserted.start - NEAR, inserted.end + NEAR)
    return Trial(one.corpus, positive, [highest(clean, *place) for place in places])


def figures(found: Trials, thresholds: Mapping[str, float], resamples: int) -> dict[str, Any]:
    """Return way → level → corpus → "auc" and "hit", each with its 95 % interval.

    Corpora are those of the trials, and all real ones together. Kinds that have no threshold are
    left out.
    """
    table: dict[str, Any] = {}
    for name, levels in found.items():
        if WAYS[name].kind not in thresholds:
            continue
        least = thresholds[WAYS[name].kind]
        table[name] = {
            f"{level:g}": {
                corpus: {
                    "auc": separated(part, resamples),
                    "hit": interval([float(_reaches(one.positive, least)) for one in part]),
                }
                for corpus, part in _groups(rows).items()
            }
            for level, rows in levels.items()
        }
    return table


def _reaches(score: float, least: float) -> bool:
    # A peer whose every event counts has a threshold of 0, and 0 is the score of no event.
    return score > 0 and score >= least


def goal(found: Trials, resamples: int) -> dict[str, Any]:
    """Return corpus → how well clicks of every shape and a peak of 0.2 or more are separated."""
    rows = [
        trial
        for name, levels in found.items()
        if WAYS[name].kind == "click"
        for level, part in levels.items()
        if level >= GOAL
        for trial in part
    ]
    return {corpus: separated(part, resamples) for corpus, part in _groups(rows).items()}


def every(found: Trials) -> Trials:
    """Return the trials of the utterances that the peer is given."""
    return {
        name: {level: rows[::EVERY] for level, rows in levels.items()}
        for name, levels in found.items()
    }


def separated(rows: Sequence[Trial], resamples: int, seed: int = 0) -> dict[str, float]:
    """Return the area under the ROC curve with its 95 % interval, trials drawn anew."""
    positive = np.array([one.positive for one in rows])
    negative = np.array([one.negatives for one in rows])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        pick = rng.integers(0, len(rows), len(rows))
        drawn.append(area_under_roc(positive[pick], negative[pick].ravel()))
    low, high = np.quantile(drawn, [0.025, 0.975])
    mean = area_under_roc(positive, negative.ravel())
    return {"mean": mean, "low": float(low), "high": float(high)}


def _groups(rows: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Return the trials of all real speech, and of each corpus."""
    groups: dict[str, list[Trial]] = {}
    for one in rows:
        if one.corpus != SYNTHETIC:
            groups.setdefault(ALL_REAL, []).append(one)
    for one in rows:
        groups.setdefault(one.corpus, []).append(one)
    return groups


def selected(found: Trials, belongs: Any) -> dict[str, dict[float, tuple[list[float], ...]]]:
    """Return way → level → positives and negatives of the corpora that belong to a group."""
    return {
        name: {
            level: (
                [one.positive for one in rows if belongs(one.corpus)],
                [value for one in rows if belongs(one.corpus) for value in one.negatives],
            )
            for level, rows in levels.items()
        }
        for name, levels in found.items()
    }
