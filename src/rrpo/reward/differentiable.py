"""What any reward of speech tokens offers that a policy is trained against; checks of it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rrpo.errors import NotFinite, UserError
from rrpo.policy.layout import Prompt
from rrpo.tokens import batch

LOGGED = (
    *("reward", "reward_duration", "kl", "tokens", "stopped", "broken", "engine_gap"),
    *("loss", "step", "seconds", "learning_rate", "gradient_norm", "validation"),
)
"""Figures of a step that are no term's."""


class DifferentiableReward(Protocol):
    """A reward of speech tokens, differentiable in their embeddings; `rrpo.reward.Reward` is one.

    A reward reads tokens as rows of a table of its own. DiffRO hands it exactly `table[tokens]`,
    asks for the gradient of the weighted sum of its terms in these embeddings, and takes that to
    every logit of the policy (`rrpo.relax`). Nothing else is differentiated: the table and whatever
    else the reward is made of are constants. GRPO and DPO ask for the same terms without gradient.

    A class with these four members is one, and so is a `torch.nn.Module` with the other three,
    whose parameters are frozen (`requires_grad_(False)`).

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

        At least one. Further entries of what `terms` returns are logged and otherwise left alone.
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
        only GRPO or DPO use it; a term without gradient is no error, as long as another has one.
        No term has the name of a figure that each step logs, such as "kl" (`LOGGED`).

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
        UserError: a term that has a weight is missing, or a term is not one number an utterance or
            has the name of a figure that each step logs.
        NotFinite: a term is NaN or infinite.
    """
    found = reward.terms(embeddings, mask, prompts)
    if not isinstance(found, Mapping):
        raise UserError(f"the reward's terms are a {type(found).__name__}: return a dict of them")
    for name in reward.weights:
        if name not in found:
            raise UserError(f"the reward has a weight for {name!r}, but its terms lack it")
    return {name: _checked(name, value, prompts, mask) for name, value in found.items()}


def _checked(name: str, value: object, prompts: Sequence[Prompt], mask: Tensor) -> Tensor:
    """Return a term as floating point numbers (B,), which are finite."""
    if name in LOGGED:
        raise UserError(f"the reward's term {name!r} has the name of a step's figure: rename it")
    if not isinstance(value, Tensor):
        raise UserError(f"the reward's term {name!r} is a {type(value).__name__}: return a tensor")
    if value.shape != mask.shape[:1]:
        raise UserError(
            f"the reward's term {name!r} has shape {tuple(value.shape)} for {len(mask)} "
            f"utterances: return one number for each, ({len(mask)},)"
        )
    value = value if value.is_floating_point() else value.float()
    if len(wrong := (~value.detach().isfinite()).nonzero()):
        first = prompts[int(wrong[0])] if prompts else None
        where = f", first {first.text!r} as {first.emotion}" if first else ""
        raise NotFinite(
            f"the reward {name!r} is not finite for {len(wrong)} of {len(value)} "
            f"utterances{where}: a reward model is damaged or its training had failed (test it "
            "with `rrpo reward eval`), or your own reward has to be bounded"
        )
    return value


def require_reward(reward: DifferentiableReward, codes: int) -> None:
    """Check what a reward of one's own is made of, and freeze it if it is a module.

    Args:
        codes: V of the policy's codec.

    Raises:
        UserError: it lacks a member, is a class and no object, has no weight, or its table is not
            (V, E) in floating point.
    """
    if isinstance(reward, type):
        raise UserError(f"the reward is the class {reward.__name__}: give an object of it")
    for name in ("weights", "table", "to", "terms"):
        if not hasattr(reward, name):
            raise UserError(
                f"the reward, a {type(reward).__name__}, has no `{name}`: see "
                "rrpo.reward.DifferentiableReward"
            )
    if not isinstance(reward.weights, Mapping) or not reward.weights:
        raise UserError("the reward's weights are no dict or empty: weigh at least one term")
    for name, weight in reward.weights.items():
        try:
            finite = math.isfinite(float(weight))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            raise UserError(f"the reward's weight of {name!r} is {weight!r}: give a finite number")
    table = reward.table
    if not isinstance(table, Tensor):
        raise UserError(f"the reward's table is a {type(table).__name__}: give a tensor")
    if table.ndim != 2 or not table.is_floating_point():
        raise UserError(
            f"the reward's table is {tuple(table.shape)} of {table.dtype}: give (codes, width) of "
            "floating point numbers"
        )
    if table.shape[0] != codes:
        raise UserError(
            f"the reward's table has {table.shape[0]} rows, and the policy speaks {codes} codes: "
            "give it a row for each"
        )
    if isinstance(reward, nn.Module):
        reward.requires_grad_(False)


def digest(reward: DifferentiableReward) -> str:
    """Return the SHA-256 of a reward of one's own: of its weights, its table and its state.

    Further attributes of an object that is no module are not known.
    """
    weights = {name: float(weight) for name, weight in reward.weights.items()}
    found = hashlib.sha256(json.dumps(weights, sort_keys=True).encode())
    state = reward.state_dict() if isinstance(reward, nn.Module) else {}
    tensors = {name: one for name, one in sorted(state.items()) if isinstance(one, Tensor)}
    for name, tensor in {"": reward.table, **tensors}.items():
        found.update(name.encode())
        found.update(
            tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()
