"""Whether a drop of speech quality is noticed: a second of noise in clean speech."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.evaluate import quality
from rrpo.progress import Progress
from rrpo_world.artifacts.drops import drops_of, quality_below
from rrpo_world.artifacts.roc import clustered_area_under_roc
from rrpo_world.artifacts.speech import Speech
from rrpo_world.artifacts.trials import drawn_by, rate

SCORER = "plcmos"
NOISY = 1.0
"""Seconds that are degraded, in white noise as strong as the speech there."""
SHORTEST = 3.0
"""Seconds of speech under which a second is not a small part."""


def measure(speech: Sequence[Speech], count: int, seed: int) -> dict[str, Any]:
    """Return how well the noise is detected, and how many drops are found in that.

    The score of an utterance is that of its worst window, in points under the median.

    Args:
        speech: clean; `count` of the utterances that last, evenly taken, are used.
        count: how many.
        seed: draws the places.

    Returns:
        "scorer", "utterances", "drawn_by", "auc", "found" and "false_per_minute"; or "reason", why
        nothing was measured.
    """
    if SCORER not in quality.available():
        return {"reason": quality.missing()[SCORER]}
    lasting = [one for one in speech if one.audio.size >= SHORTEST * SAMPLE_RATE]
    if not lasting:
        return {"reason": f"no utterance lasts {SHORTEST:g} s"}
    places = np.linspace(0, len(lasting) - 1, min(count, len(lasting))).astype(int)
    chosen = [lasting[place] for place in places]
    degraded, clean, found, false = [], [], [], []
    with Progress("follow the quality", len(chosen)) as progress:
        for number, one in enumerate(chosen):
            noisy, start = _noisy(one.audio, np.random.default_rng([seed, number]))
            below, before = quality_below(noisy, SCORER), quality_below(one.audio, SCORER)
            degraded.append(float(below.max()))
            clean.append(float(before.max()))
            drops = drops_of(below)
            found.append(any(d.start < start + NOISY and d.end > start for d in drops))
            false.append(len(drops_of(before)))
            progress.update(number + 1)
    ids, over = drawn_by(chosen)
    return {
        "scorer": SCORER,
        "utterances": len(chosen),
        "drawn_by": over,
        "auc": clustered_area_under_roc(degraded, ids, clean, ids),
        "found": rate(chosen, found, [1.0] * len(chosen)),
        "false_per_minute": rate(chosen, false, [one.minutes for one in chosen]),
    }


def _noisy(sound: Audio, rng: np.random.Generator) -> tuple[Audio, float]:
    """Return the sound with a second of noise at 0 dB, and when that begins."""
    size = int(NOISY * SAMPLE_RATE)
    start = int(rng.integers(0, sound.size - size))
    part = slice(start, start + size)
    level = float(np.sqrt(np.mean(np.square(sound[part])))) + 0.01
    noisy = sound.copy()
    noisy[part] += (level * rng.standard_normal(size)).astype(np.float32)
    return np.clip(noisy, -1, 1), start / SAMPLE_RATE
