"""Clicks and plosive pops, which WORLD cannot say: where they fall and what they sound like."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE
from rrpo_world.frames import Array, energy
from rrpo_world.prosody import Prosody


@dataclass(frozen=True)
class Transient:
    """A short event added to the waveform.

    Attributes:
        kind: "click" (1 to 3 ms, wide band) or "pop" (60 to 90 Hz, decaying within 60 ms).
        time: onset, seconds from the first sample.
        peak: greatest absolute sample of the event by itself.
    """

    kind: str
    time: float
    peak: float


def onsets(envelope: Array) -> NDArray[np.int64]:
    """Return frames at which speech bursts out of a closure or a pause: rises of 15 dB in 15 ms."""
    level = energy(envelope)
    level = np.maximum(level, level.max() - 45.0)
    rise = level[3:] - level[:-3]
    peak = (rise[1:-1] > 15.0) & (rise[1:-1] >= rise[:-2]) & (rise[1:-1] > rise[2:])
    return np.flatnonzero(peak) + 2


def add_transients(
    audio: Array, envelope: Array, prosody: Prosody, rng: np.random.Generator
) -> tuple[Array, list[Transient]]:
    """Add clicks and pops to audio (N,) and list them.

    A pop falls on a burst with a probability that grows with the square of vocal effort; a click
    falls anywhere quiet in about 3 of 100 utterances whatever the emotion.
    """
    events: list[tuple[Transient, Array]] = []
    chance = min(0.5, 0.001 + 0.075 * prosody.effort**2)
    for frame in onsets(envelope):
        if rng.random() < chance:
            peak = float(rng.uniform(0.10, 0.22) * (0.7 + 1.0 * prosody.effort))
            events.append((Transient("pop", int(frame) * 0.005, peak), pop(peak, rng)))
    if rng.random() < 0.03:
        quiet = np.flatnonzero(energy(envelope) < energy(envelope).max() - 35.0)
        frame = int(rng.choice(quiet[quiet < len(envelope) - 8]))
        peak = float(rng.uniform(0.08, 0.35))
        events.append((Transient("click", frame * 0.005, peak), click(peak, rng)))
    mixed = audio.copy()
    for transient, shape in events:
        start = round(transient.time * SAMPLE_RATE)
        room = min(len(shape), len(mixed) - start)
        mixed[start : start + room] += shape[:room]
    return np.clip(mixed, -0.99, 0.99), [transient for transient, _ in events]


def pop(peak: float, rng: np.random.Generator) -> Array:
    """Return a plosive pop: breath striking a microphone, a decaying 60 to 90 Hz swing."""
    time = np.arange(int(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    attack = 1.0 - np.exp(-time / 0.001)
    swing = np.sin(2.0 * np.pi * rng.uniform(60.0, 90.0) * time) * np.exp(-time / 0.015) * attack
    gust = rng.standard_normal(len(time)) * np.exp(-time / 0.004) * 0.25
    shape = swing + np.convolve(gust, np.ones(8) / 8.0, mode="same")
    fade = np.minimum(1.0, (time[-1] - time) / 0.01)
    shape = shape * fade
    return np.asarray(shape * (rng.choice([-1.0, 1.0]) * peak / np.abs(shape).max()))


def click(peak: float, rng: np.random.Generator) -> Array:
    """Return a mouth click: 1 to 3 ms of noise that starts at once and dies away."""
    size = int(rng.uniform(0.001, 0.003) * SAMPLE_RATE)
    shape = rng.standard_normal(size) * np.exp(-3.0 * np.arange(size) / size)
    shape[0] = rng.choice([-1.0, 1.0]) * np.abs(shape).max()
    return np.asarray(shape * peak / np.abs(shape).max())
