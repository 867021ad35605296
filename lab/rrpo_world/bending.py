"""Bending WORLD frames: a prosody and a voice, applied to rate, F0, envelope and aperiodicity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrpo_world.frames import BINS, FLOOR, TOKEN_FRAMES, Analysis, Array, energy
from rrpo_world.prosody import Prosody

F0_LIMITS = (60.0, 600.0)


@dataclass(frozen=True)
class Voice:
    """A speaker made from the packaged one.

    Attributes:
        formant: factor on formant frequencies (longer vocal tract below 1).
        f0: factor on F0.
        rate: factor on speaking rate.
        breathiness: added to `Prosody.breathiness`.
        tilt: added to `Prosody.tilt`, dB per octave.
    """

    formant: float = 1.0
    f0: float = 1.0
    rate: float = 1.0
    breathiness: float = 0.0
    tilt: float = 0.0


def warp_time(analysis: Analysis, rate: float, rng: np.random.Generator) -> Analysis:
    """Change the rate by exp(rate) and put short silences at both ends.

    Vowels stretch more than consonants (as in people: Gay 1978): the logarithm of the factor is
    weighted 1.15 in voiced and 0.7 in unvoiced frames.
    """
    slower = np.where(analysis.f0 > 0.0, -1.15 * rate, -0.7 * rate)
    ends = np.cumsum(np.exp(slower))
    middles = ends - np.exp(slower) / 2
    position = np.interp(np.arange(0.5, ends[-1]), middles, np.arange(len(middles), dtype=float))
    before, after = int(rng.integers(12, 25)), int(rng.integers(20, 36))
    after += -(before + len(position) + after) % TOKEN_FRAMES
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(middles) - 1)
    share = position - low
    nearest = np.where(share < 0.5, low, high)
    both = (analysis.f0[low] > 0.0) & (analysis.f0[high] > 0.0)
    f0 = np.where(
        both,
        analysis.f0[low] * (1.0 - share) + analysis.f0[high] * share,
        analysis.f0[nearest],
    )
    log = np.log(analysis.envelope)
    envelope = np.exp(log[low] * (1.0 - share[:, None]) + log[high] * share[:, None])
    ends_width = ((before, after), (0, 0))
    return Analysis(
        analysis.text,
        np.pad(f0, ends_width[0]),
        np.pad(envelope, ends_width, constant_values=FLOOR),
        np.pad(analysis.aperiodicity[nearest], ends_width, constant_values=1.0),
    )


def _smooth_noise(size: int, width: int, rng: np.random.Generator) -> Array:
    """Return (size,) Gaussian noise of unit deviation, averaged over a Hann window of `width`."""
    window = np.hanning(width + 2)[1:-1]
    window /= np.sqrt(np.square(window).sum())
    return np.convolve(rng.standard_normal(size + width), window, mode="same")[:size]


def bend_f0(f0: Array, prosody: Prosody, voice: Voice, rng: np.random.Generator) -> Array:
    """Move F0 (M,) by the rules; unvoiced frames stay 0."""
    voiced = np.flatnonzero(f0 > 0.0)
    size = len(f0)
    noise = _smooth_noise(size, 3, rng)
    rate, phase = rng.uniform(5.0, 8.0), rng.uniform(0.0, 2.0 * np.pi)
    if len(voiced) == 0:
        return f0.copy()
    semitones = 12.0 * np.log2(f0[voiced])
    mean = semitones.mean()
    span = np.exp(prosody.span)
    # A soft limit keeps rare analysis errors and wide ranges from leaving the voice's compass.
    moved = mean + prosody.level + 12.0 * np.log2(voice.f0)
    moved = moved + 12.0 * np.tanh((semitones - mean) * span / 12.0)
    share = (voiced - voiced[0]) / max(1, voiced[-1] - voiced[0])
    moved += prosody.slope * (share - 0.5)
    to_end = (voiced[-1] - voiced) * 0.005
    moved += prosody.final * np.clip(1.0 - to_end / 0.35, 0.0, 1.0) ** 1.5
    moved += prosody.tremor * np.sin(2.0 * np.pi * rate * 0.005 * voiced + phase)
    moved += prosody.jitter * noise[voiced]
    bent = np.zeros(size)
    bent[voiced] = np.clip(2.0 ** (moved / 12.0), *F0_LIMITS)
    return bent


def warp_frequency(values: Array, factor: float) -> Array:
    """Stretch spectra (M, F) along frequency: the value at f comes from f / factor."""
    source = np.minimum(np.arange(BINS) / factor, BINS - 1.0)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, BINS - 1)
    share = source - low
    return np.ascontiguousarray(values[:, low] * (1.0 - share) + values[:, high] * share)


def shape_envelope(
    envelope: Array,
    voiced: NDArray[np.bool_],
    prosody: Prosody,
    voice: Voice,
    rng: np.random.Generator,
) -> Array:
    """Apply formants, tilt, dynamics and the tremor of the energy to an envelope (M, F)."""
    log = warp_frequency(np.log(envelope), voice.formant * float(np.exp(prosody.formant)))
    level = energy(envelope)
    speech = level > level.max() - 40.0
    octaves = np.log2(np.clip(np.linspace(0.0, 8000.0, BINS), 150.0, 6000.0) / 1000.0)
    strength = np.where(voiced, 1.0, 0.5)[:, None]
    gain = (prosody.tilt + voice.tilt) * strength * octaves
    departure = np.clip(level - level[speech].mean(), -20.0, 15.0)
    window = np.hanning(9)[1:-1]
    change = np.convolve(prosody.dynamics * departure, window / window.sum(), mode="same")
    shake = prosody.tremor * 2.5 * _smooth_noise(len(level), 25, rng)
    gain = gain + np.where(speech, change + shake, change)[:, None]
    return np.ascontiguousarray(np.maximum(np.exp(log + gain * np.log(10.0) / 10.0), FLOOR))


def breathe(
    aperiodicity: Array, voiced: NDArray[np.bool_], prosody: Prosody, voice: Voice
) -> Array:
    """Raise (breathy) or lower (tense) the aperiodicity (M, F) of voiced frames."""
    amount = float(np.clip(prosody.breathiness + voice.breathiness, -0.6, 0.6))
    frequency = np.linspace(0.0, 8000.0, BINS)
    reach = amount / (1.0 + np.exp(-(frequency - 1800.0) / 500.0))
    changed = np.where(
        reach >= 0.0, aperiodicity + (1.0 - aperiodicity) * reach, aperiodicity * (1.0 + reach)
    )
    bounded = np.clip(np.where(voiced[:, None], changed, aperiodicity), 0.001, 1.0)
    return np.ascontiguousarray(bounded)
