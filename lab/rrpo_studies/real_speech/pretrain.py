"""Pre-training of a reward model without labels: from tokens to what a recogniser heard.

DiffRO's reward model is a recogniser's encoder whose front end is replaced by an embedding of
tokens (arXiv 2507.05911). Where only the tokens' own tokenizer is at hand, the encoder is taught to
tell from the tokens what that tokenizer's encoder heard: every state, and the summary of an
utterance (`codec.states.Summary`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rrpo.reward.model import RewardModel, save
from rrpo.reward.regularize import TASK
from rrpo.tokens import batch
from rrpo_studies.real_speech.train_speech import Hearing, told_errors


class Telling(nn.Module):
    """A reward model with two heads that only pre-training uses."""

    def __init__(self, reward: RewardModel, states: int, summary: int) -> None:
        super().__init__()
        self.reward = reward
        self.states = nn.Linear(reward.config.width, states)
        self.summary = nn.Linear(reward.config.width, summary)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map ids (B, T) to scaled states (B, T, 2 D) and summaries (B, S)."""
        hidden = self.reward.encode(self.reward.embed(tokens), mask)
        pooled = self.reward.pool(hidden, mask, TASK)
        return self.states(hidden).float(), self.summary(pooled).float()


class PretrainObjective:
    """The loss of pre-training on N utterances.

    Attributes:
        model: the reward model and its heads; what is saved is the reward model.
    """

    def __init__(
        self, model: Telling, tokens: Sequence[Tensor], hearing: Hearing, batch_size: int = 32
    ) -> None:
        """Take N token tensors (T,) int64 and what was heard in the same N utterances."""
        self.model = model
        self.tokens = list(tokens)
        self.hearing = hearing
        self.batch_size = batch_size

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch of whole utterances and return its loss and the two errors it is made of."""
        rows = torch.randint(len(self.tokens), (self.batch_size,), generator=generator).tolist()
        chosen = [self.tokens[row] for row in rows]
        device = self.model.states.weight.device
        ids, mask = batch(chosen, device)
        scaled = self.hearing.windows(rows, [0.0] * len(rows), mask.shape[1])[0]
        told = self.model(ids, mask)
        summaries = self.hearing.summaries[rows].to(device)
        states, summed = told_errors(told, scaled.to(device), mask, summaries)
        return states + summed, {"error_states": states.item(), "error_summary": summed.item()}

    def save(self, folder: Path) -> None:
        """Write the reward model into a checkpoint folder."""
        save(self.model.reward, folder)
