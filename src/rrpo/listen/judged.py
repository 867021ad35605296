"""Which judge predicts the listeners: rank correlation of ratings with judges, sound by sound."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate import quality
from rrpo.files import read_json, write_json
from rrpo.interval import Interval
from rrpo.listen.answers import Judgement, counted, interval_over
from rrpo.listen.design import Design, sound_file
from rrpo.sound.file import read

FILE = "judges.json"
"""In a test's folder: what the judges said of its sounds, which takes them a second a sound, and
the hashes of the files that they heard."""
RESAMPLES = 500
BOUND = 0.9999
"""Correlation that is as good as 1, whose transformation is infinite."""


def judge_sounds(
    test: Path, design: Design, scorers: Mapping[str, quality.Scorer] | None = None
) -> dict[str, dict[str, float]]:
    """Return judge → sound → score; what was judged before is read again, if the file is the same.

    The emotion judge knows the bundled world's voice alone; its score is the probability of the
    emotion asked for. Of quality scorers all that are installed listen.
    """
    path = test / FILE
    kept = _kept(path, design)
    chosen = quality.available() if scorers is None else scorers
    sounds = [one for one in design.sounds if one.system in (*design.systems, "reference")]
    wanted = [name for name in chosen if not all(one.id in kept.get(name, {}) for one in sounds)]
    felt = [one for one in sounds if one.emotion in EMOTIONS] if design.bundled_voice else []
    lacks = not all(one.id in kept.get("emotion_judge", {}) for one in felt)
    if not wanted and not lacks:
        return {name: scores for name, scores in kept.items() if scores}
    audio = {one.id: read(sound_file(test, one.id)) for one in sounds}
    if lacks:
        from rrpo.mini.world import World  # torch takes seconds, and is not needed before

        rows = World().judge().probabilities_batch([audio[one.id] for one in felt])
        kept["emotion_judge"] = {
            one.id: float(row[emotion_index(one.emotion or "")])
            for one, row in zip(felt, rows, strict=True)
        }
    if wanted:
        scored = quality.score([*audio.values()], {name: chosen[name] for name in wanted})
        for name, values in scored.items():
            kept[name] = dict(zip(audio, values, strict=True))
    hashes = {one.id: one.sha256 for one in design.sounds}
    write_json(path, {"sounds": hashes, "scores": kept})
    return kept


def _kept(path: Path, design: Design) -> dict[str, dict[str, float]]:
    """Return judge → sound → score of the sounds whose files are those that were judged."""
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict) or set(found) != {"sounds", "scores"}:
        return {}
    hashes, judged = found["sounds"], found["scores"]
    if not isinstance(hashes, dict) or not isinstance(judged, dict):
        return {}
    same = {one.id for one in design.sounds if hashes.get(one.id) == one.sha256}
    return {
        judge: {sound: score for sound, score in scores.items() if sound in same}
        for judge, scores in judged.items()
        if isinstance(scores, dict)
    }


def rank_correlation(
    answers: Sequence[Judgement], scores: Mapping[str, float], seed: int = 0
) -> Interval | None:
    """Return Spearman's correlation of mean ratings with a judge's scores, over single sounds.

    Its interval is over listeners and items: both are drawn, and with them the mean ratings.

    Args:
        answers: to one question, about single sounds.
        scores: sound → the judge's score.
    """
    chosen = [one for one in answers if one.page.sounds[0] in scores]
    sounds = list(dict.fromkeys(one.page.sounds[0] for one in chosen))
    if len(sounds) < 5:
        return None
    place = {name: at for at, name in enumerate(sounds)}

    def at(one: Judgement) -> int:
        return place[one.page.sounds[0]]

    totals = counted(chosen, (len(sounds), 2), lambda one: ((at(one), 0), one.score))
    numbers = counted(chosen, (len(sounds), 2), lambda one: ((at(one), 1), 1.0))
    judged = np.array([scores[name] for name in sounds])

    def correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = sums.reshape(-1, len(sounds), 2)
        found = np.array([_spearman(row, judged) for row in flat])
        return np.asarray(np.arctanh(np.clip(found, -BOUND, BOUND)).reshape(sums.shape[:-2]))

    # Fisher's transformation: so its ends stay within −1 and 1.
    found = interval_over(totals + numbers, correlation, seed, RESAMPLES)
    if not np.isfinite(found.mean):
        return None
    if not found.known:
        return Interval(float(np.tanh(found.mean)))
    return Interval(*(float(np.tanh(end)) for end in (found.mean, found.low, found.high)))


def _spearman(sums: NDArray[np.float64], judged: NDArray[np.float64]) -> float:
    """Return the correlation of ranks, each sound as often as its item was drawn or not at all."""
    from scipy.stats import rankdata

    there = sums[:, 1] > 0
    if there.sum() < 3:
        return float("nan")
    one, other = rankdata(sums[there, 0] / sums[there, 1]), rankdata(judged[there])
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else float("nan")
