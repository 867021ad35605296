"""Differentiable reward optimization (DiffRO); against a hardened reward model it is RRPO.

One step: draw tokens with the current policy, run one teacher-forced pass over them, relax them for
the reward model, and follow the gradient of

    E[log p_RM(emotion asked for | tokens)] − β · KL(policy ‖ reference)

through the frozen reward model into every logit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rrpo import policy
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.objectives.on_policy import Estimator, OnPolicy, RolloutConfig, Rollouts
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import Prompt, choose
from rrpo.reward import Reward


class DiffROConfig(Strict):
    """Settings of DiffRO; the defaults are the paper's where it names them.

    `tau` is the temperature of the relaxation, or a list of them that the training passes through,
    evenly spaced and straight in between. `context_passes` lets the gradient through so many of the
    tokens' own contexts (`Estimator.passes`); the published form is 0.
    """

    batch_size: int = Field(16, ge=1)
    beta: float = Field(0.1, ge=0)
    estimator: Literal[
        "straight_through", "conditional_gumbel", "gumbel_rao", "reinmax", "gapped"
    ] = "conditional_gumbel"
    tau: float | list[float] = 1.0
    context_passes: int = Field(0, ge=0)
    rollout: RolloutConfig = RolloutConfig()


def temperature(tau: float | Sequence[float], step: int, steps: int) -> float:
    """Return the temperature of a step (1 … steps) of a constant or of a list to pass through.

    Examples:
        >>> [temperature([2.0, 1.0, 0.8], step, 5) for step in range(1, 6)]
        [2.0, 1.5, 1.0, 0.9, 0.8]
    """
    if isinstance(tau, float | int):
        return float(tau)
    if len(tau) == 1 or steps == 1:
        return float(tau[0])
    place = (step - 1) / (steps - 1) * (len(tau) - 1)
    index = min(int(place), len(tau) - 2)
    return tau[index] + (place - index) * (tau[index + 1] - tau[index])


class DiffROObjective:
    """Reward of the drawn tokens minus β times the KL to the reference, both differentiable."""

    def __init__(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward: Reward,
        prompts: Sequence[Prompt],
        config: DiffROConfig,
        steps: int = 1,
    ) -> None:
        """Freeze what is not trained.

        Args:
            reference: what the KL is measured against; None is the model without its adapters.
            steps: of the training, which a list of temperatures is spread over.

        Raises:
            UserError: what `OnPolicy` refuses, or a temperature that is not positive.
        """
        taus = [config.tau] if isinstance(config.tau, float) else config.tau
        if not taus or min(taus) <= 0:
            raise UserError(f"tau={config.tau}: give a positive temperature, or a list of them")
        self.on_policy = OnPolicy(model, reference, reward, prompts, config.rollout)
        self.model, self.config, self.steps = model, config, steps

    def loss(
        self,
        model: nn.Module,  # noqa: ARG002 - part of the loop's protocol, it is self.model
        step: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one rollout batch and its metrics."""
        prompts = self.on_policy.prompts
        chosen = choose(self.config.batch_size, len(prompts), generator)
        rollouts = self.on_policy.draw([prompts[index] for index in chosen], generator)
        made = self.on_policy.evaluate(rollouts, self.estimator(step), generator)
        paying = self.on_policy.reward
        terms = paying.terms(made.embeddings, made.mask, rollouts.prompts)
        loss = -paying.total(terms).mean() + self.config.beta * made.kl
        return loss, figures(rollouts, paying, terms, made.kl)

    def estimator(self, step: int) -> Estimator:
        """Return how the gradient passes the draw at a step."""
        tau = temperature(self.config.tau, step, self.steps)
        return Estimator(self.config.estimator, tau, self.config.context_passes)

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)


def figures(
    rollouts: Rollouts, reward: Reward, terms: Mapping[str, Tensor], kl: Tensor
) -> dict[str, float]:
    """Return what a step logs of its rollouts; several terms of the reward also apart."""
    parts = {f"reward_{term}": float(value.mean().detach()) for term, value in terms.items()}
    lengths = torch.tensor([tokens.numel() for tokens in rollouts.speech])
    return {
        "reward": float(reward.total(terms).mean().detach()),
        **(parts if len(parts) > 1 else {}),
        "kl": float(kl.detach()),
        "tokens": float(lengths.float().mean()),
        "stopped": float(rollouts.stopped.float().mean()),
    }
