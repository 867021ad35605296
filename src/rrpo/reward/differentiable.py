"""What a policy can be trained against: any reward that is differentiable in the speech tokens."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.examples import Prompt
from rrpo.tokens import batch


class DifferentiableReward(Protocol):
    """A reward of speech tokens, differentiable in their embeddings; `rrpo.reward.Reward` is one.

    A reward reads tokens as rows of a table of its own. DiffRO hands it exactly `table[tokens]`,
    asks for the gradient of the weighted sum of its terms in these embeddings, and takes that to
    every logit of the policy (`rrpo.relax`). Nothing else is differentiated: the table and whatever
    else the reward is made of are constants. GRPO and DPO ask for the same terms without gradient.

    A class with these four members is one, and so is a `torch.nn.Module` with the other three.

    Examples:
        >>> class FewPeaks:
        ...     weights = {"smooth": 1.0}
        ...
        ...     def __init__(self, codes: int) -> None:
        ...         self.table = torch.linspace(-1.0, 1.0, codes)[:, None]
        ...
        ...     def to(self, device: torch.device) -> None:
        ...         self.table = self.table.to(device)
        ...
        ...     def terms(self, embeddings, mask, prompts):
        ...         squares = embeddings.square().sum(-1) * mask
        ...         return {"smooth": -squares.sum(1) / mask.sum(1)}
        >>> reward: DifferentiableReward = FewPeaks(5)
        >>> score(reward, [torch.tensor([0, 2]), torch.tensor([4])], [])["smooth"]
        tensor([-0.5000, -1.0000])
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each term in the reward.

        Further entries of what `terms` returns are logged and otherwise left alone.
        """
        ...

    @property
    def table(self) -> Tensor:
        """The embeddings (V, E) that tokens are read through, floating point, any E.

        V is the number of codes of the policy's codec (6561 for CosyVoice2's), its row c what code
        c is. It lies on the device of the last `to`, the CPU before.
        """
        ...

    def to(self, device: torch.device, /) -> object:
        """Bring the table and all that `terms` needs to a device; what it returns is not used."""
        ...

    def terms(
        self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt], /
    ) -> Mapping[str, Tensor]:
        """Return each term (B,) of B utterances, finite, greater where better.

        Each row depends on that row of the arguments alone. Differentiable in `embeddings`, unless
        only GRPO or DPO use it; a term without gradient is no error, it moves nothing.

        Args:
            embeddings: (B, T, E), rows of `table` in its dtype; zero where the mask is false.
            mask: (B, T) bool, true at tokens; at least one in a row, without gaps from the first.
            prompts: B, what was asked for: text, emotion, speaker, text ids.
        """
        ...


def weighted_sum(reward: DifferentiableReward, terms: Mapping[str, Tensor]) -> Tensor:
    """Return the reward (B,): the weighted sum of its terms."""
    return torch.stack([weight * terms[name] for name, weight in reward.weights.items()]).sum(0)


@torch.no_grad()
def score(
    reward: DifferentiableReward, speech: Sequence[Tensor], prompts: Sequence[Prompt]
) -> dict[str, Tensor]:
    """Return a reward's terms (B,) of tokens (T_b,), T_b ≥ 1, without gradient."""
    table = reward.table
    tokens, mask = batch(speech, table.device)
    embeddings = table[tokens] * mask[..., None]
    return evaluated(reward, embeddings, mask, prompts)


def evaluated(
    reward: DifferentiableReward, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]
) -> dict[str, Tensor]:
    """Return a reward's terms (B,); arguments as of `DifferentiableReward.terms`.

    Raises:
        UserError: a term that has a weight is missing, or is not one number an utterance.
    """
    terms = dict(reward.terms(embeddings, mask, prompts))
    for name in reward.weights:
        if name not in terms:
            raise UserError(f"the reward has a weight for {name!r}, but its terms lack it")
    for name, value in terms.items():
        if value.shape != mask.shape[:1]:
            raise UserError(
                f"the reward's term {name!r} has shape {tuple(value.shape)} for {len(mask)} "
                f"utterances: return one number for each, ({len(mask)},)"
            )
    return terms
