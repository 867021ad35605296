"""How easily a reward model's verdict is turned: small pushes and noise."""

from collections.abc import Sequence

import numpy as np
import torch

from rrpo.data.shards import Utterance
from rrpo.emotions import emotion_index
from rrpo.reward import RewardModel
from rrpo.reward.fit import log_posteriors
from rrpo.reward.regularize import adversarial_delta
from rrpo.tokens import length_mask, pad


def pushed(
    model: RewardModel, utterances: Sequence[Utterance], epsilon: float, batch_size: int = 64
) -> list[bool]:
    """Say of each utterance whether it is still right after one gradient step against it.

    The pooled embedding h' (B, D) is moved by epsilon along the normalised gradient of the loss
    (FGM, as RRPO trains against with epsilon 0.5).
    """
    known = model.classes()
    model.eval()
    right: list[bool] = []
    for start in range(0, len(utterances), batch_size):
        rows = utterances[start : start + batch_size]
        tokens = pad([torch.from_numpy(row.tokens) for row in rows])
        mask = length_mask(torch.tensor([row.tokens.size for row in rows]))
        labels = torch.tensor([emotion_index(row.emotion, known) for row in rows])
        with torch.no_grad():
            pooled = model.pool(model.encode(model.embed(tokens), mask), mask)
        pooled = pooled.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model.classify(pooled), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pooled)
        with torch.no_grad():
            moved = model.classify(pooled + adversarial_delta(gradient, epsilon))
        right += (moved.argmax(-1) == labels).tolist()
    return right


def scrambled(
    model: RewardModel, utterances: Sequence[Utterance], share: float, seed: int = 0
) -> list[bool]:
    """Say of each utterance whether it is right after a share of its tokens is drawn at random."""
    known = model.classes()
    rng = np.random.default_rng(seed)
    noisy = []
    for row in utterances:
        wrong = rng.random(row.tokens.size) < share
        noise = rng.integers(model.config.codes, size=row.tokens.size)
        noisy.append(torch.from_numpy(np.where(wrong, noise, row.tokens)))
    labels = [emotion_index(row.emotion, known) for row in utterances]
    predicted = log_posteriors(model, noisy).argmax(-1).tolist()
    return [guess == label for guess, label in zip(predicted, labels, strict=True)]
