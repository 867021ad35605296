"""What the policy in training says, and one differentiable pass over it.

DiffRO and GRPO share all of it: how tokens are drawn, the KL to the frozen reference, the
log-probability of what was drawn, and the relaxed tokens that the reward is differentiated through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rrpo.choices import Logits, choices
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import without_adapters
from rrpo.policy.layout import Prompt, continued
from rrpo.policy.rollout import RolloutConfig, Rollouts, draw
from rrpo.policy.vllm_engine import VLLMEngine
from rrpo.processes import share
from rrpo.reward.differentiable import DifferentiableReward, evaluated, require_reward
from rrpo.sampling import Relaxation
from rrpo.tokens import IGNORE, length_mask


@dataclass(frozen=True)
class Pass:
    """One teacher-forced pass over rollouts, with gradient.

    Attributes:
        log_probability: (B, T + 1) of each choice under the distribution it was drawn from, an end
            at T_b included; zero where nothing was chosen.
        valid: (B, T + 1) bool, where something was chosen.
        kl: (B, T + 1), KL(policy ‖ reference) in nats of each position; zero where nothing was
            chosen.
        embeddings: (B, T, E) relaxed tokens; E is 0 where no relaxation was asked for.
        mask: (B, T) bool, true at tokens.
        share: what a mean over the valid positions weighs (`rrpo.processes.share`).
    """

    log_probability: Tensor
    valid: Tensor
    kl: Tensor
    embeddings: Tensor
    mask: Tensor
    share: float = 1.0

    def kl_per_token(self) -> Tensor:
        """Return the mean of the KL over all valid positions of the batch, in nats per token.

        With several processes their mean is that over the positions of all.
        """
        return self.kl.sum() / self.valid.sum() * self.share

    def kl_per_utterance(self) -> Tensor:
        """Return the sum of the KL over an utterance's positions, a mean over the batch."""
        return self.kl.sum(1).mean()


@dataclass(frozen=True)
class Estimator:
    """How the reward's gradient passes the draw.

    Attributes:
        name: one of `rrpo.sampling.ESTIMATORS`.
        tau: temperature of the relaxation.
        passes: through how many draws the gradient also reaches the tokens before them: 0 stops at
            the tokens that were fed back, one more each time costs one more pass.
    """

    name: str
    tau: float = 1.0
    passes: int = 0


class OnPolicy:
    """A policy to be trained, its frozen reference, the reward, and what is asked for."""

    def __init__(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward: DifferentiableReward,
        prompts: Sequence[Prompt],
        config: RolloutConfig,
    ) -> None:
        """Freeze what is not trained.

        Args:
            reference: what the KL is measured against; None is the model without its adapters.

        Raises:
            UserError: no prompt, no reference for a model without adapters, or as `require_reward`.
        """
        if reference is None and not model.adapted:
            raise UserError("a policy without adapters needs a reference to keep close to")
        if not prompts:
            raise UserError("no prompt to optimize on: give texts and emotions")
        require_reward(reward, model.config.codes)
        self.model, self.reward, self.prompts, self.config = model, reward, prompts, config
        self.reference = None if reference is None else reference.eval().requires_grad_(False)
        self.engine: VLLMEngine | None = None

    def draw(
        self, prompts: Sequence[Prompt], generator: torch.Generator, count: int = 1
    ) -> Rollouts:
        """Let the policy speak each prompt `count` times, those of a prompt one after the other."""
        if self.engine is None:
            self.engine = start_engine(self.model, self.config)
        return draw(self.model, prompts, self.config, generator, count, self.engine)

    def terms(self, made: Pass, rollouts: Rollouts) -> dict[str, Tensor]:
        """Return the reward's terms (B,) of a pass with relaxed tokens, with gradient."""
        return evaluated(self.reward, made.embeddings, made.mask, rollouts.prompts)

    def evaluate(
        self,
        rollouts: Rollouts,
        estimator: Estimator | None = None,
        generator: torch.Generator | None = None,
        redraw: bool = False,
    ) -> Pass:
        """Run one teacher-forced pass over rollouts.

        Args:
            estimator: how the tokens are relaxed for the reward; None: not at all.
            generator: of the relaxation's noise, and of tokens drawn again.
            redraw: draw a token again at every position, given the tokens before it as they are;
                ends stay. The result is of these tokens. Else it is of the rollouts' own.
        """
        device = self.model.head.weight.device
        # First: processes that failed while they drew are heard of before any computes on.
        weight = share(float(rollouts.lengths.sum() + rollouts.ended.sum()))
        self.reward.to(device)
        ids, targets = (
            one.to(device)
            for one in continued(self.model.config, rollouts.laid_out, rollouts.tokens)
        )
        keep = targets != IGNORE
        lengths = rollouts.lengths.to(device)
        # Row b has T_b + 1 kept positions, flat in the order of the rows.
        place = length_mask(lengths + 1)
        steps = torch.arange(place.shape[1], device=device)
        may_stop = (steps >= rollouts.least.to(device)[:, None])[place]
        relaxation = None
        if estimator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            relaxation = Relaxation(self.reward.table.detach(), estimator.name, estimator.tau, seed)
        passes = 0 if estimator is None else estimator.passes
        logits = self._logits(self.model.hidden(ids)[keep])
        found = choices(
            logits,
            targets[keep],
            self.model.config.codes,
            self.config.sampling,
            may_stop,
            self.reference_logits(ids, keep),
            None if passes else relaxation,
            generator if redraw else None,
        )
        embedded = found.embeddings
        if passes and relaxation is not None:
            embedded = self._unrolled(ids, keep, found.tokens, may_stop, relaxation, passes, logits)
        valid = length_mask(lengths + rollouts.ended.to(device), place.shape[1])
        mask = length_mask(lengths)
        embeddings = embedded.new_zeros(*mask.shape, embedded.shape[-1])
        embeddings[mask] = embedded[length_mask(lengths, place.shape[1])[place]]
        log_probability, kl = (
            values.new_zeros(place.shape).masked_scatter(place, values).masked_fill(~valid, 0.0)
            for values in (found.log_probability, found.kl)
        )
        return Pass(log_probability, valid, kl, embeddings, mask, weight)

    def _logits(self, hidden: Tensor) -> Logits:
        return Logits(hidden, self.model.head.weight, self.model.head.bias)

    def _unrolled(
        self,
        ids: Tensor,
        keep: Tensor,
        tokens: Tensor,
        may_stop: Tensor,
        relaxation: Relaxation,
        passes: int,
        logits: Logits,
    ) -> Tensor:
        """Return the relaxed tokens (n, E) whose gradient also reaches earlier draws.

        The tokens that are fed back are relaxed with the same noise, read through the policy's own
        table, and go through the policy again; every value stays what it was.

        Args:
            tokens: (n,), at the kept positions of joint ids (B, S).
            may_stop: (n,) bool.
            logits: of the first pass.
        """
        config = self.model.config
        fed_back = (ids >= config.text_vocabulary) & (ids < config.text_vocabulary + config.codes)
        drawn = tokens < config.codes
        own = replace(relaxation, table=self.model.speech_embedding.weight[: config.codes])
        rest = (tokens, config.codes, self.config.sampling, may_stop, None)
        inputs = self.model.embed(ids)
        for _ in range(passes):
            relaxed = choices(logits, *rest, own).embeddings[drawn]
            again = inputs.index_put((fed_back,), relaxed.to(inputs.dtype))
            logits = self._logits(self.model.hidden(ids, inputs=again)[keep])
        return choices(logits, *rest, relaxation).embeddings

    @torch.no_grad()
    def reference_logits(self, ids: Tensor, keep: Tensor) -> Logits:
        """Return the reference's logits at the kept positions of joint ids (B, S)."""
        if self.reference is not None:
            model = self.reference.to(ids.device)
            return Logits(model.hidden(ids)[keep], model.head.weight, model.head.bias)
        with without_adapters(self.model):
            return self._logits(self.model.hidden(ids)[keep])


def start_engine(model: SpeechTokenLM, config: RolloutConfig) -> VLLMEngine | None:
    """Start what is to draw; None where the policy itself does.

    Raises:
        UserError: as `VLLMEngine`.
    """
    if config.engine == "own":
        return None
    return VLLMEngine(model, config.sampling, config.engine_memory)


def drawn_with(own: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the log-probability (B, S) that each choice was drawn with, without gradient.

    That is an engine's (`rollout.engine`) where it says it, so that exp(own − drawn) is an
    importance weight, else our own: where the policy itself has drawn, at ends (which we count over
    all stop ids), and where nothing was chosen.

    Args:
        own: (B, S), ours of each choice.
    """
    found = own.detach().clone()
    for row, drawn in enumerate(rollouts.log_probability or []):
        found[row, : drawn.numel()] = drawn.to(found)
    return found


def engine_gap(own: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the mean of |ours − the engine's| log-probability over all tokens, in nats.

    It shows how far from the distribution drawn from a policy is trained: 1e-6 in fp32, more in
    bf16, and a great deal where the engine's weights are not the policy's.
    """
    difference = (own.detach() - drawn_with(own, rollouts)).abs()
    return difference.sum() / rollouts.lengths.sum()
