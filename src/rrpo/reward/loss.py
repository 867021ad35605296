"""L_ser, the hybrid-regularized loss of emotion: what a reward model is fine-tuned on.

Its negative, on the frozen model, is the robust reward of the policy (arXiv 2512.04552, eq. 5).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rrpo.reward.model import LossConfig, RewardModel
from rrpo.reward.regularize import adversarial_delta

TASK = "emotion"


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

    def classified(embedding: Tensor) -> Tensor:
        vector = model.pool(embedding, mask, TASK) if frames else embedding
        found = model.classify(vector, TASK)
        return cross_entropy(found if bias is None else found + bias, targets)

    embedding = hidden if frames else pooled
    with torch.enable_grad():  # delta is needed where the reward itself is asked without gradient
        leaf = embedding.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(classified(leaf).sum(), leaf)
    delta = adversarial_delta(gradient, constants.adversarial_epsilon)
    lengths = embedding.detach().flatten(1).norm(dim=1)
    ratio = delta.flatten(1).norm(dim=1) / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    return EmotionLoss(emotion, classified(embedding + delta), logits, ratio)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -sum_k y_k log p_k (B,) of logits (B, K) and target distributions (B, K).

    Examples:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
        tensor([0.6931])
    """
    return functional.cross_entropy(logits, targets, reduction="none")
