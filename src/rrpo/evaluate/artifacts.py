"""Clicks and pops in speech, and loops in speech tokens."""

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter1d
from scipy.signal import butter, sosfiltfilt

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError

Curve = NDArray[np.float64]

ORDER = 18
"""Order of linear prediction: about one pole pair per formant up to 8 kHz, and the tilt."""
FRAME, HOP = 512, 256
"""Samples of an analysis frame, 32 ms, and from one to the next."""
CLICK_BLOCK, POP_BLOCK = 16, 80
"""Samples of a block whose peak is looked at: 1 ms for clicks, 5 ms for pops."""
CLICK_THRESHOLD, POP_THRESHOLD = 2.2, 2.3
"""How often an event must tower above its surroundings; set on rendered speech, where clean
speech gives under one false click and one false pop per minute."""
CLICK_FLOOR, POP_FLOOR = 0.005, 0.01
"""Added to the surroundings, so that nothing towers above digital silence by being faint."""
CLICK_LEAST, POP_LEAST = 0.01, 0.03
"""Least peak, of the residual and of the low band: what is fainter is not heard."""
RISE_FLOOR = 0.005
MERGE = 0.010
"""Seconds within which two findings of a kind are one."""
STUCK, LONGEST_LOOP, LOOPS = 5, 16, 3
"""Equal tokens in a row, longest period, and rounds of a period that count as repetition."""


@dataclass(frozen=True)
class Artifact:
    """A sound that a mouth speaking does not make.

    Attributes:
        kind: "click" (some milliseconds, wide band) or "pop" (a low thump).
        start: of the event, seconds from the first sample.
        end: in seconds, after `start`.
        strength: how often it towers above what surrounds it; at least the kind's threshold.
    """

    kind: str
    start: float
    end: float
    strength: float


def detect(audio: Audio, sample_rate: int = SAMPLE_RATE) -> list[Artifact]:
    """Find clicks and pops in audio (N,), in the order of their starts.

    A click is an outlier of the linear-prediction residual (Vaseghi & Rayner 1990, "Detection and
    suppression of impulsive noise in speech communication systems", IEE Proceedings 137; Godsill &
    Rayner 1998, "Digital Audio Restoration") that the residual's peaks 20 ms before and after do
    not reach: glottal pulses come in trains and noise lasts, so neither stands alone. A pop is the
    same below 100 Hz over 150 ms. The release of a stop consonant is a click by nature; it is told
    apart, in part, by the sound that follows silence there. Figures are therefore read against
    those of clean speech with the same text.

    Args:
        audio: mono samples, peak within ±1; other rates than 16 kHz are resampled.
        sample_rate: in Hz.

    Returns:
        The artifacts; none for audio that is empty, silent or shorter than 30 ms.

    Raises:
        UserError: the audio is not one-dimensional or not finite, or the rate is not positive.
    """
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise UserError(f"audio to be searched has shape {samples.shape}: give mono samples (N,)")
    if not np.isfinite(samples).all():
        raise UserError("audio to be searched holds NaN or infinite samples: render it again")
    if sample_rate <= 0:
        raise UserError(
            f"a sample rate of {sample_rate} Hz is not possible: give that of the audio"
        )
    if sample_rate != SAMPLE_RATE and samples.size:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    if samples.size < 30 * CLICK_BLOCK or not samples.any():
        return []
    signal = samples.astype(np.float64)
    found = _clicks(signal) + _pops(signal)
    return sorted(found, key=lambda artifact: artifact.start)


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
    predictor = _levinson(correlation)
    spans = np.lib.stride_tricks.sliding_window_view(padded, HOP + ORDER)[lead - ORDER :: HOP]
    history = np.lib.stride_tricks.sliding_window_view(spans[:count], ORDER + 1, axis=1)
    filtered = np.einsum("fhp,fp->fh", history, predictor[:, ::-1])
    flat: Curve = filtered.reshape(-1)[: signal.size]
    return flat


def _levinson(correlation: Curve) -> Curve:
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


def _clicks(signal: Curve) -> list[Artifact]:
    peaks = _block_peaks(residual(signal), CLICK_BLOCK)
    # Only the tops of neighbouring blocks count as surroundings, and the highest of them is
    # passed over, so that a second click near by does not hide the first.
    tops = np.where(maximum_filter1d(peaks, 5) == peaks, peaks, 0.0)
    before, after = _surroundings(tops, back=20, near=3, skip=6, ahead=20)
    around = np.concatenate([before, after], axis=1)
    second = np.partition(around, -2, axis=1)[:, -2]
    score = peaks / (second + CLICK_FLOOR) / np.sqrt(_rise(signal, peaks))
    score = np.where(peaks > CLICK_LEAST, score, 0.0)
    return _events("click", score, peaks, CLICK_BLOCK, CLICK_THRESHOLD, longest=6)


def _rise(signal: Curve, peaks: Curve) -> Curve:
    """Return by how much the 20 to 40 ms after each block are louder than those before, at least 1.

    Taken from the residual and from the signal itself, whichever rises more: where silence goes
    before and noise or voice follows, a click is the release of a stop.
    """
    loud = _block_peaks(signal, CLICK_BLOCK)
    before, after = _surroundings(loud, back=40, near=3, skip=6, ahead=40)
    heard = (after.mean(axis=1) + RISE_FLOOR) / (before.mean(axis=1) + RISE_FLOOR)
    before, after = _surroundings(peaks, back=20, near=3, skip=6, ahead=20)
    whitened = (np.median(after, axis=1) + CLICK_FLOOR) / (np.median(before, axis=1) + CLICK_FLOOR)
    rise: Curve = np.maximum(1.0, np.maximum(heard, whitened))
    return rise


def _pops(signal: Curve) -> list[Artifact]:
    low = sosfiltfilt(butter(2, 100.0, fs=SAMPLE_RATE, output="sos"), signal)
    peaks = _block_peaks(low, POP_BLOCK)
    # A pop has died away after 70 ms, where a low voice has only begun.
    before, after = _surroundings(peaks, back=30, near=3, skip=14, ahead=26)
    highest = np.maximum(before.max(axis=1), after.max(axis=1))
    score = np.where(peaks > POP_LEAST, peaks / (highest + POP_FLOOR), 0.0)
    return _events("pop", score, peaks, POP_BLOCK, POP_THRESHOLD, longest=12)


def _block_peaks(signal: Curve, size: int) -> Curve:
    """Return the greatest magnitude (M,) of each whole or begun block of `size` samples."""
    padded = np.pad(np.abs(signal), (0, -signal.size % size))
    peaks: Curve = padded.reshape(-1, size).max(axis=1)
    return peaks


def _surroundings(peaks: Curve, back: int, near: int, skip: int, ahead: int) -> tuple[Curve, Curve]:
    """Return what lies before and after each block: (M, back) and (M, ahead).

    The `back` blocks end `near` before it, the `ahead` blocks begin `skip` after it; beyond the
    ends there is silence.
    """
    padded = np.pad(peaks, (back + near, skip + ahead))
    windows = np.lib.stride_tricks.sliding_window_view(padded, back + near + 1 + skip + ahead)
    return windows[:, :back], windows[:, back + near + 1 + skip :]


def _events(
    kind: str, score: Curve, peaks: Curve, size: int, threshold: float, longest: int
) -> list[Artifact]:
    """Make artifacts of the blocks whose score reaches the threshold, near ones merged.

    An event spans the blocks around its top that reach a third of it, at most `longest` blocks.
    """
    seconds = size / SAMPLE_RATE
    events: list[Artifact] = []
    for top in np.flatnonzero(score >= threshold):
        first = last = int(top)
        while first > 0 and last - first < longest - 1 and peaks[first - 1] > peaks[top] / 3:
            first -= 1
        while (
            last + 1 < peaks.size
            and last - first < longest - 1
            and peaks[last + 1] > peaks[top] / 3
        ):
            last += 1
        event = Artifact(kind, first * seconds, (last + 1) * seconds, float(score[top]))
        if events and event.start - events[-1].end < MERGE:
            previous = events.pop()
            event = Artifact(
                kind,
                min(previous.start, event.start),
                max(previous.end, event.end),
                max(previous.strength, event.strength),
            )
        events.append(event)
    return events


def repetition(tokens: ArrayLike) -> float:
    """Return the share of tokens (T,) that are stuck or loop; 0 where there are no tokens.

    Stuck: the same id at least five times in a row, as in long silence too. A loop: a pattern of
    2 to 16 tokens at least three times in a row.

    Examples:
        >>> repetition([1, 2, 3, 7, 7, 7, 7, 7, 4, 5])
        0.5
    """
    ids = _ids(tokens)
    repeated = np.zeros(ids.size, dtype=bool)
    for period in range(1, min(LONGEST_LOOP, ids.size - 1) + 1):
        rounds = STUCK if period == 1 else LOOPS
        same = np.concatenate([[0], (ids[period:] == ids[:-period]).astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(same))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start >= period * (rounds - 1):
                repeated[start : stop + period] = True
    return float(repeated.mean()) if ids.size else 0.0


def distinct(tokens: ArrayLike) -> float:
    """Return how many different ids there are per token of (T,); 0 where there are no tokens.

    Examples:
        >>> distinct([1, 1, 2, 3])
        0.75
    """
    ids = _ids(tokens)
    return float(np.unique(ids).size / ids.size) if ids.size else 0.0


def _ids(tokens: ArrayLike) -> NDArray[np.int64]:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise UserError(
            f"tokens have shape {ids.shape} and type {ids.dtype}: give whole numbers (T,)"
        )
    return ids.astype(np.int64)
