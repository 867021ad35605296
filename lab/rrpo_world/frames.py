"""WORLD frames: 5 ms of speech as F0, spectral envelope and aperiodicity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME = 80
"""Samples from one WORLD frame to the next: 5 ms."""
FFT_SIZE = 1024
BINS = FFT_SIZE // 2 + 1
TOKEN_FRAMES = 8
"""WORLD frames of one speech token (40 ms); a rendering is a whole number of tokens long."""
FLOOR = 1e-10
"""Lowest spectral power, about the noise of a quiet room, so that logarithms stay moderate."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """WORLD analysis of a plain reading: M frames of 5 ms, F = 513 bins from 0 to 8 kHz.

    Attributes:
        text: what is read.
        f0: (M,) Hz, 0 where unvoiced.
        envelope: (M, F) power spectrum.
        aperiodicity: (M, F) from 0 (periodic) to 1 (noise).
    """

    text: str
    f0: Array
    envelope: Array
    aperiodicity: Array


def energy(envelope: Array) -> Array:
    """Return the level of each frame (M,) in dB, from an envelope (M, F)."""
    return np.asarray(10.0 * np.log10(envelope.mean(axis=1) + 1e-16))
