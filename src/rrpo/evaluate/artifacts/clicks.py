"""Clicks: outliers of what linear prediction leaves over.

A click is an outlier of the linear-prediction residual (Vaseghi & Rayner 1990, "Detection and
suppression of impulsive noise in speech communication systems", IEE Proceedings 137; Godsill &
Rayner 1998, "Digital Audio Restoration") that the residual's peaks 20 ms before and after do not
reach: glottal pulses come in trains and noise lasts, so neither stands alone. It must also stand
out from the loudness of the speech, which the release of a stop consonant, a click by nature,
seldom does. The release is recognised, too, by the sound that follows silence there.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts.events import (
    Artifact,
    Curve,
    Scores,
    block_peaks,
    events,
    loudness,
    surroundings,
)

ORDER = 18
"""Order of linear prediction: about one pole pair per formant up to 8 kHz, and the tilt."""
FRAME, HOP = 512, 256
"""Samples of an analysis frame, 32 ms, and from one to the next."""
BLOCK = 16
"""Samples of a block whose peak is looked at: 1 ms."""
THRESHOLD = 1.85
"""How often a click must tower above its surroundings: seven of eight clicks of peak 0.3 over
speech at 0.7 do (docs/studies/artifacts.md)."""
FLOOR, LOUDNESS_SHARE = 0.005, 0.15
"""Least value of what is added to the surroundings, so that nothing towers above digital silence by
being faint; and that value as a share of the loudness, which the releases of stops seldom pass."""
LEAST = 0.01
"""Least peak of the residual: what is fainter is inaudible."""
RISE_FLOOR = 0.005
LONGEST = 6
"""Blocks of the longest click."""


def find(signal: Curve) -> list[Artifact]:
    """Return the clicks of a signal (N,), 16 kHz."""
    peaks = block_peaks(residual(signal), BLOCK)
    return events("click", _score(signal, peaks), peaks, BLOCK, THRESHOLD, LONGEST)


def scores(signal: Curve) -> Scores:
    """Return how often each millisecond of a signal (N,) towers above its surroundings."""
    return Scores(_score(signal, block_peaks(residual(signal), BLOCK)), BLOCK / SAMPLE_RATE)


def residual(signal: Curve) -> Curve:
    """Return the linear-prediction residual (N,) of a signal (N,), 16 kHz.

    The predictor of each frame comes from its windowed autocorrelation by Levinson's recursion
    and filters the middle of the frame.
    """
    count = -(-signal.size // HOP)
    lead = (FRAME - HOP) // 2
    padded = np.zeros(count * HOP + FRAME)
    padded[lead : lead + signal.size] = signal
    cut = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP][:count]
    spectrum = np.abs(np.fft.rfft(cut * np.hanning(FRAME + 1)[:-1], 2 * FRAME)) ** 2
    correlation = np.fft.irfft(spectrum)[:, : ORDER + 1]
    # White noise 40 dB below the frame keeps the predictor of a near-silent or tonal frame tame.
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1e-7
    predictor = levinson(correlation)
    spans = np.lib.stride_tricks.sliding_window_view(padded, HOP + ORDER)[lead - ORDER :: HOP]
    history = np.lib.stride_tricks.sliding_window_view(spans[:count], ORDER + 1, axis=1)
    filtered = np.einsum("fhp,fp->fh", history, predictor[:, ::-1])
    flat: Curve = filtered.reshape(-1)[: signal.size]
    return flat


def levinson(correlation: Curve) -> Curve:
    """Solve the normal equations of every frame: (F, P + 1) lags → (F, P + 1) filter, first 1."""
    predictor = np.zeros_like(correlation)
    predictor[:, 0] = 1.0
    error = correlation[:, 0].copy()
    for order in range(1, correlation.shape[1]):
        inner = (predictor[:, :order] * correlation[:, order:0:-1]).sum(axis=1)
        reflection = -inner / error
        predictor[:, 1 : order + 1] += (
            reflection[:, None] * predictor[:, order - 1 :: -1][:, :order]
        )
        error *= 1 - reflection**2
    return predictor


def _score(signal: Curve, peaks: Curve) -> Curve:
    # Only the tops of neighbouring blocks count as surroundings, and the highest of them is
    # passed over, so that a second click near by does not hide the first.
    tops = np.where(maximum_filter1d(peaks, 5) == peaks, peaks, 0.0)
    before, after = surroundings(tops, back=20, near=3, skip=6, ahead=20)
    around = np.concatenate([before, after], axis=1)
    second = np.partition(around, -2, axis=1)[:, -2]
    floor = max(FLOOR, LOUDNESS_SHARE * loudness(signal))
    score = peaks / (second + floor) / np.sqrt(_rise(signal, peaks, floor))
    return np.where(peaks > LEAST, score, 0.0)


def _rise(signal: Curve, peaks: Curve, floor: float) -> Curve:
    """Return by how much the 20 to 40 ms after each block are louder than those before, at least 1.

    Taken from the residual and from the signal itself, whichever rises more: where silence goes
    before and noise or voice follows, a click is the release of a stop.
    """
    loud = block_peaks(signal, BLOCK)
    before, after = surroundings(loud, back=40, near=3, skip=6, ahead=40)
    heard = (after.mean(axis=1) + RISE_FLOOR) / (before.mean(axis=1) + RISE_FLOOR)
    before, after = surroundings(peaks, back=20, near=3, skip=6, ahead=20)
    whitened = (np.median(after, axis=1) + floor) / (np.median(before, axis=1) + floor)
    rise: Curve = np.maximum(1.0, np.maximum(heard, whitened))
    return rise
