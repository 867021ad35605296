"""How loud sounds are, how they are made equally loud, and the sounds of checks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError

BLOCK = 0.4
"""Seconds of the meter's blocks: of less there is no loudness."""
GATE = -70.0
"""LUFS under which the standard's meter leaves a block out."""
LOWERED = 7.0
"""Decibels by which all sounds are made quieter at most, so that the loudest peak fits."""
PEAK = -1.0
"""Decibels under full scale that no sample goes beyond."""
BAND = 3500.0
"""Hz above which the low anchor has nothing, as in ITU-R BS.1534."""
NOISE = 20.0
"""Decibels of the low anchor's noise under its speech."""
CLICK_EVERY = 0.5
"""Seconds between the low anchor's clicks."""
ANCHOR = (
    f"low-passed at {BAND / 1000:g} kHz, with white noise {NOISE:g} dB under the speech and a "
    f"click every {CLICK_EVERY:g} s"
)
"""What was done to the low anchor, in words."""


@dataclass(frozen=True)
class Levels:
    """Gains in dB, one for each sound, the loudness that they lead to, and what is to be said."""

    gains: list[float]
    loudness: float
    notes: list[str]


def loudness_of(audio: Audio, rate: int) -> float:
    """Return the loudness of audio (N,) in LUFS by ITU-R BS.1770-4; −inf of silence.

    The meter's blocks are 0.4 s long. What is shorter is repeated until it fills one: its mean
    square, which the loudness is of, stays the same.
    """
    try:
        import pyloudnorm
    except ModuleNotFoundError:
        raise UserError("pyloudnorm is not installed: pip install 'rrpo[listen]'") from None
    least = math.ceil(BLOCK * rate) + 1
    samples = np.asarray(audio, dtype=np.float64)
    if samples.size < least:
        samples = np.resize(samples, least)
    return float(pyloudnorm.Meter(rate, block_size=BLOCK).integrated_loudness(samples))


def level(sounds: Sequence[tuple[str, Audio, int]], loudness: float, peak: float = PEAK) -> Levels:
    """Return the gains that make sounds equally loud, with no sample beyond a peak.

    No limiter is used: it would change the sounds that are judged. Where a peak does not fit, all
    sounds are made quieter alike, by at most 7 dB; a sound that does not fit even then stays
    quieter than the others, and is named.

    Args:
        sounds: name, audio (N,) and samples per second of each.
        loudness: wanted, in LUFS.
        peak: greatest sample, in dB under full scale.

    Raises:
        UserError: nothing is heard in a sound, or too little to be measured.
    """
    measured = []
    for name, audio, rate in sounds:
        found, highest = loudness_of(audio, rate), float(np.abs(audio).max(initial=0.0))
        if not highest > 0:
            raise UserError(
                f"{name}: nothing is heard in it, so it cannot be made as loud as the others: "
                "leave its text out"
            )
        if not math.isfinite(found):
            raise UserError(
                f"{name} is too quiet: under {GATE:g} LUFS nothing is measured, so it cannot be "
                "made as loud as the others: give a louder recording, or leave its text out"
            )
        measured.append((name, found, peak - 20.0 * math.log10(highest)))
    room = min(found + most for _, found, most in measured)
    target = min(loudness, max(room, loudness - LOWERED))
    notes = []
    if target < loudness:
        notes.append(
            f"all sounds are {loudness - target:.1f} dB quieter than {loudness:g} LUFS, so that no "
            f"peak goes beyond {peak:g} dBFS"
        )
    gains = [min(target - found, most) for _, found, most in measured]
    for (name, found, most), gain in zip(measured, gains, strict=True):
        if most < target - found - 0.05:
            notes.append(
                f"{name} is too quiet: {target - found - gain:.1f} dB under the others, as its "
                f"loudest peak reaches {peak:g} dBFS before: give a recording with lower peaks, a "
                f"lower --loudness, or leave its text out"
            )
    return Levels(gains, target, notes)


def amplified(audio: Audio, gain_db: float) -> Audio:
    """Return audio (N,) with a gain."""
    return np.asarray(audio * 10.0 ** (gain_db / 20.0), dtype=np.float32)


def degraded(audio: Audio, rate: int, seed: int) -> Audio:
    """Return the low anchor of audio (N,): see `ANCHOR`.

    The filter is a Butterworth one of order 8, run both ways. A click is one millisecond of a
    decaying alternating sign, of half the greatest sample.
    """
    from scipy.signal import butter, sosfiltfilt

    low = np.asarray(audio, dtype=np.float64)
    if rate > 2.0 * BAND and low.size > 100:
        low = sosfiltfilt(butter(8, BAND, fs=rate, output="sos"), low)
    power = float(np.sqrt(np.mean(np.square(low)))) * 10.0 ** (-NOISE / 20.0)
    low = low + np.random.default_rng(seed).normal(scale=max(power, 1e-9), size=low.size)
    length = max(rate // 1000, 2)
    click = np.exp(-np.arange(length) / (0.3 * length)) * (-1.0) ** np.arange(length)
    click *= 0.5 * float(np.abs(audio).max(initial=0.0))
    step = round(CLICK_EVERY * rate)
    for start in range(step // 2, low.size - length, step):
        low[start : start + length] += click
    return np.asarray(low, dtype=np.float32)


def beeps(count: int) -> Audio:
    """Return short tones of 660 Hz, 0.35 s apart, at 16 kHz: an attention check counts them."""
    tone = np.arange(round(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    edge = np.minimum(1.0, np.minimum(tone, tone[::-1]) / 0.01)
    one = np.concatenate([0.3 * edge * np.sin(2 * np.pi * 660 * tone), np.zeros(3200)])
    return np.asarray(np.concatenate([np.zeros(1600), np.tile(one, count)]), dtype=np.float32)
