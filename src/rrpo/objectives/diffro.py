"""Differentiable reward optimization (DiffRO); RRPO is its robust reward on a hardened model.

One step: take tokens, drawn by the current policy or recorded, run one teacher-forced pass over
them, relax the tokens that the pass draws for the reward model, and follow the gradient of

    E[R(tokens)] − β · KL(policy ‖ reference)

through the frozen reward model into every logit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rrpo import policy
from rrpo.config import Strict
from rrpo.data.stream import Streamed, carried_by
from rrpo.errors import UserError
from rrpo.objectives.on_policy import Estimator, OnPolicy, Pass, engine_gap
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, choose, described
from rrpo.policy.rollout import RolloutConfig, Rollouts, recorded
from rrpo.processes import processes, summed
from rrpo.reward.differentiable import DifferentiableReward, weighted_sum
from rrpo.reward.reward import Form


class DiffROConfig(Strict):
    """Settings of DiffRO and RRPO.

    Attributes:
        batch_size: B, utterances of a step.
        beta: weight of the KL.
        kl_reduction: "sum" over the positions of an utterance, as published, or "mean" over those
            of the batch.
        reward_form: of the emotion's reward, see `rrpo.reward.Reward`.
        history: what precedes each token that is drawn: "rollout", the policy's own draws, or
            "recorded", the data's tokens, as published: one pass and no rollout.
        skip_broken: whether utterances that loop or do not end by themselves give no reward. With
            recorded history nothing ends or loops of itself, and all are rewarded.
        duration: weight of −|T − T*| / T*, T* the length of the recording of the same prompt. A
            length has no gradient through the tokens; it is a policy gradient, with the other
            utterances of the batch for a baseline (of all processes; each of several batches that
            are accumulated has its own). 0: none.
        estimator: how the gradient passes the draw, one of `rrpo.sampling.ESTIMATORS`.
        tau: temperature of the relaxation, or a list of them that the training passes through,
            evenly spaced and straight in between.
        context_passes: lets the gradient through so many of the tokens' own contexts
            (`Estimator.passes`); the published form is 0.
        rollout: how tokens are drawn.
    """

    batch_size: int = Field(16, ge=1)
    beta: float = Field(0.1, ge=0)
    kl_reduction: Literal["sum", "mean"] = "mean"
    reward_form: Form = "robust"
    history: Literal["rollout", "recorded"] = "rollout"
    skip_broken: bool = True
    duration: float = Field(0.0, ge=0)
    estimator: Literal[
        "straight_through", "conditional_gumbel", "gumbel_rao", "reinmax", "gapped"
    ] = "conditional_gumbel"
    tau: float | list[float] = 1.0
    context_passes: int = Field(0, ge=0)
    rollout: RolloutConfig = RolloutConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "DiffROConfig":
        if self.history == "recorded" and self.context_passes:
            raise ValueError("context_passes needs history=rollout: recorded tokens are constants")
        if self.history == "recorded" and self.duration:
            raise ValueError("duration needs history=rollout: recordings keep their length")
        return self


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
        reward: DifferentiableReward,
        prompts: Sequence[Prompt],
        config: DiffROConfig,
        steps: int = 1,
        recordings: Sequence[Tensor] = (),
    ) -> None:
        """Freeze what is not trained.

        Args:
            reference: what the KL is measured against; None is the model without its adapters.
            steps: of the training, which a list of temperatures is spread over.
            recordings: the tokens (T,) of each prompt's own recording, which
                `history="recorded"` and `duration` need.

        Raises:
            UserError: what `OnPolicy` refuses, a temperature that is not positive, recordings that
                are missing or empty, or a duration of a single utterance.
        """
        taus = [config.tau] if isinstance(config.tau, float) else config.tau
        if not taus or min(taus) <= 0:
            raise UserError(f"tau={config.tau}: give a positive temperature, or a list of them")
        if config.history == "recorded" or config.duration:
            require_recordings(prompts, recordings)
        if config.duration and config.batch_size * processes() < 2:
            raise UserError(
                "duration compares the utterances of a batch, and batch_size=1 has none to compare "
                "with: raise diffro.batch_size, or leave diffro.duration out"
            )
        self.on_policy = OnPolicy(model, reference, reward, prompts, config.rollout)
        self.model, self.config, self.steps = model, config, steps
        self.recordings, self.carried = recordings, carried_by(prompts)
        self._asked: list[Prompt] = []
        self._last: Rollouts | None = None

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one batch and its metrics.

        Raises:
            UserError: nothing that is rewarded has a gradient.
        """
        config, prompts = self.config, self.on_policy.prompts
        chosen = choose(config.batch_size, prompts, generator)
        asked = [prompts[index] for index in chosen]
        self._asked, self._last = asked, None
        redraw = config.history == "recorded"
        if redraw:
            speech = [self.recordings[index] for index in chosen]
            rollouts = recorded(self.model.config, asked, speech)
        else:
            rollouts = self.on_policy.draw(asked, generator)
        self._last = rollouts
        made = self.on_policy.evaluate(rollouts, self.estimator(step), generator, redraw)
        reward = self.on_policy.reward
        terms = self.on_policy.terms(made, rollouts)
        total = weighted_sum(reward, terms)
        if not (total.requires_grad or config.duration):
            raise UserError(
                "no term of the reward that has a weight has a gradient in the embeddings, so that "
                "nothing would move: compute it from the embeddings, or use GRPO"
            )
        metrics = figures(rollouts, reward, terms, made)
        if redraw:
            del metrics["broken"]  # of the recordings, which are rewarded whatever they are
        elif config.skip_broken:
            total = total * rollouts.sound().to(total)
        kl = made.kl_per_utterance() if config.kl_reduction == "sum" else made.kl_per_token()
        loss = -total.mean() + config.beta * kl
        if config.duration:
            wanted = torch.tensor([self.recordings[index].numel() for index in chosen])
            kept = duration_reward(rollouts.lengths, wanted).to(total)
            count = processes()
            mean = summed(float(kept.mean())) / count
            gradient = score_function(
                made.log_probability, made.valid, kept, mean, count * kept.numel()
            )
            loss = loss - config.duration * gradient
            metrics["reward_duration"] = float(kept.mean())
        return loss, metrics

    def estimator(self, step: int) -> Estimator:
        """Return how the gradient passes the draw at a step."""
        tau = temperature(self.config.tau, step, self.steps)
        return Estimator(self.config.estimator, tau, self.config.context_passes)

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from; where nothing was said, its prompts."""
        if self._last is None:
            return [described(prompt) for prompt in self._asked]
        return self._last.described()

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)


def require_recordings(prompts: Sequence[Prompt], recordings: Sequence[Tensor]) -> None:
    """Check that each prompt has a recording with tokens (T,).

    Raises:
        UserError: one is missing or empty.
    """
    if len(recordings) != len(prompts):
        raise UserError(
            f"{len(recordings)} recordings for {len(prompts)} prompts: "
            "history=recorded and duration need one of each"
        )
    # Of streamed rows an empty one is refused where they are read.
    if not isinstance(recordings, Streamed) and not all(one.numel() for one in recordings):
        raise UserError("a recording has no tokens: leave it out")


def duration_reward(lengths: Tensor, wanted: Tensor) -> Tensor:
    """Return −|T − T*| / T* (B,) of lengths T (B,) and wanted lengths T* (B,), in tokens.

    After arXiv 2509.18569, with the length of the prompt's own recording for the median.

    Examples:
        >>> duration_reward(torch.tensor([50, 75]), torch.tensor([50, 50]))
        tensor([ 0.0000, -0.5000])
    """
    return -(lengths - wanted).abs() / wanted


def score_function(
    log_probability: Tensor,
    valid: Tensor,
    reward: Tensor,
    mean: float | None = None,
    count: int = 0,
) -> Tensor:
    """Return a scalar whose gradient raises what had a better reward than the others.

    mean_b A_b · mean_t log p_bt with A_b the reward less the mean of the other utterances'. It is
    not the gradient of the mean reward, which has the sum over t: here an utterance counts the same
    whatever its length, so that long ones move the policy less than they would.

    Args:
        log_probability: (B, S) of each choice, zero where nothing was chosen.
        valid: (B, S) bool, where something was chosen, at least once a row.
        reward: (B,), without gradient.
        mean: of the rewards of all processes, and `count` how many these are; None: these are all.
    """
    baseline = reward.mean() if mean is None else mean
    count = count or reward.numel()
    advantage = (reward - baseline) * count / max(1, count - 1)
    return (advantage * log_probability.sum(1) / valid.sum(1)).mean()


def figures(
    rollouts: Rollouts, reward: DifferentiableReward, terms: Mapping[str, Tensor], made: Pass
) -> dict[str, float]:
    """Return what a step logs; several terms of the reward also apart, and those without a weight.

    `kl` is in nats per token whatever the loss takes; `broken` is the share of utterances that loop
    or did not end by themselves. `engine_gap` is there where another engine has drawn.
    """
    found = {
        "reward": weighted_sum(reward, terms),
        "kl": made.kl_per_token(),
        "tokens": rollouts.lengths.float(),
        "stopped": rollouts.ended.float(),
        "broken": (~rollouts.sound()).float(),
    }
    if rollouts.log_probability is not None:
        found["engine_gap"] = engine_gap(made.log_probability, rollouts)
    for name, value in terms.items():
        if name not in reward.weights:
            found[name] = value
        elif len(reward.weights) > 1:
            found[f"reward_{name}"] = value
    return {name: float(value.detach().mean()) for name, value in found.items()}
