"""Drawing speech tokens from the policy with a key-value cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.layout import prompt
from rrpo.policy.lm import KeyValueCache, SpeechTokenLM

SAMPLERS = ("greedy", "multinomial", "ras")
NUCLEUS, TOP, WINDOW, REPEATS = 0.8, 25, 10, 1
"""CosyVoice's repetition-aware sampling: top-p, top-k, tokens looked back, repeats refused."""


def truncate(logits: Tensor, temperature: float = 1.0, top_k: int = 0) -> Tensor:
    """Return logits / temperature (…, V) with all but the k largest at −inf (k = 0 keeps all).

    This is the law tokens are drawn from, so a relaxation of the draw must see the same logits.
    """
    scaled = logits / temperature
    if top_k <= 0 or top_k >= logits.shape[-1]:
        return scaled
    smallest = scaled.topk(top_k, dim=-1).values[..., -1:]
    return scaled.masked_fill(scaled < smallest, float("-inf"))


def draw(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one id per row from softmax(scores), (B, V) → (B,), by inverting the distribution.

    One uniform number a row; in float64, so that an id of no probability is never drawn.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    uniform = torch.rand(scores.shape[0], 1, dtype=torch.float64, generator=generator)
    point = uniform.to(scores.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True).clamp_(max=scores.shape[1] - 1)[:, 0]


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
) -> list[Tensor]:
    """Decode one utterance for each text.

    Args:
        text: B 1-D int64 tensors of lengths L_b.
        instruct: B instruction prefixes, or None; they do not count in L.
        sampler: "greedy", "multinomial", or "ras", CosyVoice's repetition-aware sampling.
        min_ratio: eos (every stop id, unless greedy) is masked while fewer than
            int(min_ratio · L) tokens are out.
        max_ratio: at most int(max_ratio · L) tokens.
        generator: a CPU generator; the only source of randomness.
        temperature, top_k: of the law the multinomial sampler draws from.

    Returns:
        B int64 tensors of codes on the CPU; the stop id is not among them.

    Raises:
        UserError: an unknown sampler, or a text that is empty or outside the vocabulary.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    if not text:
        return []
    config, device = model.config, model.head.weight.device
    prompts = [
        prompt(config, words, None if instruct is None else instruct[index])
        for index, words in enumerate(text)
    ]
    lowest = torch.tensor([int(min_ratio * words.numel()) for words in text], device=device)
    highest = torch.tensor([int(max_ratio * words.numel()) for words in text], device=device)
    cache, ids = _prefill_inputs(model, prompts, int(highest.max()))
    hidden = model.hidden(ids, cache)[:, -1]
    # Upstream masks eos alone, and another stop id may end an utterance early. A rollout that is
    # to be rewarded must not be empty, so our own sampler masks every stop id.
    masked = slice(config.eos, config.eos + 1) if sampler == "greedy" else slice(config.codes, None)
    rows = torch.arange(len(prompts), device=device)
    drawn = torch.full((len(prompts), int(highest.max())), -1, device=device)
    for position in range(int(highest.max())):
        scores = model.head(hidden).float()
        early = (position < lowest[rows])[:, None]
        scores[:, masked] = scores[:, masked].masked_fill(early, float("-inf"))
        if sampler == "greedy":
            token = scores.argmax(-1)
        elif sampler == "ras":
            token = draw_aware(scores, drawn[rows, :position], generator)
        else:
            token = draw(truncate(scores, temperature, top_k), generator)
        alive = token < config.codes
        drawn[rows[alive], position] = token[alive]
        alive &= position + 1 < highest[rows]
        if not alive.all():
            rows, token = rows[alive], token[alive]
            cache.select(alive)
        if rows.numel() == 0:
            break
        cache.mask[:, cache.length] = True
        hidden = model.hidden((token + config.text_vocabulary)[:, None], cache)[:, -1]
    lengths = (drawn >= 0).sum(1).tolist()
    return [row[:length].cpu() for row, length in zip(drawn, lengths, strict=True)]


def _prefill_inputs(
    model: SpeechTokenLM, prompts: Sequence[Tensor], new: int
) -> tuple[KeyValueCache, Tensor]:
    """Left-pad the prompts to (B, P) and make a cache that also holds `new` further positions."""
    device = model.head.weight.device
    size = max(row.numel() for row in prompts)
    cache = model.new_cache(len(prompts), size + new)
    ids = torch.zeros(len(prompts), size, dtype=torch.long, device=device)
    for index, row in enumerate(prompts):
        ids[index, size - row.numel() :] = row.to(device)
        cache.mask[index, size - row.numel() : size] = True
    return cache, ids
