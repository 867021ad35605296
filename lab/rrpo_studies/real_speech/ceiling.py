"""The same reward model without the tokens in between: what tokenizing loses."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrpo.reward.model import RewardModel, save
from rrpo.reward.regularize import TASK
from rrpo.tokens import batch

BATCH = 32


class StateRewardModel(nn.Module):
    """A reward model whose embedding table gives way to a linear map of continuous states."""

    def __init__(self, reward: RewardModel, states: int) -> None:
        super().__init__()
        self.reward = reward
        self.listen = nn.Linear(states, reward.config.width)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Return the log-posteriors (B, K) of B utterances, each (T, C) scaled states."""
        padded, mask = batch([one.float() for one in states], self.listen.weight.device)
        return self.reward.log_posterior(self.listen(padded), mask, TASK)

    @torch.inference_mode()
    def log_posteriors(self, states: Sequence[Tensor]) -> Tensor:
        """Return `forward` in evaluation mode."""
        self.eval()
        found: Tensor = self(states)
        return found.cpu().clone()


class CeilingObjective:
    """Cross-entropy on continuous states, without any regularizer.

    Attributes:
        model: the reward model.
    """

    def __init__(
        self, model: StateRewardModel, states: Sequence[Tensor], labels: Sequence[int]
    ) -> None:
        """Take the scaled states (T, C) of N utterances and their classes."""
        self.model = model
        self.states = list(states)
        self.labels = torch.tensor(labels)

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its cross-entropy."""
        rows = torch.randint(len(self.states), (BATCH,), generator=generator)
        found = self.model([self.states[row] for row in rows.tolist()])
        return functional.nll_loss(found, self.labels[rows].to(found.device)), {}

    def save(self, folder: Path) -> None:
        """Write the reward model into a checkpoint folder."""
        save(self.model.reward, folder)
