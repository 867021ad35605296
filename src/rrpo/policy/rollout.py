"""Drawing speech tokens from the policy with a key-value cache, and what was asked and said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rrpo.config import Strict
from rrpo.errors import NotFinite, UserError
from rrpo.policy.layout import Prompt, Recording, check_speech, described, prompt
from rrpo.policy.lm import KeyValueCache, LMConfig, SpeechTokenLM
from rrpo.policy.packed_weights import Decoder
from rrpo.repetition import loops
from rrpo.sampling import WINDOW, Sampling, draw_aware

if TYPE_CHECKING:
    from rrpo.policy.vllm_engine import VLLMEngine

Sample = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]
SAMPLERS = ("greedy", "multinomial", "ras")
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
class Generated:
    """What a policy said: N utterances, all tensors on its device; iterating gives the tokens.

    Attributes:
        tokens: N int64 tensors (T,) of codes; the stop id is not among them.
        ended: (N,) bool, whether an utterance ended by itself; if not, it reached its limit.
        least: (N,) int64, before how many tokens ending was forbidden.
        laid_out: N int64 tensors, the joint ids that each continues.
        log_probability: N tensors (T,), what another engine says it drew each token with; None
            where the policy itself has drawn.
    """

    tokens: list[Tensor]
    ended: Tensor
    least: Tensor
    laid_out: list[Tensor]
    log_probability: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the tokens of each utterance."""
        return iter(self.tokens)

    def __len__(self) -> int:
        """Return N."""
        return len(self.tokens)

    def __getitem__(self, index: int) -> Tensor:
        """Return the tokens of one utterance."""
        return self.tokens[index]


@dataclass(frozen=True)
class Rollouts(Generated):
    """What a policy said, none of it empty, and what it was asked.

    Attributes:
        prompts: N.
    """

    prompts: list[Prompt] = field(kw_only=True)

    @property
    def lengths(self) -> Tensor:
        """T_b (B,) int64, on the CPU."""
        return torch.tensor([tokens.numel() for tokens in self.tokens])

    def described(self) -> list[dict[str, Any]]:
        """Return a row for each utterance that JSON can hold, for a look at a batch."""
        rows = zip(self.prompts, self.tokens, strict=True)
        return [described(prompt, tokens=tokens) for prompt, tokens in rows]

    def sound(self) -> Tensor:
        """Return which utterances (B,) bool, on the CPU, ended by themselves and do not loop."""
        looping = [loops(tokens.cpu()) for tokens in self.tokens]
        return self.ended.cpu() & ~torch.tensor(looping)


@torch.no_grad()
def generate(
    model: SpeechTokenLM,
    text: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
    sampler: str = "greedy",
    min_ratio: float = 2.0,
    max_ratio: float = 20.0,
    generator: torch.Generator | None = None,
    sampling: Sampling | None = None,
    recordings: Sequence[Recording] | None = None,
    count: int = 1,
    min_tokens: int = 0,
) -> Generated:
    """Decode `count` utterances for each text; a text is read once for all of them.

    Args:
        text: B 1-D int64 tensors of lengths L_b.
        instruct: B instruction prefixes, or None; they do not count in L.
        sampler: "greedy", "multinomial", or "ras", CosyVoice's repetition-aware sampling.
        min_ratio: eos (with "multinomial" every stop id) is masked while fewer than
            int(min_ratio · L) tokens are out.
        max_ratio: at most int(max_ratio · L) tokens.
        generator: a CPU generator; the only source of randomness.
        sampling: what the multinomial sampler draws from; None: softmax(logits).
        recordings: B to speak on from, whose voice is taken over (zero-shot); they count
            neither in L nor in what is returned.
        count: utterances of each text.
        min_tokens: minimum tokens, as `min_ratio` of a short text may be none.

    Returns:
        B · count utterances, those of a text one after the other.

    Raises:
        UserError: an unknown sampler, settings of another, a count under 1, or an id outside its
            vocabulary.
        NotFinite: the policy's scores are NaN or infinite.
    """
    sample = _sampler(sampler, sampling or Sampling())
    if count < 1:
        raise UserError(f"cannot decode {count} utterances of a text: ask for at least one")
    config, device = model.config, model.head.weight.device
    prompts = _prompts(model, text, instruct, recordings)
    sizes = [words.numel() for words in text for _ in range(count)]
    least = [max(min_tokens, int(min_ratio * size)) for size in sizes]
    most = [int(max_ratio * size) for size in sizes]
    lowest, highest = (torch.tensor(each, device=device).long() for each in (least, most))
    if not prompts:
        return Generated([], lowest.bool(), lowest, [])
    cache, hidden = _read(model, prompts, max(most), count)
    # Upstream masks eos alone, and another stop id may end an utterance early. A rollout that is
    # to be rewarded must not be empty, so our own sampler masks every stop id.
    every = sampler == "multinomial"
    masked = slice(config.codes, None) if every else slice(config.eos, config.eos + 1)
    decoder = Decoder(model, cache)
    drawn = _decode(decoder, hidden, sample, (lowest, highest), masked, config.codes, generator)
    lengths = (drawn >= 0).sum(1)
    tokens = [row[:length] for row, length in zip(drawn, lengths.tolist(), strict=True)]
    repeated = [one for one in prompts for _ in range(count)]
    return Generated(tokens, lengths < highest, lowest, repeated)


def _prompts(
    model: SpeechTokenLM,
    text: Sequence[Tensor],
    instruct: Sequence[Tensor] | None,
    recordings: Sequence[Recording] | None,
) -> list[Tensor]:
    """Lay out what precedes speech, on the policy's device."""
    told: Sequence[Tensor | None] = instruct or [None] * len(text)
    before: Sequence[Recording | None] = recordings or [None] * len(text)
    rows = zip(text, told, before, strict=True)
    return [prompt(model.config, *row).to(model.head.weight.device) for row in rows]


def _decode(
    decoder: Decoder,
    hidden: Tensor,
    sample: Sample,
    bounds: tuple[Tensor, Tensor],
    masked: slice,
    codes: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw ids until every utterance has ended; a row that has is dropped from the batch.

    Args:
        hidden: (B, D) of the last position of each prompt.
        bounds: (B,) and (B,) int64, the fewest and the most tokens of each.
        masked: the ids that cannot be drawn before the fewest are out.

    Returns:
        (B, T) int64, −1 where an utterance is over.
    """
    lowest, highest = bounds
    rows = torch.arange(len(lowest), device=hidden.device)
    alive = torch.ones_like(rows, dtype=torch.bool)
    drawn = torch.full((len(lowest), int(highest.max())), -1, device=hidden.device)
    longest_least, shortest_most = int(lowest.max()), int(highest.min())
    sound = torch.ones((), dtype=torch.bool, device=hidden.device)
    for position in range(drawn.shape[1]):
        scores = decoder.logits(hidden)
        if position < longest_least:
            early = (position < lowest[rows])[:, None]
            scores[:, masked] = scores[:, masked].masked_fill(early, float("-inf"))
        sound = sound & scores.amax(1).isfinite().all()
        token = sample(scores, drawn[rows, max(0, position - WINDOW) : position], generator)
        alive &= token < codes
        drawn[rows, position] = torch.where(alive, token, -1)
        if position + 1 >= shortest_most:
            alive &= position + 1 < highest[rows]
        left, finite = torch.stack([alive.sum(), sound.long()]).tolist()
        if not finite:
            raise NotFinite(
                f"the policy's scores are not finite numbers at token {position + 1}: its training "
                "had failed, or its file is damaged; take an earlier checkpoint of it"
            )
        if left == 0:
            break
        if left < alive.numel():
            rows, token = rows[alive], token[alive]
            decoder.select(alive)
            alive = alive[alive]
        hidden = decoder.step(token)
    return drawn


def _sampler(name: str, sampling: Sampling) -> Sample:
    """Return what draws the next ids (B,) from scores (B, V) and the tokens so far (B, t)."""
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    if name == "multinomial":
        return lambda scores, _, generator: sampling.draw(scores, generator)
    if sampling != Sampling():
        raise UserError(f"temperature, top_k and top_p are multinomial's: {name} has its own")
    return draw_aware if name == "ras" else lambda scores, _, __: scores.argmax(-1)


def _read(
    model: SpeechTokenLM, prompts: Sequence[Tensor], new: int, count: int
) -> tuple[KeyValueCache, Tensor]:
    """Read B prompts into a cache that also holds `new` further positions.

    Returns:
        the cache and the last hidden states (B · count, D), each prompt's `count` times.
    """
    device = model.head.weight.device
    size = max(row.numel() for row in prompts)
    kind = device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    cache = model.new_cache(len(prompts), size + new, half)
    ids = torch.zeros(len(prompts), size, dtype=torch.long, device=device)
    for index, row in enumerate(prompts):  # padded on the left
        ids[index, size - row.numel() :] = row
        cache.mask[index, size - row.numel() : size] = True
    hidden = model.hidden(ids, cache)[:, -1]
    if count > 1:
        cache.repeat(count)
        hidden = hidden.repeat_interleave(count, dim=0)
    return cache, hidden


def as_rollouts(
    config: LMConfig, prompts: Sequence[Prompt], speech: Sequence[Tensor], ended: Tensor, least: int
) -> Rollouts:
    """Return given utterances (T_b,) as rollouts: which ended (B,), and the least length of all."""
    for tokens in speech:
        check_speech(config, tokens)
    laid_out = [prompt(config, one.text_ids, one.instruct_ids) for one in prompts]
    fewest = torch.full((len(speech),), least)
    return Rollouts(list(speech), ended, fewest, laid_out, prompts=list(prompts))


def recorded(config: LMConfig, prompts: Sequence[Prompt], speech: Sequence[Tensor]) -> Rollouts:
    """Return recordings (T_b,) as what was said: they ended by themselves, and not before."""
    rollouts = as_rollouts(config, prompts, speech, torch.ones(len(speech), dtype=torch.bool), 0)
    return replace(rollouts, least=rollouts.lengths)


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
        engine: what draws, from `rrpo.objectives.on_policy.start_engine`; None: the policy itself.

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
    every = [prompt for prompt in prompts for _ in range(count)]
    drawn = (said.tokens, said.ended, said.least, said.laid_out, said.log_probability)
    return Rollouts(*drawn, prompts=every)
