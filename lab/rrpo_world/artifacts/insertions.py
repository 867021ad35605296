"""Artifacts of known place and level, put into clean speech: what a detector must find."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.evaluate.artifacts.events import loudness

Shape = NDArray[np.float64]

MARGIN = 0.1
"""Seconds at both ends where nothing is inserted."""
SOUNDING = 0.1
"""Level, as a share of the loudness, that a stretch must have to be repeated, held or clipped."""
ROUNDS = (3, 6)
"""Fewest and most times that a looped stretch sounds."""
HELD = (0.02, 0.06)
"""Shortest and longest frame that is held, in seconds."""
CLIPPED = 0.5
"""Seconds that are clipped."""


@dataclass(frozen=True)
class Inserted:
    """Speech (N,) with an artifact between `start` and `end`, in seconds."""

    audio: Audio
    start: float
    end: float


@dataclass(frozen=True)
class Way:
    """A way of inserting: the kind that should be found, its levels and how it is done."""

    kind: str
    levels: tuple[float, ...]
    unit: str
    insert: Callable[[Audio, float, np.random.Generator], Inserted]


def sample_click(_: np.random.Generator) -> Shape:
    """One sample, of unit peak as every shape here."""
    return np.ones(1)


def burst_click(rng: np.random.Generator) -> Shape:
    """Noise that dies away with a time constant of 1 ms."""
    shape = rng.standard_normal(48) * np.exp(-np.arange(48) / 16)
    return np.asarray(shape / np.abs(shape).max())


def double_click(_: np.random.Generator) -> Shape:
    """Two samples of opposite sign, 8 ms apart."""
    shape = np.zeros(SAMPLE_RATE // 125 + 1)
    shape[[0, -1]] = 1.0, -1.0
    return shape


def pop(rng: np.random.Generator) -> Shape:
    """A swing of 60 to 100 Hz that decays within 60 ms."""
    time = np.arange(960) / SAMPLE_RATE
    swing = np.sin(2 * np.pi * rng.uniform(60, 100) * time) * np.exp(-time / 0.015)
    swing *= 1.0 - np.exp(-time / 0.001)
    return np.asarray(swing / np.abs(swing).max())


def plosive(rng: np.random.Generator) -> Shape:
    """A pop with the noise of a release, a third as strong, for 20 ms."""
    time = np.arange(960) / SAMPLE_RATE
    shape = pop(rng) + 0.1 * rng.standard_normal(960) * np.exp(-time / 0.007)
    return np.asarray(shape / np.abs(shape).max())


def _added(
    shape: Callable[[np.random.Generator], Shape], onset: bool = False
) -> Callable[[Audio, float, np.random.Generator], Inserted]:
    """Return a way to add a shape, with the level as its peak, anywhere or at an onset."""

    def insert(audio: Audio, level: float, rng: np.random.Generator) -> Inserted:
        drawn = level * rng.choice([-1.0, 1.0]) * shape(rng)
        start = _onset(audio, rng) if onset else _place(audio, drawn.size, rng)
        changed = audio.copy()
        changed[start : start + drawn.size] += drawn[: changed.size - start].astype(np.float32)
        return _inserted(np.clip(changed, -1, 1), start, drawn.size)

    return insert


def looped(audio: Audio, level: float, rng: np.random.Generator) -> Inserted:
    """Say a stretch of `level` seconds three to six times."""
    size = round(level * SAMPLE_RATE)
    rounds = int(rng.integers(ROUNDS[0], ROUNDS[1] + 1))
    return _again(audio, _sounding(audio, size, rng), size, rounds)


def held(audio: Audio, level: float, rng: np.random.Generator) -> Inserted:
    """Say one short frame for `level` seconds."""
    size = round(rng.uniform(*HELD) * SAMPLE_RATE)
    start = _sounding(audio, size, rng)
    return _again(audio, start, size, max(2, round(level * SAMPLE_RATE / size)))


def silenced(audio: Audio, level: float, rng: np.random.Generator) -> Inserted:
    """Put `level` seconds of digital silence between two sounds."""
    size = round(level * SAMPLE_RATE)
    start = _sounding(audio, SAMPLE_RATE // 10, rng) + SAMPLE_RATE // 20
    gap = np.zeros(size, np.float32)
    return _inserted(np.concatenate([audio[:start], gap, audio[start:]]), start, size)


def clipped(audio: Audio, level: float, rng: np.random.Generator) -> Inserted:
    """Cut the tops of half a second, `level` dB under its peak."""
    size = min(round(CLIPPED * SAMPLE_RATE), audio.size // 2)
    start = _sounding(audio, size, rng)
    part = audio[start : start + size]
    top = float(np.abs(part).max()) * 10.0 ** (-level / 20.0)
    cut = audio.copy()
    cut[start : start + size] = np.clip(part, -top, top)
    return _inserted(cut, start, size)


PEAKS = (0.05, 0.1, 0.2, 0.3, 0.5)
WAYS: dict[str, Way] = {
    "click, one sample": Way("click", PEAKS, "peak", _added(sample_click)),
    "click, 1 ms burst": Way("click", PEAKS, "peak", _added(burst_click)),
    "click, two 8 ms apart": Way("click", PEAKS, "peak", _added(double_click)),
    "pop": Way("pop", PEAKS, "peak", _added(pop)),
    "plosive at an onset": Way("pop", PEAKS, "peak", _added(plosive, onset=True)),
    "loop": Way("repetition", (0.08, 0.15, 0.25, 0.4), "s, three to six rounds", looped),
    "held frame": Way("stuck", (0.3, 0.5, 1.0), "s of a frame of 20 to 60 ms", held),
    "silence": Way("silence", (0.3, 0.5, 0.8, 1.0, 1.5), "s between sounds", silenced),
    "clipping": Way("clipping", (1.0, 3.0, 6.0, 12.0), "dB under the peak, 0.5 s", clipped),
}


def _inserted(audio: Audio, start: int, size: int) -> Inserted:
    sound = np.asarray(audio, np.float32)
    return Inserted(sound, start / SAMPLE_RATE, (start + size) / SAMPLE_RATE)


def _again(audio: Audio, start: int, size: int, rounds: int) -> Inserted:
    part = audio[start : start + size]
    whole = np.concatenate([audio[:start], np.tile(part, rounds), audio[start + size :]])
    return _inserted(whole, start, rounds * size)


def _place(audio: Audio, size: int, rng: np.random.Generator) -> int:
    """Draw where something of `size` samples begins."""
    margin = min(round(MARGIN * SAMPLE_RATE), audio.size // 4)
    return int(rng.integers(margin, max(margin + 1, audio.size - margin - size)))


def _sounding(audio: Audio, size: int, rng: np.random.Generator) -> int:
    """Draw a place whose `size` samples are not silent; after 50 tries the loudest of them."""
    least = SOUNDING * loudness(np.asarray(audio, np.float64))
    best, loudest = 0, -1.0
    for _ in range(50):
        start = _place(audio, size, rng)
        level = float(np.sqrt(np.mean(np.square(audio[start : start + size]))))
        if level > loudest:
            best, loudest = start, level
        if level >= least:
            return start
    return best


def _onset(audio: Audio, rng: np.random.Generator) -> int:
    """Draw one of the places where 20 ms of sound follow 20 ms that are 10 dB softer."""
    size = SAMPLE_RATE // 50
    count = audio.size // size
    power = np.square(audio[: count * size].astype(np.float64)).reshape(-1, size).mean(axis=1)
    loud = power > (SOUNDING * loudness(audio.astype(np.float64))) ** 2
    rising = np.flatnonzero(loud[1:] & (power[1:] > 10.0 * power[:-1])) + 1
    inside = rising[(rising * size > MARGIN * SAMPLE_RATE) & (rising < count - 4)]
    return int(rng.choice(inside)) * size if inside.size else _place(audio, 960, rng)
