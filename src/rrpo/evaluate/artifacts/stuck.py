"""Stuck sound: one frame held, as by a token that does not end or a buffer played again.

Speech, be it a long vowel, never repeats its waveform exactly: pitch and loudness wander by some
per cent from period to period (jitter and shimmer; Lieberman 1961, "Perturbations in vocal pitch",
JASA 33). A stretch of 250 ms is stuck where it is nearly its own copy from 16 to 61 ms before: the
energy of the two is set against that of their difference, as in the difference function of YIN
(de Cheveigné & Kawahara 2002, JASA 111).
"""

import numpy as np
import soxr
from scipy.ndimage import maximum_filter1d

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts.events import Artifact, Curve, Scores, loudness, stretches

RATE = 4000
"""Hz at which waveforms are compared: low harmonics tell, high ones only ask for a finer lag."""
SHORTEST, LONGEST = 64, 244
"""Samples of a lag at that rate, 16 to 61 ms: one to several pitch periods, or a token of 40 ms."""
SPAN, STEP = 1000, 40
"""Samples that are compared, 250 ms, and from one place to the next, 10 ms."""
QUIET = 0.06
"""Level as a share of the loudness, 24 dB down, under which hum and noise may repeat themselves."""
FLOOR = 0.003
"""Added to the share of the difference, so that an exact copy scores 333."""
THRESHOLD = 22.0
"""How often the difference must fit into the sound: one clean utterance in fifty reaches it."""


def find(signal: Curve) -> list[Artifact]:
    """Return where a signal (N,), 16 kHz, is stuck."""
    return stretches("stuck", scores(signal), THRESHOLD)


def scores(signal: Curve) -> Scores:
    """Return for each 10 ms of a signal (N,) how often the difference fits into the sound."""
    low = soxr.resample(signal, SAMPLE_RATE, RATE)
    frames = -(-low.size // STEP)
    places = np.arange(LONGEST, low.size - SPAN, STEP)
    best = np.zeros(frames)
    if not places.size:
        return Scores(best, STEP / RATE)
    energy = np.cumsum(np.pad(low**2, (1, 0)))
    here = energy[places + SPAN] - energy[places]
    lowest = np.full(places.size, np.inf)
    for lag in range(SHORTEST, LONGEST):
        product = np.cumsum(np.pad(low[lag:] * low[:-lag], (1, 0)))
        both = product[places + SPAN - lag] - product[places - lag]
        there = energy[places + SPAN - lag] - energy[places - lag]
        lowest = np.minimum(lowest, (here + there - 2 * both) / (here + there + 1e-9))
    loud = here / SPAN > (QUIET * loudness(signal)) ** 2
    first = LONGEST // STEP
    best[first : first + places.size] = np.where(loud, 1.0 / (np.maximum(lowest, 0) + FLOOR), 0.0)
    # A stretch lends its score to all of its frames.
    width = SPAN // STEP
    spread = maximum_filter1d(best, width, origin=(width - 1) // 2, mode="constant")
    return Scores(spread, STEP / RATE)
