"""Sounds like speech with a known truth: vowels, sentences of them, clicks."""

import numpy as np
from scipy.signal import lfilter

from rrpo.audio import Audio

RATE = 16_000
FORMANTS = [(600, 80), (1200, 100), (2500, 150), (3500, 200)]


def vowel(seconds: float, frequency: float, seed: int) -> Audio:
    """A pulse train with jitter and breath through four formants, swelling and dying away."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    source = rng.normal(0.0, 0.01, size)
    place = 0.0
    while place < size:
        source[int(place)] += 1.0 + 0.05 * rng.normal()
        place += RATE / frequency * (1 + 0.01 * rng.normal())
    sound = lfilter([1.0], [1.0, -0.95], source)
    for centre, width in FORMANTS:
        radius = np.exp(-np.pi * width / RATE)
        turn = 2 * radius * np.cos(2 * np.pi * centre / RATE)
        sound = lfilter([1.0], [1.0, -turn, radius**2], sound)
    sound = np.diff(sound, prepend=0.0) * np.hanning(size) ** 0.5
    return np.asarray(0.7 * sound / np.abs(sound).max(), np.float32)


def sentence(seed: int) -> Audio:
    """Three vowels with pauses and a hiss between them; no click in it."""
    rng = np.random.default_rng(seed)
    hiss = rng.normal(0, 0.03, 2400) * np.hanning(2400)
    parts: list[np.ndarray] = []
    for number, frequency in enumerate((110.0, 190.0, 240.0)):
        parts += [np.zeros(2000), vowel(0.4, frequency, seed + number), hiss]
    audio = np.concatenate([*parts, np.zeros(2000)])
    return np.asarray(audio + rng.normal(0, 1e-4, audio.size), np.float32)


def click(peak: float, rng: np.random.Generator) -> Audio:
    shape = rng.normal(size=32) * np.exp(-3 * np.arange(32) / 32)
    return np.asarray(peak * shape / np.abs(shape).max(), np.float32)
