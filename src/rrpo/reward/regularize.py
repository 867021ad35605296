"""The hybrid regularization of RRPO (arXiv 2512.04552): three components, and their loss L_ser.

Label smoothing acts on the targets, energy-adaptive mixup on the features that enter the encoder
(the token embeddings) or, as a variant, on the audio before it is tokenized, adversarial training
on the encoder's output. The negative of L_ser, on the frozen model, is the policy's robust reward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rrpo.reward.config import LossConfig
from rrpo.reward.model import RewardModel
from rrpo.sound.audio_mixup import energy_adaptive_mixup as energy_adaptive_mixup

TASK = "emotion"


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


def feature_mixup(
    features: Tensor,
    lengths: Sequence[int],
    rng: np.random.Generator,
    min_db: float = -5.0,
    max_db: float = 10.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each utterance of a batch with another of it: RRPO's second component (EAM).

    Partners are a random permutation of the batch; who would be his own takes the next. For each
    utterance i with partner j, l_mix ~ U(1, l_i / 2), cast to an integer and at most l_j; a segment
    of that length in each is drawn. E is the mean square of the values of a segment. With
    r ~ U[min_db, max_db], a signal-to-noise ratio,

        E'_j = E_i / 10^(r/10),  s'_j = sqrt(E'_j / E_j) s_j,  f'_i = f_i, plus s'_j on the segment,
        lambda_i = (l_mix / l_i) E'_j / (E_i + E'_j) = (l_mix / l_i) / (1 + 10^(r/10)).

    An utterance of a single frame, a batch of one, and a segment without energy are left unmixed,
    lambda = 0.

    Args:
        features: f (B, T, D), what enters the encoder.
        lengths: B, how many frames of each are valid, at least 1; the rest is left as it is.
        rng: source of every draw.
        min_db: least r in dB.
        max_db: greatest r in dB; the range is that of arXiv 2512.04551.

    Returns:
        the mixtures (B, T, D), through which gradients flow into both utterances and both energies,
        the partners (B,) int64 and lambda (B,) in the features' type.

    Raises:
        ValueError: a length is below 1 or above T, there are not B of them, there is no utterance,
            the features are no floating point numbers, or min_db > max_db.
    """
    size, longest = features.shape[:2]
    if not (size and features.is_floating_point()):
        raise ValueError(f"features {tuple(features.shape)} of {features.dtype} cannot be mixed")
    if len(lengths) != size or min(lengths, default=1) < 1 or max(lengths, default=1) > longest:
        raise ValueError(f"lengths {list(lengths)} do not fit features {tuple(features.shape)}")
    if min_db > max_db:
        raise ValueError(f"the range of signal-to-noise ratios is empty: {min_db} to {max_db} dB")
    drawn = _draw_segments(lengths, longest, rng, (min_db, max_db))
    device = features.device
    chosen, keep = drawn.partners.to(device), drawn.inside.to(features)[..., None]
    index = drawn.source.to(device)[..., None].expand_as(features)
    segment = features[chosen].gather(1, index) * keep
    wide = torch.promote_types(features.dtype, torch.float32)  # half precision would overflow
    own_energy, energy = (
        (part * keep).to(wide).square().sum((1, 2)) for part in (features, segment)
    )
    mixed = (own_energy > 0) & (energy > 0)
    wanted = own_energy / drawn.ratios.to(own_energy)
    # Both energies are sums over the same number of values, so their ratio is that of the means.
    scale = torch.where(mixed, wanted / torch.where(mixed, energy, 1.0), 0.0)
    scale = torch.where(mixed, scale, 1.0).sqrt() * mixed
    weights = torch.where(mixed, (drawn.shares / (1.0 + drawn.ratios)).to(energy), 0.0)
    added = (scale[:, None, None] * segment.to(wide)).to(features.dtype)
    return features + added, chosen, weights.to(features.dtype)


class _Segments(NamedTuple):
    """What is mixed into each of B utterances of at most T frames.

    Attributes:
        partners: (B,) int64, whose segment it is.
        inside: (B, T) bool, where it goes; nowhere where nothing is mixed.
        source: (B, T) int64, the partner's frame that goes there.
        ratios: (B,) float64, signal-to-noise ratios.
        shares: (B,) float64, l_mix / l_i.
    """

    partners: Tensor
    inside: Tensor
    source: Tensor
    ratios: Tensor
    shares: Tensor


def _draw_segments(
    lengths: Sequence[int], longest: int, rng: np.random.Generator, decibels: tuple[float, float]
) -> _Segments:
    """Draw the partner, the segments and the level of each utterance (`feature_mixup`)."""
    size = len(lengths)
    drawn = rng.permutation(size).tolist()
    partners = [(i + 1) % size if i == j else j for i, j in enumerate(drawn)]
    inside = torch.zeros(size, longest, dtype=torch.bool)
    source = torch.zeros(size, longest, dtype=torch.int64)
    ratios, shares = torch.ones(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for i, j in enumerate(partners):
        if lengths[i] < 2 or i == j:
            continue
        length = min(int(rng.uniform(1.0, lengths[i] / 2)), lengths[j])
        start = int(rng.integers(lengths[i] - length, endpoint=True))
        first = int(rng.integers(lengths[j] - length, endpoint=True))
        ratios[i] = 10.0 ** (rng.uniform(*decibels) / 10.0)
        shares[i] = length / lengths[i]
        inside[i, start : start + length] = True
        source[i, start : start + length] = torch.arange(first, first + length)
    return _Segments(torch.tensor(partners), inside, source, ratios, shares)


def adversarial_delta(gradient: Tensor, epsilon: float = 0.5) -> Tensor:
    """Return the perturbation delta = epsilon g / ||g||_2, one norm for each utterance.

    RRPO's third component (fast gradient method, Miyato 2017, arXiv 1605.07725), with g the
    gradient of the loss in the embedding h'. The norm is over all frames and dimensions of an
    utterance, so that each utterance is moved by a step of length epsilon.

    Args:
        gradient: g (B, L, D) in the encoder's frames, zero at padding, or (B, D) in one vector an
            utterance. Where it is zero, delta is zero.
        epsilon: the length of each delta.

    Returns:
        delta, shaped as g, detached: no gradient flows through it.

    Raises:
        ValueError: g has fewer than two axes.
    """
    if gradient.ndim < 2:
        raise ValueError(f"gradient of shape {tuple(gradient.shape)}: expected (B, L, D) or (B, D)")
    direction = gradient.detach().flatten(1)
    # Late in training g is so small that its square underflows: bring it to unit size first.
    largest = direction.abs().amax(dim=-1, keepdim=True)
    direction = direction / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = direction.norm(dim=-1, keepdim=True)
    delta = epsilon * direction / torch.where(norm > 0, norm, torch.ones_like(norm))
    return delta.view_as(gradient)


@dataclass(frozen=True)
class EmotionLoss:
    """The parts of L_ser, one figure an utterance, in nats.

    Attributes:
        emotion: L_emo (B,), the cross-entropy with the targets.
        adversarial: L_adv (B,), the same at h' + delta; None where alpha is 0.
        logits: (B, K), at h'.
        delta_ratio: (B,), ||delta|| / ||h'||, norms over all valid frames; None as above.
    """

    emotion: Tensor
    adversarial: Tensor | None
    logits: Tensor
    delta_ratio: Tensor | None

    def total(self, weight: float) -> Tensor:
        """Return L_ser = L_emo + alpha L_adv (B,)."""
        return (
            self.emotion if self.adversarial is None else self.emotion + weight * self.adversarial
        )


def emotion_loss(
    model: RewardModel,
    hidden: Tensor,
    mask: Tensor,
    targets: Tensor,
    constants: LossConfig,
    bias: Tensor | None = None,
) -> EmotionLoss:
    """Return L_emo and L_adv of each utterance: CE(y', p(h')) and CE(y', p(h' + delta)).

    delta = epsilon g / ||g||_2 with g the gradient of L_emo in h' (`adversarial_delta`); it is a
    constant: no gradient flows through it.

    Args:
        model: the reward model.
        hidden: the encoder's output (B, L, D), zero at padding; h' with
            `constants.adversarial_at="frames"`.
        mask: (B, L) bool, true at valid frames.
        targets: y' (B, K), distributions that are smoothed already.
        constants: epsilon_adv, alpha and where delta acts.
        bias: (B, K), added to the logits; None: nothing.
    """
    pooled = model.pool(hidden, mask, TASK)
    logits = model.classify(pooled, TASK)
    emotion = cross_entropy(logits if bias is None else logits + bias, targets)
    if not constants.adversarial_weight:
        return EmotionLoss(emotion, None, logits, None)
    frames = constants.adversarial_at == "frames"

    def classified(embedding: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        vector = model.pool(embedding, mask, TASK) if frames else embedding
        found = model.classify(vector, TASK)
        return cross_entropy(found if bias is None else found + bias, targets)

    embedding = hidden if frames else pooled
    # Delta is needed where the reward itself is asked without gradient. In half precision what a
    # confident model has of one would be nothing: its length is set after it has been rounded.
    single = torch.autocast(embedding.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), single:
        wide = torch.promote_types(embedding.dtype, torch.float32)
        leaf = embedding.detach().to(wide, copy=True).requires_grad_()
        loss = classified(leaf, mask.clone(), targets.clone()).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
    delta = adversarial_delta(gradient, constants.adversarial_epsilon)
    lengths = embedding.detach().flatten(1).norm(dim=1)
    ratio = delta.flatten(1).norm(dim=1) / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    return EmotionLoss(emotion, classified(embedding + delta, mask, targets), logits, ratio)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -sum_k y_k log p_k (B,) of logits (B, K) and target distributions (B, K).

    Examples:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
        tensor([0.6931])
    """
    return functional.cross_entropy(logits, targets, reduction="none")


def robust_reward(model: RewardModel, hidden: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
    """Return R_robust = −L_ser (B,) in nats: eq. 5 of arXiv 2512.04552 on a frozen model.

    Nothing is mixed in a policy's batch, so lambda is 0: L_ser is the cross-entropy with the
    smoothed target y' plus alpha times that at h' + delta. It is greatest where the posterior is
    y'. The constants are those that the model was fine-tuned with.

    Args:
        model: the reward model.
        hidden: the encoder's output (B, L, D), with gradient.
        mask: (B, L) bool, true at valid frames.
        asked: (B,) int64, the class asked for.
    """
    constants = model.config.loss
    wanted = functional.one_hot(asked, len(model.classes())).to(hidden.dtype)
    targets = label_smoothing(wanted, constants.label_smoothing)
    found = emotion_loss(model, hidden, mask, targets, constants)
    return -found.total(constants.adversarial_weight)
