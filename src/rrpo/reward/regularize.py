"""The hybrid regularization of RRPO (arXiv 2512.04552): three components, three equations.

Label smoothing acts on the targets, energy-adaptive mixup on the audio before it is tokenized or,
as another reading, on the embeddings of the tokens, adversarial training on the embedding that
enters the head.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SILENCE_ENERGY = 10.0 ** (-60.0 / 10.0)
"""Mean square of a segment at -60 dBFS, full scale being an amplitude of 1."""
REDRAWS = 5
"""Draws of a pair of segments before a silent utterance is left unmixed."""

Audio = NDArray[np.float32]


def label_smoothing(targets: Tensor, epsilon: float = 0.1) -> Tensor:
    """Smooth target distributions (B, K): y'_k = (1 - epsilon) y_k + epsilon / K.

    RRPO's first component, against over-confidence. It is linear, so it commutes with
    `mixed_targets`.

    Raises:
        ValueError: epsilon lies outside [0, 1].

    Examples:
        >>> label_smoothing(torch.tensor([[1.0, 0.0]]), epsilon=0.5)
        tensor([[0.7500, 0.2500]])
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon of label smoothing is {epsilon}: expected 0 to 1")
    return (1.0 - epsilon) * targets + epsilon / targets.shape[-1]


def mixed_targets(targets: Tensor, partner_targets: Tensor, weight: Tensor) -> Tensor:
    """Mix target distributions (B, K), (B, K) by the weights lambda (B,) of the partners.

    Cross-entropy is linear in its target, so the cross-entropy with (1 - lambda) y_i + lambda y_j
    is RRPO's (1 - lambda) CE(y_i) + lambda CE(y_j).

    Examples:
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> mixed_targets(one, other, torch.tensor([0.25]))
        tensor([[0.7500, 0.2500]])
    """
    return torch.lerp(targets, partner_targets, weight.to(targets.dtype)[:, None])


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
    sign: Literal["level", "snr"] = "level",
) -> tuple[Audio, float]:
    """Add a segment of a partner to an utterance, at a drawn level: RRPO's second component.

    A length l_mix ~ U{1 ... min(l_i / 2, l_j)} and a segment of that length in each are drawn; with
    E_i, E_j their energies and r ~ U[min_db, max_db], the partner's is scaled to the energy
    E'_j = rho E_i, rho = 10^(r/10), and added onto the other. The partner's share of the label is
    lambda = (l_mix / l_i) E'_j / (E_i + E'_j) = (l_mix / l_i) rho / (1 + rho), below 1/2.

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
        sign: "level": r is the partner's level relative to the utterance; "snr": r is the
            utterance's relative to the partner, rho = 10^(-r/10).

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
        level = rng.uniform(min_db, max_db) * (1.0 if sign == "level" else -1.0)
        ratio = 10.0 ** (level / 10.0)
        mixed = audio_i.astype(np.float64)
        mixed[start_i : start_i + length] += partner * np.sqrt(ratio * energy_i / energy_j)
        mixed /= max(1.0, float(np.abs(mixed).max()))
        return mixed.astype(np.float32), (length / audio_i.size) * ratio / (1.0 + ratio)
    return unmixed, 0.0


def embedding_mixup(
    embeddings: Tensor,
    partners: Tensor,
    lengths: Sequence[int],
    partner_lengths: Sequence[int],
    rng: np.random.Generator,
    min_db: float = -5.0,
    max_db: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Mix a segment of a partner into each utterance, both as token embeddings.

    `energy_adaptive_mixup` of embeddings e: lengths are in tokens, what is drawn and the label's
    share lambda are the same. The partner's segment is brought to an energy rho times the
    utterance's own, so lambda hangs on rho and the lengths alone, and where the energy is even
    within a segment the mixture of two tokens by energy is (e_i + rho e_j) / (1 + rho). Energies of
    single tokens are not known here. An utterance of one token is left as it is, with lambda = 0.

    Args:
        embeddings: (B, T, D) of the utterances.
        partners: (B, T', D) of their partners.
        lengths: B, how many tokens of each utterance are valid.
        partner_lengths: B, likewise.
        rng: source of every draw.
        min_db: least r in dB, rho = 10^(r/10).
        max_db: greatest r in dB.

    Returns:
        the mixtures (B, T, D), through which gradients flow into both, and lambda (B,).

    Raises:
        ValueError: an utterance or a partner has no token, or min_db > max_db.
    """
    if min(*lengths, *partner_lengths) < 1:
        raise ValueError("an utterance or a partner has no token: leave it out")
    if min_db > max_db:
        raise ValueError(f"the range of levels is empty: {min_db} dB to {max_db} dB")
    share = torch.zeros(embeddings.shape[:2])
    source = torch.zeros(embeddings.shape[:2], dtype=torch.long)
    weights = torch.zeros(len(embeddings))
    for row, (own, other) in enumerate(zip(lengths, partner_lengths, strict=True)):
        longest = min(own // 2, other)
        if not longest:
            continue
        length = int(rng.integers(1, longest, endpoint=True))
        start = int(rng.integers(0, own - length, endpoint=True))
        first = int(rng.integers(0, other - length, endpoint=True))
        ratio = 10.0 ** (rng.uniform(min_db, max_db) / 10.0)
        share[row, start : start + length] = ratio / (1.0 + ratio)
        source[row, start : start + length] = torch.arange(first, first + length)
        weights[row] = (length / own) * ratio / (1.0 + ratio)
    index = source[..., None].expand(-1, -1, partners.shape[-1]).to(partners.device)
    share = share.to(embeddings)
    return torch.lerp(embeddings, partners.gather(1, index), share[..., None]), weights.to(share)


def adversarial_delta(gradient: Tensor, epsilon: float = 0.5) -> Tensor:
    """Return the perturbation delta = epsilon g / ||g||_2, the norm over the last axis.

    RRPO's third component (fast gradient method, Miyato 2017, arXiv 1605.07725), with g the
    gradient of the loss in the embedding h' that enters the head.

    Args:
        gradient: g (..., D); a vector of zeros, as at padding, gives a delta of zeros.
        epsilon: the length of each delta.

    Returns:
        delta (..., D), detached: no gradient flows through it.
    """
    direction = gradient.detach()
    # Late in training g is so small that its square underflows: bring it to unit size first.
    largest = direction.abs().amax(dim=-1, keepdim=True)
    direction = direction / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = direction.norm(dim=-1, keepdim=True)
    return epsilon * direction / torch.where(norm > 0, norm, torch.ones_like(norm))
