"""What a frozen reward model pays for speech, differentiable in the tokens' embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.policy.examples import Prompt
from rrpo.reward.model import RewardModel
from rrpo.tokens import length_mask, pad


class Reward:
    """The log-posterior of the emotion asked for, of one reward model or of several.

    Several are an ensemble, paid at a lower confidence bound: mean − `caution` · standard deviation
    over its members, so that what only some of them like pays little (Coste et al. 2024).
    """

    def __init__(self, models: Sequence[RewardModel], caution: float = 1.0) -> None:
        """Freeze the models.

        Raises:
            UserError: there is none, or they know different emotions.
        """
        if not models:
            raise UserError("no reward model: name at least one")
        emotions = models[0].classes()
        for model in models:
            if model.classes() != emotions:
                raise UserError(
                    f"the reward models of an ensemble know different emotions: {emotions} and "
                    f"{model.classes()}"
                )
        self.models = [model.eval().requires_grad_(False) for model in models]
        self.caution = caution
        self.emotions = emotions

    @property
    def table(self) -> Tensor:
        """The embeddings (V, E) that tokens are read through: the members' tables side by side."""
        if len(self.models) == 1:
            return self.models[0].table
        return torch.cat([model.table for model in self.models], dim=1)

    def to(self, device: torch.device) -> None:
        """Bring the models to a device."""
        for model in self.models:
            model.to(device)

    def __call__(self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Return the reward (B,) of relaxed tokens, with gradient to their embeddings.

        Args:
            embeddings: (B, T, E), rows of `table`.
            mask: (B, T) bool, true at valid tokens; at least one a row.
            prompts: B, what was asked for.
        """
        asked = torch.tensor(
            [emotion_index(prompt.emotion, self.emotions) for prompt in prompts],
            device=embeddings.device,
        )
        widths = [model.table.shape[1] for model in self.models]
        parts = torch.split(embeddings, widths, dim=-1)
        paid = torch.stack(
            [
                model.log_posterior(part, mask).gather(1, asked[:, None])[:, 0]
                for model, part in zip(self.models, parts, strict=True)
            ]
        )
        if len(self.models) == 1:
            return paid[0]
        return paid.mean(0) - self.caution * paid.std(0, unbiased=False)

    @torch.no_grad()
    def score(self, speech: Sequence[Tensor], prompts: Sequence[Prompt]) -> Tensor:
        """Return the reward (B,) of tokens (T_b,), T_b ≥ 1, without gradient."""
        table = self.table
        lengths = torch.tensor([tokens.numel() for tokens in speech], device=table.device)
        return self(table[pad(speech).to(table.device)], length_mask(lengths), prompts)
