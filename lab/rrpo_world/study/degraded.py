"""Speech degraded in six ways, in its sound or in its tokens, more and more."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import Audio
from rrpo_world.codec_corpus import transient
from rrpo_world.corpus import add_noise

Tokens = NDArray[np.int64]

PEAK = 0.3
"""Of an inserted click or pop; the speech about it is brought to a peak of 0.7."""
REPEATS = 5
"""Times more that a repeated token is said: a fifth of a second each."""
LEVELS: dict[str, tuple[float, ...]] = {
    "clicks": (0, 1, 2, 5, 10),
    "pops": (0, 1, 2, 5, 10),
    "noise": (0, 1, 2, 3, 4),
    "held token": (0, 5, 10, 20, 40),
    "repeated tokens": (0, 1, 2, 5, 10),
    "exchanged tokens": (0, 0.1, 0.25, 0.5, 1.0),
}
UNITS = {
    "clicks": "clicks of peak 0.3 an utterance",
    "pops": "pops of peak 0.3 an utterance",
    "noise": "10 dB steps from 40 dB under the speech",
    "held token": "times one token more is said",
    "repeated tokens": f"tokens said {REPEATS} times more",
    "exchanged tokens": "share of tokens that change places",
}


def _insert(kind: str) -> Callable[[Audio, float, np.random.Generator], Audio]:
    def insert(sound: Audio, level: float, rng: np.random.Generator) -> Audio:
        changed = sound.copy()
        for _ in range(int(level)):
            shape = PEAK * transient(kind, rng)
            start = int(rng.integers(0, max(1, sound.size - shape.size)))
            changed[start : start + shape.size] += shape[: changed.size - start]
        return np.clip(changed, -1.0, 1.0)

    return insert


def _noise(sound: Audio, level: float, rng: np.random.Generator) -> Audio:
    return add_noise(sound, 50.0 - 10.0 * level, rng) if level else sound


def hold(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Say one token of the middle half `level` more times."""
    place = int(rng.integers(tokens.size // 4, 3 * tokens.size // 4))
    return np.insert(tokens, place, np.repeat(tokens[place], int(level)))


def repeat(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Say `level` tokens `REPEATS` more times each, wherever they stand."""
    counts = np.ones(tokens.size, dtype=np.int64)
    counts[rng.permutation(tokens.size)[: int(level)]] += REPEATS
    return np.repeat(tokens, counts)


def exchange(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Let a share of the tokens change places at random."""
    chosen = rng.permutation(tokens.size)[: round(level * tokens.size)]
    changed = tokens.copy()
    changed[np.sort(chosen)] = tokens[chosen]
    return changed


IN_SOUND: dict[str, Callable[[Audio, float, np.random.Generator], Audio]] = {
    "clicks": _insert("click"),
    "pops": _insert("pop"),
    "noise": _noise,
}
IN_TOKENS: dict[str, Callable[[Tokens, float, np.random.Generator], Tokens]] = {
    "held token": hold,
    "repeated tokens": repeat,
    "exchanged tokens": exchange,
}
