"""Clipping: waveform tops that are cut flat.

The rule is that of the saturation detector of Essentia (Bogdanov et al. 2013, "Essentia: an audio
analysis library for music information retrieval", ISMIR): samples in a row that hardly differ, at
the top. The top is that of the 20 ms around, not full scale, so a recording is found that was
clipped and then turned down.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts.events import (
    Artifact,
    Curve,
    Scores,
    block_peaks,
    loudness,
    stretches,
)
from rrpo.repetition import runs_of

BLOCK = 80
"""Samples of a block that has a score: 5 ms."""
SAME = 5e-4
"""Share of its value by which a sample may differ from the one before: a voice of 60 Hz turns
faster after one sample at its top, 16 bits are finer."""
TOP = 0.98
"""Share of the greatest magnitude near by that is still its top."""
NEAR = 321
"""Samples around, 20 ms: two pitch periods."""
QUIET = 0.25
"""Share of the loudness below which nothing is clipped: 16 bits of a soft recording are steps."""
THRESHOLD = 5.0
"""Samples in a row: clean speech seldom has five, but where 16 bits are steps."""


def find(signal: Curve) -> list[Artifact]:
    """Return where a signal (N,), 16 kHz, is clipped."""
    return stretches("clipping", scores(signal), THRESHOLD)


def scores(signal: Curve) -> Scores:
    """Return for each 5 ms of a signal (N,) the most samples in a row that are one flat top."""
    size = np.abs(signal)
    high = (size >= TOP * maximum_filter1d(size, NEAR)) & (size > QUIET * loudness(signal))
    same = (np.abs(np.diff(signal)) <= SAME * size[1:]) & high[1:] & high[:-1]
    flat = np.zeros(signal.size)
    for start, stop in runs_of(same):
        flat[start : stop + 1] = stop - start + 1
    return Scores(block_peaks(flat, BLOCK), BLOCK / SAMPLE_RATE)
