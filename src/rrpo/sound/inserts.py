"""Sounds that no emotion needs, to be put into speech."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio

Insert = Callable[[Audio, np.random.Generator], Audio]
"""Puts a sound into audio (N,) at 16 kHz, and may leave it outside of [−1, 1] (see `inserted`)."""


def click(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add three bursts of white noise of a millisecond, with peaks of .2 to .6."""
    return _added(audio, [_burst(rng, 0.001) for _ in range(3)], rng)


def some_clicks(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add one to five bursts of white noise of a millisecond, with peaks of .2 to .6."""
    return _added(audio, [_burst(rng, 0.001) for _ in range(rng.integers(1, 6))], rng)


def pop(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add a swing of 60 to 120 Hz that dies away within 30 ms, as of breath on a microphone."""
    time = np.arange(int(0.03 * SAMPLE_RATE)) / SAMPLE_RATE
    shape = np.sin(2 * np.pi * rng.uniform(60, 120) * time) * np.exp(-time / 0.01)
    return _added(audio, [rng.uniform(0.4, 0.9) * shape], rng)


def plosive(audio: Audio, rng: np.random.Generator) -> Audio:
    """Begin with a burst of noise of 20 ms that dies away, as of a p or t."""
    burst = _burst(rng, 0.02) * np.exp(-np.arange(int(0.02 * SAMPLE_RATE)) / SAMPLE_RATE / 0.006)
    sound = audio.copy()
    sound[: len(burst)] += burst[: len(sound)].astype(np.float32)
    return sound


def hum(audio: Audio, rng: np.random.Generator, below: tuple[float, float] = (15.0, 30.0)) -> Audio:
    """Add 50 or 60 Hz with two overtones, by so many dB under the speech."""
    time = np.arange(len(audio)) / SAMPLE_RATE
    tone = rng.choice([50.0, 60.0])
    shape = sum(np.sin(2 * np.pi * tone * n * time + rng.uniform(0, 6)) / n for n in (1, 2, 3))
    return _under(audio, np.asarray(shape), rng.uniform(*below))


def noise(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add white noise, 10 to 25 dB under the speech."""
    return _under(audio, rng.standard_normal(len(audio)), rng.uniform(10, 25))


def silence(audio: Audio, rng: np.random.Generator) -> Audio:
    """Append .2 to .8 s of silence."""
    return np.pad(audio, (0, int(rng.uniform(0.2, 0.8) * SAMPLE_RATE)))


def gain(audio: Audio, rng: np.random.Generator) -> Audio:
    """Make it louder or softer, by up to 12 dB."""
    return np.asarray(audio * 10 ** (rng.uniform(-12, 12) / 20), dtype=np.float32)


def nothing(audio: Audio, _: np.random.Generator) -> Audio:
    """Change nothing: what tokenizing again does by itself."""
    return audio


# A detector shall know one click as well as five.
INSERTS: dict[str, Insert] = {
    "clicks": some_clicks,
    "pop": pop,
    "plosive": plosive,
    "hum": hum,
    "noise": noise,
    "silence": silence,
    "gain": gain,
}
EVERYWHERE = ("hum", "noise", "gain")
"""Those that change most of an utterance's tokens."""


def inserted(audio: Audio, change: Insert, rng: np.random.Generator) -> Audio:
    """Return a copy of audio (N,) with a sound in it, float32 within [−1, 1]."""
    return np.clip(change(audio.copy(), rng), -1, 1).astype(np.float32)


def _burst(rng: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    shape = rng.standard_normal(int(seconds * SAMPLE_RATE))
    return np.asarray(rng.uniform(0.2, 0.6) * shape / np.abs(shape).max())


def _added(audio: Audio, shapes: list[NDArray[np.float64]], rng: np.random.Generator) -> Audio:
    sound = audio.copy()
    for shape in shapes:
        start = int(rng.integers(max(1, len(sound) - len(shape))))
        part = sound[start : start + len(shape)]
        part += shape[: len(part)].astype(np.float32)
    return sound


def _under(audio: Audio, shape: NDArray[np.float64], level: float) -> Audio:
    power = float(np.mean(audio**2)) * 10 ** (-level / 10)
    scale = np.sqrt(power / max(float(np.mean(shape**2)), 1e-12))
    return np.asarray(audio + scale * shape, dtype=np.float32)
