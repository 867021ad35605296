"""Energy-adaptive mixup of audio (arXiv 2512.04552), before it is tokenized."""

import numpy as np

from rrpo.audio import Audio

SILENCE_ENERGY = 10.0 ** (-60.0 / 10.0)
"""Mean square of a segment at -60 dBFS, full scale being an amplitude of 1."""
REDRAWS = 5
"""Draws of a pair of segments before a silent utterance is left unmixed."""


def other_than(index: int, count: int, rng: np.random.Generator) -> int:
    """Draw one of `count` utterances as the partner of another: never itself, unless it is alone.

    Examples:
        >>> {other_than(1, 3, np.random.default_rng(seed)) for seed in range(9)}
        {0, 2}
    """
    if count < 2:
        return index
    return (index + 1 + int(rng.integers(count - 1))) % count


def energy_adaptive_mixup(
    audio_i: Audio,
    audio_j: Audio,
    rng: np.random.Generator,
    min_db: float = -5.0,
    max_db: float = 10.0,
) -> tuple[Audio, float]:
    """Add a segment of a partner's audio to an utterance: EAM before tokenization.

    A length l_mix ~ U{1 ... min(l_i / 2, l_j)} and a segment of that length in each are drawn; with
    E_i, E_j their energies and r ~ U[min_db, max_db] a signal-to-noise ratio, the partner's is
    scaled to the energy E'_j = E_i / 10^(r/10) and added onto the other. The partner's share of the
    label is lambda = (l_mix / l_i) E'_j / (E_i + E'_j) = (l_mix / l_i) / (1 + 10^(r/10)), below
    1/2.

    A draw in which either segment lies under -60 dBFS is repeated; after five the utterance is
    returned unmixed with lambda = 0, as is one of a single sample. Nothing is clipped: if the
    peak of the mixture exceeds 1, the whole mixture is scaled down to a peak of 1, which leaves
    the ratio of the energies, and so lambda, as they are.

    Args:
        audio_i: the utterance (N_i,) float32.
        audio_j: its partner (N_j,) float32, at the same sample rate.
        rng: source of every draw.
        min_db: least r in dB.
        max_db: greatest r in dB; the range is that of arXiv 2512.04551.

    Returns:
        The mixture (N_i,) float32 and lambda.

    Raises:
        ValueError: an input is not 1-D or holds no sample, or min_db > max_db.
    """
    if audio_i.ndim != 1 or audio_j.ndim != 1 or not audio_i.size or not audio_j.size:
        raise ValueError(
            f"audio of shapes {audio_i.shape} and {audio_j.shape}: expected (N,), N at least 1"
        )
    if min_db > max_db:
        raise ValueError(f"the range of levels is empty: {min_db} dB to {max_db} dB")
    unmixed = np.array(audio_i, dtype=np.float32)
    longest = min(audio_i.size // 2, audio_j.size)
    for _ in range(REDRAWS if longest else 0):
        length = int(rng.integers(1, longest, endpoint=True))
        start_i = int(rng.integers(0, audio_i.size - length, endpoint=True))
        start_j = int(rng.integers(0, audio_j.size - length, endpoint=True))
        own = audio_i[start_i : start_i + length].astype(np.float64)
        partner = audio_j[start_j : start_j + length].astype(np.float64)
        energy_i, energy_j = float(own @ own), float(partner @ partner)
        if min(energy_i, energy_j) < SILENCE_ENERGY * length:
            continue
        ratio = 10.0 ** (-rng.uniform(min_db, max_db) / 10.0)
        mixed = audio_i.astype(np.float64)
        mixed[start_i : start_i + length] += partner * np.sqrt(ratio * energy_i / energy_j)
        mixed /= max(1.0, float(np.abs(mixed).max()))
        return mixed.astype(np.float32), (length / audio_i.size) * ratio / (1.0 + ratio)
    return unmixed, 0.0
