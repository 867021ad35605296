"""Differentiable reward optimization (DiffRO); against a hardened reward model it is RRPO.

One step: draw tokens with the current policy, run one teacher-forced pass over them, embed them for
the reward model through `rrpo.relax.relax`, and follow the gradient of

    E[log p_RM(emotion asked for | tokens)] − β · KL(policy ‖ reference)

through the frozen reward model into every logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rrpo import policy
from rrpo.config import Strict
from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import adapted, without_adapters
from rrpo.policy.divergence import kl_per_position
from rrpo.policy.examples import Prompt, choose
from rrpo.policy.layout import unistream
from rrpo.policy.rollout import generate, truncate
from rrpo.relax import relax
from rrpo.reward import RewardModel
from rrpo.tokens import IGNORE, length_mask


class RolloutConfig(Strict):
    """How tokens are drawn; lengths are in speech tokens per text id."""

    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    min_ratio: float = Field(0.5, ge=0)
    max_ratio: float = Field(4.0, gt=0)


class DiffROConfig(Strict):
    """Settings of DiffRO; the defaults are the paper's where it names them."""

    batch_size: int = Field(16, ge=1)
    beta: float = Field(0.1, ge=0)
    estimator: Literal[
        "straight_through", "conditional_gumbel", "gumbel_rao", "reinmax", "gapped"
    ] = "conditional_gumbel"
    tau: float = Field(1.0, gt=0)
    rollout: RolloutConfig = RolloutConfig()


@dataclass(frozen=True)
class Pass:
    """Logits of one teacher-forced pass over drawn tokens.

    Attributes:
        logits: (n, V), the kept positions of all rows, T_b + 1 each (the last predicts eos).
        lengths: (B,), the T_b.
        stopped: (B,) bool, whether the row ended by itself, so that its last position was a choice.
    """

    logits: Tensor
    lengths: Tensor
    stopped: Tensor


class DiffROObjective:
    """Reward of the drawn tokens minus β times the KL to the reference, both differentiable."""

    def __init__(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward_model: RewardModel,
        prompts: Sequence[Prompt],
        config: DiffROConfig,
    ) -> None:
        """Freeze what is not trained.

        Args:
            reference: what the KL is measured against; None is the model without its adapters.

        Raises:
            UserError: no prompt, an emotion the reward model does not know, or no reference for a
                model without adapters.
        """
        if reference is None and not adapted(model):
            raise UserError("a policy without adapters needs a reference to keep close to")
        if not prompts:
            raise UserError("no prompt to optimize on: give texts and emotions")
        known = reward_model.config.tasks["emotion"]
        for prompt in prompts:
            emotion_index(prompt.emotion, known)
        self.model, self.config, self.prompts = model, config, list(prompts)
        self.reference = None if reference is None else reference.eval().requires_grad_(False)
        self.reward_model = reward_model.eval().requires_grad_(False)

    def loss(
        self,
        model: nn.Module,
        step: int,  # noqa: ARG002 - part of the loop's protocol
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one rollout batch and its metrics."""
        chosen = choose(self.config.batch_size, len(self.prompts), generator)
        prompts = [self.prompts[index] for index in chosen]
        speech, stopped = self.rollout(prompts, generator)
        device = self.model.head.weight.device
        self.reward_model.to(device)
        ids, targets = unistream(
            self.model.config,
            [prompt.text_ids for prompt in prompts],
            speech,
            [prompt.instruct_ids for prompt in prompts],
        )
        ids, keep = ids.to(device), targets.to(device) != IGNORE
        lengths = torch.tensor([tokens.numel() for tokens in speech], device=device)
        trained = Pass(model(ids, keep), lengths, stopped.to(device))
        reference_logits = self.reference_logits(ids, keep)
        reward = self.reward(trained, speech, prompts, generator)
        divergence = kl_per_token(trained, reference_logits)
        loss = -reward.mean() + self.config.beta * divergence
        return loss, {
            "reward": float(reward.mean().detach()),
            "kl": float(divergence.detach()),
            "tokens": float(lengths.float().mean()),
            "stopped": float(stopped.float().mean()),
        }

    @torch.no_grad()
    def reference_logits(self, ids: Tensor, keep: Tensor) -> Tensor:
        """Return the reference's logits (n, V) at the kept positions of joint ids (B, S)."""
        logits: Tensor
        if self.reference is not None:
            logits = self.reference.to(ids.device)(ids, keep)
            return logits
        with without_adapters(self.model):
            logits = self.model(ids, keep)
        return logits

    def rollout(
        self, prompts: Sequence[Prompt], generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor]:
        """Draw tokens for each prompt; also say (B,) which rows ended by themselves."""
        config = self.config.rollout
        speech = generate(
            self.model,
            [prompt.text_ids for prompt in prompts],
            [prompt.instruct_ids for prompt in prompts],
            sampler="multinomial",
            # The reward model needs something to read.
            min_ratio=max(config.min_ratio, 1.0 / min(p.text_ids.numel() for p in prompts)),
            max_ratio=config.max_ratio,
            generator=generator,
            temperature=config.temperature,
            top_k=config.top_k,
        )
        limits = [int(config.max_ratio * prompt.text_ids.numel()) for prompt in prompts]
        stopped = [tokens.numel() < limit for tokens, limit in zip(speech, limits, strict=True)]
        return speech, torch.tensor(stopped)

    def reward(
        self,
        trained: Pass,
        speech: Sequence[Tensor],
        prompts: Sequence[Prompt],
        generator: torch.Generator,
    ) -> Tensor:
        """Return the log-posterior (B,) of the emotion asked for, with gradient to the logits.

        The relaxation works on the codes alone, renormalised: given that the step is not a stop.
        """
        config, lm = self.config, self.model.config
        mask = length_mask(trained.lengths)
        batch, size = mask.shape
        # Row b holds T_b + 1 positions in the flat logits; the last of them has no token.
        has_token = length_mask(trained.lengths + 1, size + 1)
        has_token_flat = (length_mask(trained.lengths, size + 1))[has_token]
        codes = trained.logits[has_token_flat][:, : lm.codes].float()
        theta = truncate(codes, config.rollout.temperature, config.rollout.top_k)
        tokens = torch.cat(list(speech)).to(codes.device)
        if config.rollout.top_k:
            # Rounding may leave the drawn token outside the largest k of this second pass.
            drawn = codes.gather(1, tokens[:, None]) / config.rollout.temperature
            theta = theta.scatter(1, tokens[:, None], drawn)
        drawn_embeddings = relax(
            theta, tokens, self.reward_model.table, config.estimator, config.tau, generator
        )
        padded = drawn_embeddings.new_zeros(batch, size, drawn_embeddings.shape[-1])
        padded[mask] = drawn_embeddings
        log_posterior = self.reward_model.log_posterior(padded, mask)
        known = self.reward_model.config.tasks["emotion"]
        asked = torch.tensor(
            [emotion_index(prompt.emotion, known) for prompt in prompts], device=codes.device
        )
        return log_posterior.gather(1, asked[:, None])[:, 0]

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)


def kl_per_token(trained: Pass, reference_logits: Tensor) -> Tensor:
    """Return KL(policy ‖ reference) in nats per token, a mean over the valid positions.

    The valid positions are those that were a choice: each drawn token, and the eos of rows that
    ended by themselves.

    Args:
        trained: logits (n, V) of the policy, with gradient.
        reference_logits: (n, V) of the reference, without.
    """
    per_position = kl_per_position(trained.logits, reference_logits)
    size = int(trained.lengths.max()) + 1
    valid = length_mask(trained.lengths + trained.stopped.long(), size)
    weight = valid[length_mask(trained.lengths + 1, size)].float()
    return (per_position * weight).sum() / weight.sum()
