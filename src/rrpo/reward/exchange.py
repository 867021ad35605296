"""Adversarial training on tokens: a few of each utterance are exchanged so that the loss rises.

Not of the paper, whose adversarial step moves the encoder's output to where no speech need lie.
Here the step ends on other tokens of the batch, as an artifact does, and as a policy does that
looks for what the reward model likes.
"""

import torch
from torch import Tensor

from rrpo.reward.model import RewardModel
from rrpo.reward.regularize import TASK, cross_entropy


def exchanged(
    model: RewardModel,
    tokens: Tensor,
    mask: Tensor,
    targets: Tensor,
    count: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Return tokens (B, T) of which up to `count` in each utterance are exchanged.

    To first order, token v in place of the token at t changes the loss by (e_v − e_t) · g_t, with g
    the gradient of the cross-entropy in the embeddings (HotFlip, Ebrahimi et al. 2018). At each
    place the v that raises it most is considered, and the `count` places where that is most are
    exchanged at once; none where nothing raises it.

    Args:
        model: the reward model; its weights get no gradient.
        tokens: (B, T) int64.
        mask: (B, T) bool, true at valid tokens.
        targets: (B, K), distributions.
        count: of exchanges in an utterance, at least 1.
        bias: (B, K), added to the logits; None: nothing.

    Raises:
        ValueError: the count is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} tokens are to be exchanged: expected at least 1")
    place = model.embed(tokens).detach().requires_grad_()
    with torch.enable_grad():
        hidden = model.encode(place, mask)
        logits = model.classify(model.pool(hidden, mask, TASK), TASK)
        loss = cross_entropy(logits if bias is None else logits + bias, targets)
        (gradient,) = torch.autograd.grad(loss.sum(), place)
    # What the batch says, and not the whole codebook: most of its codes are never spoken.
    codes = tokens[mask].bincount().nonzero()[:, 0]
    rise = gradient @ model.table.detach()[codes].T  # (B, T, C)
    most, best = rise.max(-1)
    most = (most - (gradient * place.detach()).sum(-1)).masked_fill(~mask, -torch.inf)
    risen, places = most.topk(min(count, tokens.shape[1]), dim=1)
    new = torch.where(risen > 0, codes[best].gather(1, places), tokens.gather(1, places))
    return tokens.scatter(1, places, new)
