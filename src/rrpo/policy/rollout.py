"""Drawing speech tokens from the policy with a key-value cache."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rrpo.errors import NotFinite, UserError
from rrpo.policy.decoding import Decoder
from rrpo.policy.layout import Recording, prompt
from rrpo.policy.lm import KeyValueCache, SpeechTokenLM

Sample = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]
SAMPLERS = ("greedy", "multinomial", "ras")
NUCLEUS, TOP, WINDOW, REPEATS = 0.8, 25, 10, 1
"""CosyVoice's repetition-aware sampling: top-p, top-k, tokens looked back, repeats refused."""


def truncate(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Return logits / temperature (…, V) with all but the likeliest ids at −inf.

    Kept are the k largest (k = 0: all) and of those, in falling order, the ids until they sum to
    top_p of all probability. This is the law tokens are drawn from, so a relaxation of the draw
    must see the same logits.
    """
    scaled = logits if temperature == 1.0 else logits / temperature
    size = logits.shape[-1]
    if top_p < 1.0:
        kept = nucleus(scaled.reshape(-1, size), top_p, top_k if top_k > 0 else size)
        return kept.view(logits.shape)
    if top_k <= 0 or top_k >= size:
        return scaled
    smallest = scaled.topk(top_k, dim=-1).values[..., -1:]
    return scaled.masked_fill(scaled < smallest, float("-inf"))


def draw(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one id per row from softmax(scores), (B, V) → (B,), by inverting the distribution.

    One uniform number a row; summed in float64, so that an id of no probability is never drawn.
    """
    probability = scores.softmax(-1)
    if probability.device.type == "mps":  # which has no float64
        probability = probability.cpu()
    cumulative = probability.double().cumsum(-1)
    uniform = torch.rand(scores.shape[0], 1, dtype=torch.float64, generator=generator)
    point = uniform.to(cumulative.device) * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, point, right=True).clamp_(max=scores.shape[1] - 1)
    return found[:, 0].to(scores.device)


def nucleus(scores: Tensor, top_p: float, top_k: int) -> Tensor:
    """Return scores (B, V) with all but the likeliest at −inf.

    Kept are the largest while those before them sum to less than top_p, at most top_k; so the id
    that crosses top_p is kept, as CosyVoice does.
    """
    ordered, order = scores.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = before < top_p
    kept[:, top_k:] = False
    return scores.masked_fill(~torch.zeros_like(kept).scatter(1, order, kept), float("-inf"))


def draw_aware(scores: Tensor, history: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one id per row as CosyVoice's repetition-aware sampling does (Chen 2024, VALL-E 2).

    A draw from the nucleus that is among the last ten tokens is refused; then the row is drawn from
    all other ids.

    Args:
        scores: (B, V).
        history: (B, t) the tokens so far.
    """
    token = draw(nucleus(scores, NUCLEUS, TOP), generator)
    again = (history[:, -WINDOW:] == token[:, None]).sum(1) >= REPEATS
    others = scores.scatter(1, token[:, None], float("-inf"))
    return torch.where(again, draw(others, generator), token)


@torch.no_grad()
def generate(
    model: SpeechTokenLM,
    text: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
    sampler: str = "greedy",
    min_ratio: float = 2.0,
    max_ratio: float = 20.0,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    recordings: Sequence[Recording] | None = None,
    count: int = 1,
    compiled: bool = False,
    at_least: int = 0,
) -> list[Tensor]:
    """Decode `count` utterances for each text; a text is read once for all of them.

    Args:
        text: B 1-D int64 tensors of lengths L_b.
        instruct: B instruction prefixes, or None; they do not count in L.
        sampler: "greedy", "multinomial", or "ras", CosyVoice's repetition-aware sampling.
        min_ratio: eos (with "multinomial" every stop id) is masked while fewer than
            int(min_ratio · L) tokens are out.
        max_ratio: at most int(max_ratio · L) tokens.
        at_least: so many tokens in any case, as `min_ratio` of a short text may be none.
        generator: a CPU generator; the only source of randomness.
        temperature: of the distribution that the multinomial sampler draws from (`truncate`).
        top_k: likewise.
        top_p: likewise.
        recordings: B to speak on from, whose voice is taken over (zero-shot); they count
            neither in L nor in what is returned.
        count: utterances of each text.
        compiled: let `torch.compile` fuse the decoding step, a minute of compiling for each new
            shape. Needs a C++ compiler; on a CPU it was slower (docs/performance.md).

    Returns:
        B · count int64 tensors of codes on the CPU, those of a text one after the other; the stop
        id is not among them.

    Raises:
        UserError: an unknown sampler, settings of another, a count under 1, or an id outside its
            vocabulary.
        NotFinite: the policy's scores are NaN or infinite.
    """
    sample = _sampler(sampler, temperature, top_k, top_p)
    if count < 1:
        raise UserError(f"cannot decode {count} utterances of a text: ask for at least one")
    if not text:
        return []
    config, device = model.config, model.head.weight.device
    prompts = [
        prompt(
            config,
            words,
            None if instruct is None else instruct[index],
            None if recordings is None else recordings[index],
        )
        for index, words in enumerate(text)
    ]
    sizes = [words.numel() for words in text for _ in range(count)]
    lowest = torch.tensor([max(at_least, int(min_ratio * size)) for size in sizes], device=device)
    highest = torch.tensor([int(max_ratio * size) for size in sizes], device=device)
    cache, ids = _prefill_inputs(model, prompts, int(highest.max()))
    hidden = model.hidden(ids, cache)[:, -1]
    if count > 1:
        cache.repeat(count)
        hidden = hidden.repeat_interleave(count, dim=0)
    decoder = Decoder(model, cache, compiled)
    # Upstream masks eos alone, and another stop id may end an utterance early. A rollout that is
    # to be rewarded must not be empty, so our own sampler masks every stop id.
    every = sampler == "multinomial"
    masked = slice(config.codes, None) if every else slice(config.eos, config.eos + 1)
    drawn = _decode(decoder, hidden, sample, (lowest, highest), masked, config.codes, generator)
    lengths = (drawn >= 0).sum(1).tolist()
    return [row[:length].cpu() for row, length in zip(drawn, lengths, strict=True)]


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
        # A compiled step keeps its shape.
        if not decoder.compiled and left < alive.numel():
            rows, token = rows[alive], token[alive]
            decoder.select(alive)
            alive = alive[alive]
        hidden = decoder.step(token.clamp(max=codes - 1))
    return drawn


def _sampler(name: str, temperature: float, top_k: int, top_p: float) -> Sample:
    """Return what draws the next ids (B,) from scores (B, V) and the tokens so far (B, t)."""
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    if name == "multinomial":
        return lambda scores, _, generator: draw(
            truncate(scores, temperature, top_k, top_p), generator
        )
    if (temperature, top_k, top_p) != (1.0, 0, 1.0):
        raise UserError(f"temperature, top_k and top_p are multinomial's: {name} has its own")
    return draw_aware if name == "ras" else lambda scores, _, __: scores.argmax(-1)


def _prefill_inputs(
    model: SpeechTokenLM, prompts: Sequence[Tensor], new: int
) -> tuple[KeyValueCache, Tensor]:
    """Left-pad the prompts to (B, P) and make a cache that also holds `new` further positions."""
    device = model.head.weight.device
    size = max(row.numel() for row in prompts)
    kind = device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    cache = model.new_cache(len(prompts), size + new, half)
    ids = torch.zeros(len(prompts), size, dtype=torch.long, device=device)
    for index, row in enumerate(prompts):
        ids[index, size - row.numel() :] = row.to(device)
        cache.mask[index, size - row.numel() : size] = True
    return cache, ids
