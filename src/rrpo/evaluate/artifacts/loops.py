"""Repetition: a stretch of sound that is said again and again.

The self-similarity of the spectrum at a lag (Foote 2000, "Automatic audio segmentation using a
measure of audio novelty", IEEE ICME; at lags as Goto 2003, "A chorus-section detecting method for
musical audio signals", ICASSP): over three rounds of a period, twice the variance of the log
spectrum, which is how far two of its frames lie apart, is set against how far frames one period
apart do. A held vowel hardly varies, so it is no loop; `rrpo.evaluate.artifacts.stuck` hears that.
A mark may begin or end up to 0.7 of a period off: a window that begins before the loop still hears
it.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts.events import Artifact, Curve, Scores, loudness, stretches

WINDOW, HOP = 512, 160
"""Samples of a frame, 32 ms, and from one to the next, 10 ms."""
BANDS, LOWEST, HIGHEST = 24, 60.0, 7600.0
"""Bands of equal width in mel, and their range in Hz: the shape of a spectrum without its pitch."""
SHORTEST, LONGEST = 6, 45
"""Frames of a period: 60 to 450 ms. Shorter ones blur within a frame."""
ROUNDS = 3
"""Times that a stretch must sound: people do say a syllable twice."""
DEPTH = 50.0
"""dB below the loudness under which differences do not count."""
NOISE = 1.5
"""dB by which the frames of one sound differ from window to window; added to what they do."""
THRESHOLD = 4.0
"""How much further apart frames must lie than those one period apart: clean speech of four
languages reaches 3 in one utterance of twenty, a loop of 150 ms or more 6 in nineteen of twenty."""


def find(signal: Curve) -> list[Artifact]:
    """Return the loops of a signal (N,), 16 kHz."""
    return stretches("repetition", scores(signal), THRESHOLD)


def scores(signal: Curve) -> Scores:
    """Return for each 10 ms of a signal (N,) how much like a part of a loop they are."""
    level = _log_spectrum(signal)
    best = np.zeros(len(level))
    first = np.cumsum(np.pad(level, ((1, 0), (0, 0))), axis=0)
    second = np.cumsum(np.pad(level**2, ((1, 0), (0, 0))), axis=0)
    for period in range(SHORTEST, LONGEST + 1):
        span = ROUNDS * period
        if len(level) < span:
            break
        apart = np.square(level[period:] - level[:-period]).mean(axis=1)
        total = np.cumsum(np.pad(apart, (1, 0)))
        same = (total[span - period :] - total[: period - span]) / (span - period)
        mean = (first[span:] - first[:-span]) / span
        variance = ((second[span:] - second[:-span]) / span - mean**2).mean(axis=1)
        score = np.pad(2 * variance / (same + NOISE**2), (0, span - 1))
        # A stretch lends its score to all of its frames: those up to `span` - 1 after its start.
        spread = maximum_filter1d(score, span, origin=(span - 1) // 2, mode="constant")
        best = np.maximum(best, spread)
    return Scores(best, HOP / SAMPLE_RATE)


def _log_spectrum(signal: Curve) -> Curve:
    """Return the level of each band in dB (F, BANDS), frames centred on 10 ms steps."""
    padded = np.pad(signal, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    ends = 2595.0 * np.log10(1.0 + np.array([LOWEST, HIGHEST]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(ends[0], ends[1], BANDS + 1) / 2595.0) - 1.0)
    bins = np.searchsorted(np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE), edges)
    upper = np.maximum(bins[1:], bins[:-1] + 1)
    total = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1)
    mean = (total[:, upper] - total[:, bins[:-1]]) / (upper - bins[:-1])
    # A bin of white noise as loud as the speech.
    loud = loudness(signal) ** 2 * float(np.square(window).sum())
    level: Curve = 10.0 * np.log10(mean + loud * 10.0 ** (-DEPTH / 10.0) + 1e-12)
    return level
