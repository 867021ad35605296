"""Trials: what a detector scores at an artifact of known place, and elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts import scores
from rrpo.evaluate.clusters import clustered_interval, clusters
from rrpo.interval import Interval
from rrpo.progress import Progress
from rrpo_world.artifacts.insertions import WAYS, Inserted
from rrpo_world.artifacts.roc import clustered_area_under_roc
from rrpo_world.artifacts.speech import ALL_REAL, SYNTHETIC, Speech

NEAR = 0.04
"""Seconds around an artifact that count as its place."""
GOAL = 0.2
"""Least peak of the clicks whose separation is the aim."""


@dataclass(frozen=True)
class Trial:
    """What was scored at one inserted artifact, and in windows of clean speech of that length."""

    corpus: str
    positive: float
    negatives: list[float]
    utterance: str
    speaker: str = ""


Row = TypeVar("Row", Speech, Trial)
Trials = dict[str, dict[float, list[Trial]]]
"""Way → level → trials."""
Place = tuple[float, float]
"""Start and end in seconds."""
Highest = Callable[[float, float], float]
"""The highest score between two times in seconds."""


def trials(speech: Sequence[Speech], windows: int, seed: int) -> Trials:
    """Put every artifact into every utterance; return way → level → trials.

    The score of a place is the highest within 40 ms of it. The artifact's is compared with those
    of `windows` random stretches as long, in the same utterance without the artifact.
    """
    found: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    with Progress("insert and search", len(speech)) as progress:
        for number, one in enumerate(speech):
            clean = scores(one.audio)
            for name, level, inserted, places in insertions(one, number, windows, seed):
                kind = WAYS[name].kind
                detected = scores(inserted.audio, kinds=(kind,))[kind]
                found[name][level].append(
                    trial(one, inserted, places, detected.highest, clean[kind].highest)
                )
            progress.update(number + 1)
    return found


def insertions(
    one: Speech, number: int, windows: int, seed: int
) -> Iterator[tuple[str, float, Inserted, list[Place]]]:
    """Yield every way and level, the utterance with that artifact, and the windows beside it.

    The windows of clean speech are as long as the place of the artifact, and cut at the ends.

    Args:
        number: of the utterance; it and the seed draw the places.
    """
    for index, (name, way) in enumerate(WAYS.items()):
        for step, level in enumerate(way.levels):
            rng = np.random.default_rng([seed, number, index, step])
            inserted = way.insert(one.audio, level, rng)
            length = inserted.end - inserted.start + 2 * NEAR
            last = max(one.audio.size / SAMPLE_RATE - length, 0.0)
            places = [(start, start + length) for start in rng.uniform(0.0, last, windows)]
            yield name, level, inserted, places


def trial(
    one: Speech, inserted: Inserted, places: Sequence[Place], detected: Highest, clean: Highest
) -> Trial:
    """Score the place of an artifact, and the windows of the same utterance without it."""
    positive = detected(inserted.start - NEAR, inserted.end + NEAR)
    negatives = [clean(*place) for place in places]
    return Trial(one.corpus, positive, negatives, one.utterance, one.speaker)


def drawn_by(rows: Sequence[Speech | Trial]) -> tuple[NDArray[np.int64], str]:
    """Number the clusters whose trials or utterances are no independent ones.

    Speakers, where they are known and there are several; else utterances, of which each has several
    trials.

    Returns:
        ids (N,) in 0…G-1, and what they are, such as "12 speakers".
    """
    ids, named = clusters([one.speaker or one.utterance for one in rows])
    speakers = {one.speaker for one in rows if one.speaker}
    if not named or not speakers:
        ids = np.unique([one.utterance for one in rows], return_inverse=True)[1].reshape(-1)
        return ids, _counted(int(ids.max()) + 1, "utterance")
    others = int(ids.max()) + 1 - len(speakers)
    more = f" and {_counted(others, 'utterance')}" if others else ""
    return ids, _counted(len(speakers), "speaker") + more


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def rate(
    rows: Sequence[Speech | Trial], counts: Sequence[float], over: Sequence[float]
) -> Interval:
    """Return the sum of what is counted in each row over that of `over`, with its 95 % interval.

    Clusters of rows are resampled (`drawn_by`).
    """
    ids, _ = drawn_by(rows)
    sums = np.stack([np.bincount(ids, column) for column in (counts, over)], axis=1)
    return clustered_interval(sums, lambda drawn: drawn[..., 0] / drawn[..., 1])


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
                    "hit": rate(
                        part, [_reaches(one.positive, least) for one in part], [1.0] * len(part)
                    ),
                }
                for corpus, part in groups_of(rows).items()
            }
            for level, rows in levels.items()
        }
    return table


def _reaches(score: float, least: float) -> bool:
    # A detector whose every event counts has a threshold of 0, and 0 is the score of no event.
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
    return {corpus: separated(part, resamples) for corpus, part in groups_of(rows).items()}


def separated(rows: Sequence[Trial], resamples: int, seed: int = 0) -> Interval:
    """Return the area under the ROC curve with its 95 % interval, clusters resampled."""
    ids, _ = drawn_by(rows)
    positive = [one.positive for one in rows]
    negative = [value for one in rows for value in one.negatives]
    owners = np.repeat(ids, [len(one.negatives) for one in rows])
    return clustered_area_under_roc(positive, ids, negative, owners, seed, resamples)


def groups_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the trials or utterances of all real speech, and of each corpus."""
    groups: dict[str, list[Row]] = {}
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
