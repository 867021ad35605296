"""What the policy in training says, and one differentiable pass over it.

DiffRO and GRPO share all of it: how tokens are drawn, the KL to the frozen reference, the
log-probability of what was drawn, and the relaxed tokens that the reward is differentiated through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rrpo.choices import Logits, choices
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import without_adapters
from rrpo.policy.layout import Prompt, check_speech, continued, described
from rrpo.policy.layout import prompt as prompt_ids
from rrpo.policy.lm import LMConfig
from rrpo.policy.rollout import Generated, generate
from rrpo.policy.vllm_engine import VLLMEngine
from rrpo.processes import share
from rrpo.reward.reward import DifferentiableReward, evaluated
from rrpo.sampling import Relaxation, Sampling
from rrpo.tokens import IGNORE, length_mask, loops

SHORTEST = 1
"""Tokens of a rollout at the least: the reward model needs something to read."""


class RolloutConfig(Strict):
    """How tokens are drawn; lengths are in speech tokens per text id.

    By default 0.5 to 4 tokens for a phone of the mini world, and as upstream 2 to 20 for a byte
    pair of CosyVoice's text. `engine` says what draws: the policy itself ("own"), or vLLM with
    `engine_memory` GiB for its cache of keys and values.
    """

    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    min_ratio: float | None = Field(None, ge=0)
    max_ratio: float | None = Field(None, gt=0)
    engine: Literal["own", "vllm"] = "own"
    engine_memory: float = Field(1.0, gt=0)

    @property
    def sampling(self) -> Sampling:
        """What tokens are drawn from."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    def ratios(self, policy: LMConfig) -> tuple[float, float]:
        """Return the least and the greatest length for a policy, in tokens per text id."""
        least, most = (0.5, 4.0) if policy.text == "phones" else (2.0, 20.0)
        most = most if self.max_ratio is None else self.max_ratio
        return min(least, most) if self.min_ratio is None else self.min_ratio, most


@dataclass(frozen=True)
class Rollouts:
    """What a policy was asked and what it said.

    Attributes:
        prompts: B.
        said: the B answers, none empty.
    """

    prompts: list[Prompt]
    said: Generated

    @property
    def lengths(self) -> Tensor:
        """T_b (B,) int64, on the CPU."""
        return torch.tensor([tokens.numel() for tokens in self.said.tokens])

    def described(self) -> list[dict[str, Any]]:
        """Return a row for each utterance that JSON can hold, for a look at a batch."""
        rows = zip(self.prompts, self.said.tokens, strict=True)
        return [described(prompt, tokens=tokens) for prompt, tokens in rows]

    def sound(self) -> Tensor:
        """Return which utterances (B,) bool, on the CPU, ended by themselves and do not loop."""
        looping = [loops(tokens.cpu()) for tokens in self.said.tokens]
        return self.said.ended.cpu() & ~torch.tensor(looping)


def as_rollouts(
    config: LMConfig, prompts: Sequence[Prompt], speech: Sequence[Tensor], ended: Tensor, least: int
) -> Rollouts:
    """Return given utterances (T_b,) as rollouts: which ended (B,), and the least length of all."""
    for tokens in speech:
        check_speech(config, tokens)
    laid_out = [prompt_ids(config, one.text_ids, one.instruct_ids) for one in prompts]
    said = Generated(list(speech), ended, torch.full((len(speech),), least), laid_out)
    return Rollouts(list(prompts), said)


def recorded(config: LMConfig, prompts: Sequence[Prompt], speech: Sequence[Tensor]) -> Rollouts:
    """Return recordings (T_b,) as what was said: they ended by themselves, and not before."""
    rollouts = as_rollouts(config, prompts, speech, torch.ones(len(speech), dtype=torch.bool), 0)
    return replace(rollouts, said=replace(rollouts.said, least=rollouts.lengths))


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
            UserError: no prompt, a reward of other tokens, or no reference for a model without
                adapters.
        """
        if reference is None and not model.adapted:
            raise UserError("a policy without adapters needs a reference to keep close to")
        if not prompts:
            raise UserError("no prompt to optimize on: give texts and emotions")
        if reward.table.shape[0] != model.config.codes:
            raise UserError(
                f"the reward's table has {reward.table.shape[0]} rows, and the policy speaks "
                f"{model.config.codes} codes: give it a row for each"
            )
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
        said, device = rollouts.said, self.model.head.weight.device
        # First: processes that failed while they drew are heard of before any computes on.
        weight = share(float(rollouts.lengths.sum() + said.ended.sum()))
        self.reward.to(device)
        ids, targets = (
            one.to(device) for one in continued(self.model.config, said.prompts, said.tokens)
        )
        keep = targets != IGNORE
        lengths = rollouts.lengths.to(device)
        # Row b has T_b + 1 kept positions, flat in the order of the rows.
        place = length_mask(lengths + 1)
        steps = torch.arange(place.shape[1], device=device)
        may_stop = (steps >= said.least.to(device)[:, None])[place]
        relaxation = None
        if estimator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            relaxation = Relaxation(self.reward.table, estimator.name, estimator.tau, seed)
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
        valid = length_mask(lengths + said.ended.to(device), place.shape[1])
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


def draw(
    model: SpeechTokenLM,
    prompts: Sequence[Prompt],
    config: RolloutConfig,
    generator: torch.Generator,
    count: int = 1,
    engine: VLLMEngine | None = None,
) -> Rollouts:
    """Let a policy speak each prompt `count` times, those of a prompt one after the other.

    Args:
        engine: what draws, from `start_engine`; None: the policy itself.

    Raises:
        UserError: the longest that a text may become is no token at all.
    """
    least, most = config.ratios(model.config)
    shortest = min(prompt.text_ids.numel() for prompt in prompts)
    if int(most * shortest) < SHORTEST:
        raise UserError(
            f"max_ratio={most:g} leaves no token for a text of {shortest} ids: raise it"
        )
    text = [prompt.text_ids for prompt in prompts]
    instruct = [prompt.instruct_ids for prompt in prompts]
    if engine is not None:
        ratios = (least, most)
        said = engine.generate(model, text, instruct, ratios, generator, count, SHORTEST)
    else:
        said = generate(
            model,
            text,
            instruct,
            sampler="multinomial",
            min_ratio=least,
            max_ratio=most,
            generator=generator,
            sampling=config.sampling,
            count=count,
            min_tokens=SHORTEST,
        )
    return Rollouts([prompt for prompt in prompts for _ in range(count)], said)


def start_engine(model: SpeechTokenLM, config: RolloutConfig) -> VLLMEngine | None:
    """Start what is to draw; None where the policy itself does.

    Raises:
        UserError: as `VLLMEngine`.
    """
    if config.engine == "own":
        return None
    return VLLMEngine(model, config.sampling, config.engine_memory)
