"""Whether a drop of speech quality is noticed: a second of noise in clean speech."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.evaluate import quality
from rrpo.evaluate.artifacts import quality_drops
from rrpo.evaluate.statistics import interval
from rrpo.progress import Progress

SCORER = "plcmos"
NOISY = 1.0
"""Seconds that are spoilt, in white noise as strong as the speech there."""
SHORTEST = 3.0
"""Seconds of speech under which a second is not a small part."""


def measure(sounds: Sequence[Audio], count: int, seed: int) -> dict[str, Any]:
    """Return how often the noise is found, and how many drops are found in clean speech.

    Args:
        sounds: clean speech; the first `count` of those that last, evenly taken, are used.
        count: how many.
        seed: draws the places.

    Returns:
        "scorer", "utterances", "found" and "false_per_minute"; or "reason", why nothing was
        measured.
    """
    if SCORER not in quality.available():
        return {"reason": quality.missing()[SCORER]}
    lasting = [sound for sound in sounds if sound.size >= SHORTEST * SAMPLE_RATE]
    chosen = lasting[:: max(1, len(lasting) // count)][:count]
    if not chosen:
        return {"reason": f"no utterance lasts {SHORTEST:g} s"}
    found, false = [], []
    with Progress("follow the quality", len(chosen)) as progress:
        for number, sound in enumerate(chosen):
            spoilt, start = _noisy(sound, np.random.default_rng([seed, number]))
            drops = quality_drops(spoilt, SCORER)
            found.append(float(any(d.start < start + NOISY and d.end > start for d in drops)))
            minutes = sound.size / SAMPLE_RATE / 60
            false.append(len(quality_drops(sound, SCORER)) / minutes)
            progress.update(number + 1)
    return {
        "scorer": SCORER,
        "utterances": len(chosen),
        "found": interval(found),
        "false_per_minute": interval(false),
    }


def _noisy(sound: Audio, rng: np.random.Generator) -> tuple[Audio, float]:
    """Return the sound with a second of noise at 0 dB, and when that begins."""
    size = int(NOISY * SAMPLE_RATE)
    start = int(rng.integers(0, sound.size - size))
    part = slice(start, start + size)
    level = float(np.sqrt(np.mean(np.square(sound[part])))) + 0.01
    spoilt = sound.copy()
    spoilt[part] += (level * rng.standard_normal(size)).astype(np.float32)
    return np.clip(spoilt, -1, 1), start / SAMPLE_RATE
