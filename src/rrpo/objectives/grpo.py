"""Policy gradient on the same rollouts and reward: GRPO and RLOO, with or without DiffRO beside.

Several utterances are drawn for each prompt; a reward above that of the others raises the
probability of all tokens of an utterance. Nothing is differentiated through the reward, so this is
what DiffRO has to beat.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rrpo import policy
from rrpo.config import Strict
from rrpo.data.stream import POSITION, carried_by
from rrpo.objectives.diffro import duration_reward, figures, require_recordings
from rrpo.objectives.on_policy import Estimator, OnPolicy, drawn_with
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, choose, described
from rrpo.policy.rollout import RolloutConfig, Rollouts
from rrpo.reward.differentiable import DifferentiableReward, score, weighted_sum
from rrpo.reward.reward import Form
from rrpo.tokens import pad


class GRPOConfig(Strict):
    """Settings of GRPO and RLOO.

    `prompts` times `group` utterances are drawn at a time and used for `updates` steps; beyond the
    first, the probability ratio of a token is clipped to 1 ± `clip`. `diffro` is the weight of
    DiffRO's reward on the utterances that did better than their group (0: none). `kl_reduction`,
    `reward_form`, `skip_broken` and `duration` are as in `DiffROConfig`; a duration is one more
    reward here.
    """

    prompts: int = Field(4, ge=1)
    group: int = Field(8, ge=2)
    advantage: Literal["grpo", "rloo"] = "grpo"
    beta: float = Field(0.1, ge=0)
    kl_reduction: Literal["sum", "mean"] = "mean"
    reward_form: Form = "robust"
    skip_broken: bool = True
    duration: float = Field(0.0, ge=0)
    clip: float = Field(0.2, gt=0)
    updates: int = Field(1, ge=1)
    diffro: float = Field(0.0, ge=0)
    rollout: RolloutConfig = RolloutConfig()


def group_advantage(reward: Tensor, group: int, kind: str, kept: Tensor | None = None) -> Tensor:
    """Return the advantages (B,) of B = P · group rewards, those of a prompt one after the other.

    "rloo": R_i minus the mean of the others in the group (Ahmadian et al. 2024), unbiased
            for the reward of those that count (`skip_broken`).
    "grpo": (R_i − mean) / standard deviation of the group (Shao et al. 2024); zero where all
    have the same reward.

    Args:
        reward: (B,).
        group: utterances of a prompt.
        kind: see above.
        kept: (B,) bool; the others are left out of their group and have no advantage, and those of
            the rest are as much greater: a mean over the group is one over what counts. None: all.
    """
    if kept is None:
        kept = torch.ones_like(reward, dtype=torch.bool)
    # In float32 the mean of equal rewards may miss them by a rounding, which the small divisor of
    # such a group would magnify into an advantage.
    inside = kept.view(-1, group).to(reward.device).double()
    grouped = reward.view(-1, group).double()
    count = inside.sum(1, keepdim=True)
    mean = (grouped * inside).sum(1, keepdim=True) / count.clamp(min=1)
    advantage = (grouped - mean) * inside
    others = (count - 1).clamp(min=1)
    if kind == "rloo":
        advantage = advantage * count / others
    else:
        deviation = (advantage.square().sum(1, keepdim=True) / others).sqrt()
        advantage = advantage / (deviation + 1e-4)
    advantage = advantage * (group / count.clamp(min=1))
    return advantage.flatten().to(reward.dtype)


def policy_loss(
    log_probability: Tensor,
    old: Tensor,
    advantage: Tensor,
    valid: Tensor,
    clip: float,
    kind: str,
) -> Tensor:
    """Return minus the clipped surrogate of a batch, a scalar.

    min(ρ A, clip(ρ, 1 ± clip) A) of each token, ρ = p / p_old (Schulman et al. 2017). "grpo" takes
    the mean over an utterance's tokens, as published; "rloo" their sum, so that without clipping
    its gradient is that of the expected reward.

    Args:
        log_probability: (B, S), with gradient.
        old: (B, S), of the policy that drew.
        advantage: (B,).
        valid: (B, S) bool, where something was chosen.
    """
    ratio = (log_probability - old).exp()
    each = advantage[:, None]
    surrogate = torch.minimum(ratio * each, ratio.clamp(1 - clip, 1 + clip) * each) * valid
    total = surrogate.sum(1)
    if kind == "grpo":
        total = total / valid.sum(1)
    return -total.mean()


class GRPOObjective:
    """Clipped policy gradient on groups of rollouts, held by β times the KL to the reference.

    Attributes:
        carried: the rollouts in use, where they serve more than one step, and the place in prompts
            that are streamed; part of a checkpoint.
    """

    def __init__(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward: DifferentiableReward,
        prompts: Sequence[Prompt],
        config: GRPOConfig,
        recordings: Sequence[Tensor] = (),
    ) -> None:
        """Freeze what is not trained.

        Args:
            recordings: the tokens (T,) of each prompt's own recording, which `duration` needs.

        Raises:
            UserError: what `OnPolicy` refuses, or a recording is missing or empty.
        """
        if config.duration:
            require_recordings(prompts, recordings)
        self.on_policy = OnPolicy(model, reference, reward, prompts, config.rollout)
        self.model, self.config, self.recordings = model, config, recordings
        self.carried = carried_by(prompts)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one rollout batch and its metrics."""
        config = self.config
        # Nothing is carried where a run goes on with another number of processes.
        if (step - 1) % config.updates == 0 or "chosen" not in self.carried:
            self._draw(generator)
        rollouts, scorer = self._rollouts(), self.on_policy.reward
        device = self.model.head.weight.device  # a checkpoint brings back everything on the CPU
        terms = {
            name.removeprefix("term "): value.to(device)
            for name, value in self.carried.items()
            if name.startswith("term ")
        }
        reward = weighted_sum(scorer, terms)
        more = {}
        if config.duration:
            wanted = torch.tensor(
                [self.recordings[row].numel() for row in self.carried["chosen"].tolist()]
            ).repeat_interleave(config.group)
            kept_length = duration_reward(rollouts.lengths, wanted).to(reward)
            reward = reward + config.duration * kept_length
            more["reward_duration"] = float(kept_length.mean())
        kept = rollouts.sound() if config.skip_broken else None
        estimator = Estimator("conditional_gumbel") if config.diffro else None
        made = self.on_policy.evaluate(rollouts, estimator, generator)
        if "old" not in self.carried:
            self.carried["old"] = drawn_with(made.log_probability, rollouts)
        advantage = group_advantage(reward, config.group, config.advantage, kept)
        old = self.carried["old"].to(device)
        loss = policy_loss(
            made.log_probability, old, advantage, made.valid, config.clip, config.advantage
        )
        kl = made.kl_per_utterance() if config.kl_reduction == "sum" else made.kl_per_token()
        loss = loss + config.beta * kl
        better = advantage > 0
        if config.diffro and bool(better.any()):
            relaxed = weighted_sum(scorer, self.on_policy.terms(made, rollouts))
            loss = loss - config.diffro * (relaxed * better).mean()
        ratio = (made.log_probability - old).detach()[made.valid].exp()
        clipped = ((ratio - 1).abs() > config.clip).float().mean() * made.share
        spread = reward.view(-1, config.group).std(1).mean()
        more |= {"clipped": float(clipped), "group_spread": float(spread)}
        return loss, figures(rollouts, scorer, terms, made) | more

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from; where nothing was said, its prompts."""
        if "tokens" in self.carried:
            return self._rollouts().described()
        return [described(prompt) for prompt in self._prompts()]

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)

    def _draw(self, generator: torch.Generator) -> None:
        """Draw a batch and evaluate its reward."""
        on_policy, config = self.on_policy, self.config
        chosen = choose(config.prompts, on_policy.prompts, generator)
        prompts = [on_policy.prompts[index] for index in chosen]
        on_policy.reward.to(self.model.head.weight.device)
        # First of all: what fails below is to be looked at by this batch, not by the one before.
        for name in self.carried.keys() - {POSITION}:
            del self.carried[name]
        self.carried["chosen"] = torch.tensor(chosen)
        rollouts = on_policy.draw(prompts, generator, config.group)
        self.carried |= {
            "tokens": pad(rollouts.tokens),
            "lengths": rollouts.lengths,
            "ended": rollouts.ended,
            "least": rollouts.least,
            "laid_out": pad(rollouts.laid_out),
            "sizes": torch.tensor([ids.numel() for ids in rollouts.laid_out]),
        }
        if rollouts.log_probability is not None:
            self.carried["engine"] = pad(rollouts.log_probability)
        terms = score(on_policy.reward, rollouts.tokens, rollouts.prompts)
        self.carried |= {f"term {name}": value for name, value in terms.items()}

    def _prompts(self) -> list[Prompt]:
        chosen = self.carried.get("chosen", torch.tensor([], dtype=torch.int64)).tolist()
        return [self.on_policy.prompts[index] for index in chosen]

    def _rollouts(self) -> Rollouts:
        carried = self.carried
        tokens, laid_out = (
            [row[:size] for row, size in zip(carried[name], carried[sizes].tolist(), strict=True)]
            for name, sizes in (("tokens", "lengths"), ("laid_out", "sizes"))
        )
        engine = carried.get("engine")
        sizes = carried["lengths"].tolist()
        drawn = None if engine is None else [engine[b, :size] for b, size in enumerate(sizes)]
        prompts = [prompt for prompt in self._prompts() for _ in range(self.config.group)]
        said = (tokens, carried["ended"], carried["least"], laid_out, drawn)
        return Rollouts(*said, prompts=prompts)
