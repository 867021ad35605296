"""Rollouts: what a policy was asked and what it said, drawn by itself or by another engine.

The log-probabilities that a loss differentiates are always our own, from the teacher-forced pass.
An engine with other kernels or another precision draws from a slightly other distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, check_speech, described
from rrpo.policy.layout import prompt as prompt_ids
from rrpo.policy.lm import LMConfig
from rrpo.policy.rollout import Generated, generate
from rrpo.policy.vllm_engine import VLLMEngine
from rrpo.repetition import loops
from rrpo.sampling import Sampling

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
        UserError: the longest that a text may become is no token at all, or less than the least.
    """
    least, most = config.ratios(model.config)
    if least > most:
        raise UserError(
            f"min_ratio={least:g} is above max_ratio={most:g}, so nothing could end: lower the "
            "one, or raise the other"
        )
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


def drawn_with(own: Tensor, said: Generated) -> Tensor:
    """Return the log-probability (B, S) that each choice was drawn with, without gradient.

    That is the engine's where it says it, so that exp(own − drawn) is an importance weight, else
    our own: where the policy itself has drawn, at ends (which we count over all stop ids), and
    where nothing was chosen.

    Args:
        own: (B, S), ours of each choice.
    """
    found = own.detach().clone()
    for row, drawn in enumerate(said.log_probability or []):
        found[row, : drawn.numel()] = drawn.to(found)
    return found


def engine_gap(own: Tensor, said: Generated) -> Tensor:
    """Return the mean of |ours − the engine's| log-probability over all tokens, in nats.

    It shows how far from the distribution drawn from a policy is trained: 1e-6 in fp32, more in
    bf16, and a great deal where the engine's weights are not the policy's.
    """
    difference = (own.detach() - drawn_with(own, said)).abs()
    return difference.sum() / torch.tensor([row.numel() for row in said.tokens]).sum()
