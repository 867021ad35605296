"""What another engine drew tokens with, beside what we compute of the same tokens.

The log-probabilities that a loss differentiates are always our own, from the teacher-forced pass.
An engine with other kernels or another precision draws from a slightly other distribution.
"""

import torch
from torch import Tensor

from rrpo.policy.rollout import Generated


def drawn_with(own: Tensor, said: Generated) -> Tensor:
    """Return the log-probability (B, S) that each choice was drawn with, without gradient.

    That is the engine's where it says it, so that exp(own − drawn) is an importance weight, else
    our own: where the policy itself has drawn, at ends (which we count over all stop ids), and
    where nothing was chosen.

    Args:
        own: (B, S), ours of each choice.
    """
    found = own.detach().clone()
    for row, drawn in enumerate(said.log_probability or []):
        found[row, : drawn.numel()] = drawn.to(found)
    return found


def engine_gap(own: Tensor, said: Generated) -> Tensor:
    """Return the mean of |ours − the engine's| log-probability over all tokens, in nats.

    It shows how far from the distribution drawn from a policy is trained: 1e-6 in fp32, more in
    bf16, and a great deal where the engine's weights are not the policy's.
    """
    difference = (own.detach() - drawn_with(own, said)).abs()
    return difference.sum() / torch.tensor([row.numel() for row in said.tokens]).sum()
