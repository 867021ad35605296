"""Speech-quality drops: stretches that a quality predictor rates far below the rest.

This is a judge that listens twice, not a detector: it needs a scorer of `rrpo.evaluate.quality`
and takes its model's time for each second of speech.
"""

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo.evaluate.artifacts.events import Artifact, Curve

WINDOW, STEP = 1.0, 0.25
"""Seconds that are rated, and from one window to the next. The predictors are made for several
seconds; of less than one their score says little."""
DROP = 1.0
"""Points under the median of the utterance: one category of the scale of mean opinion scores (ITU-T
P.800, 1996). Half a point finds more, but something in most clean utterances too."""


def quality_below(audio: Audio, scorer: str | quality.Scorer = "plcmos") -> Curve:
    """Return how many points each window of audio (N,) is rated under their median: (M,).

    Windows are `WINDOW` long, `STEP` apart. There are none where audio has under three of them,
    1.5 s: there is no rest to compare with.

    Args:
        audio: mono, 16 kHz.
        scorer: name of an installed scorer, or one. PLCMOS was made to hear short gaps in speech;
            DistillMOS and DNSMOS rate a second of clean speech no steadier than a degraded one, so
            they are of no use here (docs/studies/artifacts.md).

    Raises:
        UserError: the scorer is not installed, or the audio is not finite or not (N,).
    """
    if isinstance(scorer, str):
        available = quality.available()
        if scorer not in available:
            reason = quality.missing().get(scorer, f"there is no scorer {scorer!r}")
            raise UserError(f"quality drops need a quality scorer: {reason}")
        scorer = available[scorer]
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise UserError(f"audio to be scored has shape {samples.shape}: give mono samples (N,)")
    size, step = int(WINDOW * SAMPLE_RATE), int(STEP * SAMPLE_RATE)
    starts = range(0, samples.size - size + 1, step)
    if len(starts) < 3:
        return np.zeros(0)
    rated = np.array([scorer(samples[start : start + size]) for start in starts])
    below: Curve = np.median(rated) - rated
    return below


def drops_of(below: Curve) -> list[Artifact]:
    """Return the windows that lie `DROP` points or more under the median, those in a row as one.

    Args:
        below: (M,) points, from `quality_below`.

    Returns:
        Artifacts of kind "quality", their strength in points under the median.
    """
    found: list[Artifact] = []
    for number, drop in enumerate(below):
        if drop < DROP:
            continue
        event = Artifact("quality", number * STEP, number * STEP + WINDOW, float(drop))
        if found and event.start <= found[-1].end:
            last = found.pop()
            event = Artifact("quality", last.start, event.end, max(last.strength, event.strength))
        found.append(event)
    return found
