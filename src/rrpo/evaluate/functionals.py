"""Acoustic functionals: an utterance described by 74 numbers, as the emotion judge hears it.

The description follows the idea of eGeMAPS (Eyben et al. 2016): low-level curves of pitch,
loudness, voice quality and spectrum, summed up by means, spreads, percentiles and slopes.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError

Curve = NDArray[np.float64]

HOP = 160
"""Samples from frame to frame: 10 ms."""
FRAME = 640
"""Samples of a frame: 40 ms, two periods of the lowest pitch."""
TRANSFORM = 1024
"""Points of the Fourier transform: a padded frame, so that its autocorrelation does not wrap."""
LOWEST, HIGHEST = 60.0, 600.0
"""Pitch range in Hz."""
CANDIDATES = 4
"""Pitch candidates kept per frame, beside "unvoiced"."""
VOICED = 0.45
"""Height of a normalised autocorrelation peak at which voiced and unvoiced are equally likely."""
OCTAVE_COST, JUMP_COST, SWITCH_COST = 0.01, 0.35, 0.14
"""Boersma's costs per octave below the highest pitch, per octave of jump, per voicing change."""
BANDS = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
"""Edges in Hz of the bands whose share of the energy is described."""

FREQUENCIES: Curve = np.arange(TRANSFORM // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / TRANSFORM)
WINDOW: Curve = np.hanning(FRAME + 1)[:-1].astype(np.float64)


@dataclass(frozen=True)
class Pitch:
    """Pitch per frame: `frequency` in Hz, 0 where unvoiced, `strength` 0 to 1; both (M,)."""

    frequency: Curve
    strength: Curve


def frames(audio: Audio) -> NDArray[np.float64]:
    """Cut audio (N,) into frames (M, FRAME), M at least 1, padded with silence at both ends."""
    count = max(1, audio.size // HOP)
    padded = np.zeros((count - 1) * HOP + FRAME)
    kept = audio[: padded.size - FRAME // 2].astype(np.float64)
    padded[FRAME // 2 : FRAME // 2 + kept.size] = kept
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]


def pitch(audio: Audio) -> Pitch:
    """Track the pitch of audio (N,), 16 kHz, every 10 ms.

    The autocorrelation of each windowed frame is divided by that of the window, its peaks are the
    candidates, and the cheapest path through them is taken (Boersma 1993, "Accurate short-term
    analysis of the fundamental frequency", IFA Proceedings 17).
    """
    cut = frames(audio)
    cut = cut - cut.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(cut * WINDOW, TRANSFORM)) ** 2
    correlation = np.fft.irfft(spectrum)[:, : TRANSFORM // 2]
    window = np.fft.irfft(np.abs(np.fft.rfft(WINDOW, TRANSFORM)) ** 2)[: TRANSFORM // 2]
    energy = correlation[:, :1]
    loudest = float(energy.max())
    normal = correlation / np.maximum(energy, 1e-12) / (window / window[0])
    shortest, longest = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    lags, heights = _peaks(normal[:, shortest - 1 : longest + 2], shortest)
    # Boersma's "unvoiced" gains where the frame is quiet against the loudest one.
    quiet = np.sqrt(energy[:, 0] / max(loudest, 1e-12)) / 0.03
    unvoiced = VOICED + np.maximum(0.0, 2.0 - quiet / (1 + VOICED))
    if loudest < 1e-7:
        unvoiced[:] = 9.0
    frequency = np.where(heights > 0, SAMPLE_RATE / np.maximum(lags, 1.0), 0.0)
    return _path(frequency, heights, unvoiced)


def _peaks(normal: Curve, shortest: int) -> tuple[Curve, Curve]:
    """Return lags and heights (M, CANDIDATES) of the highest peaks; height 0 where there is none.

    Column 0 of `normal` (M, L) is the lag just below the shortest.
    """
    before, here, after = normal[:, :-2], normal[:, 1:-1], normal[:, 2:]
    top = (here > before) & (here >= after) & (here > 0.2)
    curvature = np.minimum(before - 2 * here + after, -1e-9)
    shift = np.clip((before - after) / (2 * curvature), -0.5, 0.5)
    height = np.clip(here - (before - after) * shift / 4, 0.0, 1.0)
    lag = shortest + np.arange(here.shape[1]) + shift
    rank = np.where(top, height - OCTAVE_COST * np.log2(lag), -1.0)
    chosen = np.argpartition(-rank, CANDIDATES, axis=1)[:, :CANDIDATES]
    found = np.take_along_axis(top, chosen, 1)
    return (
        np.where(found, np.take_along_axis(lag, chosen, 1), 0.0),
        np.where(found, np.take_along_axis(height, chosen, 1), 0.0),
    )


def _path(frequency: Curve, heights: Curve, unvoiced: Curve) -> Pitch:
    """Find the cheapest path through candidates (M, C) and "unvoiced" by dynamic programming."""
    count = frequency.shape[0]
    octave = np.log2(np.maximum(frequency, LOWEST))
    voiced_gain = np.where(heights > 0, heights - OCTAVE_COST * (np.log2(HIGHEST) - octave), -1e3)
    gain = np.concatenate([unvoiced[:, None], voiced_gain], axis=1)
    height = np.concatenate([np.full((count, 1), np.nan), octave], axis=1)
    jump = JUMP_COST * np.abs(height[1:, None, :] - height[:-1, :, None])
    jump = np.where(np.isnan(jump), SWITCH_COST, jump)
    jump[:, 0, 0] = 0.0
    total, back = gain[0], np.zeros((count, gain.shape[1]), dtype=np.int64)
    columns = np.arange(gain.shape[1])
    for frame in range(1, count):
        reached = total[:, None] - jump[frame - 1]
        back[frame] = reached.argmax(axis=0)
        total = reached[back[frame], columns] + gain[frame]
    path = np.zeros(count, dtype=np.int64)
    path[-1] = int(total.argmax())
    for frame in range(count - 1, 0, -1):
        path[frame - 1] = back[frame, path[frame]]
    rows, column = np.arange(count), np.maximum(path - 1, 0)
    voiced = path > 0
    return Pitch(
        np.where(voiced, frequency[rows, column], 0.0),
        np.where(voiced, heights[rows, column], 0.0),
    )


def describe(audio: Audio) -> dict[str, float]:
    """Return the functionals of audio (N,), 16 kHz, by name; all finite, also for silence.

    Pitch in semitones above 27.5 Hz, levels and ratios in dB, lengths in seconds, rates per second.

    Raises:
        UserError: the audio is empty, not one-dimensional or not finite.
    """
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or samples.size == 0:
        raise UserError(f"audio to be judged has shape {samples.shape}: give mono samples (N,)")
    if not np.isfinite(samples).all():
        raise UserError("audio to be judged holds NaN or infinite samples: render it again")
    tracked = pitch(samples)
    power = np.abs(np.fft.rfft(frames(samples) * WINDOW, TRANSFORM)) ** 2 + 1e-9
    level = 10 * np.log10(power.sum(axis=1) / TRANSFORM)
    spoken = level > max(float(level.max()) - 35.0, -60.0)
    voiced = (tracked.frequency > 0) & spoken
    values = _melody(tracked, voiced)
    values |= _loudness(level, spoken)
    values |= _timing(level, voiced, spoken)
    values |= _timbre(power, tracked, voiced, spoken)
    return {name: float(np.nan_to_num(value)) for name, value in values.items()}


def _sum_up(name: str, curve: Curve, spread: bool = True) -> dict[str, float]:
    """Return mean, and with `spread` deviation, percentiles 20, 50, 80 and their range."""
    if curve.size == 0:
        curve = np.zeros(1)
    values = {f"{name}_mean": float(curve.mean())}
    if spread:
        low, middle, high = np.percentile(curve, (20, 50, 80))
        values |= {f"{name}_deviation": float(curve.std()), f"{name}_p20": float(low)}
        values |= {f"{name}_p50": float(middle), f"{name}_p80": float(high)}
        values[f"{name}_range"] = float(high - low)
    return values


def _moderate(name: str, curve: Curve) -> dict[str, float]:
    """Return mean and deviation."""
    if curve.size == 0:
        curve = np.zeros(1)
    return {f"{name}_mean": float(curve.mean()), f"{name}_deviation": float(curve.std())}


def _slope(curve: Curve, where: NDArray[np.int64]) -> float:
    """Return the least-squares slope per second of a curve at the frames `where`."""
    if where.size < 5:
        return 0.0
    time = where * (HOP / SAMPLE_RATE)
    centred = time - time.mean()
    return float(centred @ (curve - curve.mean()) / (centred @ centred))


def _melody(tracked: Pitch, voiced: NDArray[np.bool_]) -> dict[str, float]:
    where = np.flatnonzero(voiced)
    tone = 12 * np.log2(np.maximum(tracked.frequency, 27.5) / 27.5)
    sung = tone[where]
    values = _sum_up("pitch", sung)
    values["pitch_slope"] = _slope(sung, where)
    last = where[where >= where[-1] - 40] if where.size else where
    values["pitch_final_slope"] = _slope(tone[last], last)
    neighbours = np.flatnonzero(voiced[1:] & voiced[:-1])
    step = (tone[neighbours + 1] - tone[neighbours]) * (SAMPLE_RATE / HOP)
    step = np.clip(step, -200.0, 200.0)
    values |= _moderate("pitch_rise", step[step > 0])
    values |= _moderate("pitch_fall", step[step < 0])
    inner = np.flatnonzero(voiced[2:] & voiced[1:-1] & voiced[:-2])
    bend = np.abs(tone[inner + 2] - 2 * tone[inner + 1] + tone[inner])
    values["pitch_jitter"] = float(np.median(bend)) if bend.size else 0.0
    strength = np.clip(tracked.strength[where], 1e-3, 1 - 1e-3)
    return values | _sum_up("harmonicity", 10 * np.log10(strength / (1 - strength)))


def _loudness(level: Curve, spoken: NDArray[np.bool_]) -> dict[str, float]:
    where = np.flatnonzero(spoken)
    values = _sum_up("level", level[where])
    values["level_slope"] = _slope(level[where], where)
    both = np.flatnonzero(spoken[1:] & spoken[:-1])
    step = level[both + 1] - level[both]
    values |= _moderate("level_rise", step[step > 0])
    values |= _moderate("level_fall", step[step < 0])
    inner = np.flatnonzero(spoken[2:] & spoken[1:-1] & spoken[:-2])
    bend = np.abs(level[inner + 2] - 2 * level[inner + 1] + level[inner])
    return values | {"level_shimmer": float(np.median(bend)) if bend.size else 0.0}


def _timing(level: Curve, voiced: NDArray[np.bool_], spoken: NDArray[np.bool_]) -> dict[str, float]:
    from scipy.signal import find_peaks  # takes a second, which most commands do not need

    where = np.flatnonzero(spoken)
    inside = slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0, 1)
    seconds = (inside.stop - inside.start) * HOP / SAMPLE_RATE
    runs = _runs(voiced[inside])
    values = _moderate("voiced_length", np.array([n for on, n in runs if on], dtype=np.float64))
    values |= _moderate("unvoiced_length", np.array([n for on, n in runs if not on], float))
    values["voiced_share"] = float(voiced[inside].mean())
    values["voiced_rate"] = sum(on for on, _ in runs) / seconds
    values["pause_share"] = float(1 - spoken[inside].mean())
    envelope = np.maximum(level[inside] - level.max(), -35.0)
    smooth = np.convolve(envelope, np.hanning(9) / np.hanning(9).sum(), mode="same")
    # Two decibels of dip between tops keep the ripple on one vowel from counting as syllables.
    tops, _ = find_peaks(np.pad(smooth, 1, constant_values=-35.0), height=-25.0, prominence=2.0)
    values["syllable_rate"] = tops.size / seconds
    size = max(512, envelope.size)  # of the whole: a shorter one would cut the end off
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(envelope.size), size))
    rate = np.fft.rfftfreq(size, HOP / SAMPLE_RATE)
    band = (rate >= 1) & (rate <= 16)
    weight = spectrum[band] ** 2 + 1e-9
    values["modulation_centre"] = float(weight @ rate[band] / weight.sum())
    slow = weight[rate[band] < 4].sum() / weight.sum()
    return values | {"modulation_slow_share": float(slow)}


def _runs(flags: NDArray[np.bool_]) -> list[tuple[bool, float]]:
    """Return (value, seconds) of each run of equal flags."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8))) + 1
    bounds = np.concatenate([[0], edges, [flags.size]])
    return [
        (bool(flags[start]), float(stop - start) * HOP / SAMPLE_RATE)
        for start, stop in pairwise(bounds)
        if stop > start
    ]


def _timbre(
    power: Curve, tracked: Pitch, voiced: NDArray[np.bool_], spoken: NDArray[np.bool_]
) -> dict[str, float]:
    def band(low: float, high: float) -> Curve:
        total: Curve = power[:, _between(low, high)].sum(axis=1)
        return total

    def peak(low: float, high: float) -> Curve:
        highest: Curve = power[:, _between(low, high)].max(axis=1)
        return highest

    curves = {
        "alpha_ratio": 10 * np.log10(band(50, 1000) / band(1000, 5000)),
        "hammarberg": 10 * np.log10(peak(0, 2000) / peak(2000, 5000)),
        "tilt_low": _tilt(power, 80, 500),
        "tilt_middle": _tilt(power, 500, 1500),
        "tilt_high": _tilt(power, 1500, 6000),
        "centroid": power @ FREQUENCIES / power.sum(axis=1) / 1000,
    }
    total = power.sum(axis=1)
    for low, high in pairwise(BANDS):
        curves[f"band_{int(low)}"] = 10 * np.log10(band(low, high) / total)
    values: dict[str, float] = {}
    for name, curve in curves.items():
        values |= _moderate(f"voiced_{name}", curve[voiced])
    rest = spoken & ~voiced
    for name in ("alpha_ratio", "centroid", "tilt_high"):
        values |= _sum_up(f"unvoiced_{name}", curves[name][rest], spread=False)
    amplitude = np.sqrt(power / total[:, None])
    change = np.sqrt(((amplitude[1:] - amplitude[:-1]) ** 2).sum(axis=1))
    values |= _moderate("flux", change[spoken[1:]])
    return values | _harmonics(power, tracked, voiced)


def _between(low: float, high: float) -> NDArray[np.bool_]:
    """Return which bins (F,) lie from `low` to below `high` Hz."""
    return (low <= FREQUENCIES) & (high > FREQUENCIES)


def _tilt(power: Curve, low: float, high: float) -> Curve:
    """Return the slope of the log spectrum between two frequencies, dB per kHz, (M,)."""
    inside = _between(low, high)
    kilohertz = FREQUENCIES[inside] / 1000
    centred = kilohertz - kilohertz.mean()
    slope: Curve = 10 * np.log10(power[:, inside]) @ centred / (centred @ centred)
    return slope


def _harmonics(power: Curve, tracked: Pitch, voiced: NDArray[np.bool_]) -> dict[str, float]:
    """Describe the first harmonic against the second and against the third formant's region.

    A breathy voice has a strong first harmonic, a pressed one a weak one (Hanson 1997).
    """
    where = np.flatnonzero(voiced)
    width = SAMPLE_RATE / TRANSFORM
    bins = np.rint(tracked.frequency[where] / width).astype(np.int64)

    def near(centre: NDArray[np.int64]) -> Curve:
        around = np.clip(centre[:, None] + np.arange(-2, 3), 0, power.shape[1] - 1)
        highest: Curve = power[where[:, None], around].max(axis=1)
        return highest

    first, second = near(bins), near(2 * bins)
    third = power[where][:, _between(2300, 3300)].max(axis=1)
    values = _moderate("first_second_harmonic", 10 * np.log10(first / second))
    return values | _moderate("first_harmonic_third_formant", 10 * np.log10(first / third))


@cache
def names() -> tuple[str, ...]:
    """Return the names of the F features, in their order."""
    return tuple(describe(np.zeros(SAMPLE_RATE // 2, dtype=np.float32)))


def functionals(audio: Audio) -> NDArray[np.float32]:
    """Return the functionals of audio (N,), 16 kHz, as (F,) float32 in the order of `names`."""
    return np.array(list(describe(audio).values()), dtype=np.float32)
