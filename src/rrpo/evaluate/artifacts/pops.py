"""Pops and harsh plosives: low thumps.

A pop is a burst below 100 Hz, breath that strikes a microphone, that what lies 150 ms before and
after does not reach: the rule of the click detector (`rrpo.evaluate.artifacts.clicks`), in the low
band. Elko, Meyer, Backer & Peissig 2007, "Electronic pop protection for microphones" (IEEE WASPAA),
measure that the energy of a pop lies there. A harsh plosive is a pop that comes with the release of
a consonant; its noise is what every release has and only the low burst sets it apart, so it is no
kind of its own.
"""

import numpy as np

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts.events import (
    Artifact,
    Curve,
    Scores,
    block_peaks,
    events,
    surroundings,
)

HIGHEST = 100.0
"""Hz under which a pop lies and few voices do."""
BLOCK = 80
"""Samples of a block whose peak is looked at: 5 ms."""
THRESHOLD = 2.3
"""How often a pop must tower above its surroundings; set on rendered speech without pops, where it
gives under one false pop per minute."""
FLOOR = 0.01
"""Added to the surroundings, so that nothing towers above silence by being faint."""
LEAST = 0.03
"""Least peak of the low band: what is fainter is inaudible."""
LONGEST = 12
"""Blocks of the longest pop."""


def find(signal: Curve) -> list[Artifact]:
    """Return the pops of a signal (N,), 16 kHz."""
    peaks = _peaks(signal)
    return events("pop", _score(peaks), peaks, BLOCK, THRESHOLD, LONGEST)


def scores(signal: Curve) -> Scores:
    """Return how often each 5 ms of a signal (N,) tower above their surroundings."""
    return Scores(_score(_peaks(signal)), BLOCK / SAMPLE_RATE)


def _peaks(signal: Curve) -> Curve:
    from scipy.signal import butter, sosfiltfilt  # takes a second, which most commands do not need

    low = sosfiltfilt(butter(2, HIGHEST, fs=SAMPLE_RATE, output="sos"), signal)
    return block_peaks(low, BLOCK)


def _score(peaks: Curve) -> Curve:
    # A pop has died away after 70 ms, where a low voice has only begun.
    before, after = surroundings(peaks, back=30, near=3, skip=14, ahead=26)
    highest = np.maximum(before.max(axis=1), after.max(axis=1))
    return np.where(peaks > LEAST, peaks / (highest + FLOOR), 0.0)
