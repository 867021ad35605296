"""Drawing speech tokens from the policy with a key-value cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.layout import prompt
from rrpo.policy.lm import KeyValueCache, SpeechTokenLM

SAMPLERS = ("greedy", "multinomial")


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
    """Draw one id per row from softmax(scores), (B, V) → (B,), by the exponential race.

    argmax of p_j / E_j with E_j ~ Exp(1) has the law p; unlike `torch.multinomial` it takes
    vocabularies of any size and is one pass over the row.
    """
    noise = torch.empty(scores.shape, dtype=torch.float32)
    noise.exponential_(generator=generator)
    return (scores.float().softmax(-1) / noise.to(scores.device)).argmax(-1)


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
        sampler: "greedy" or "multinomial".
        min_ratio: eos (with "multinomial" every stop id) is masked while fewer than
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
    last_masked = config.eos + 1 if sampler == "greedy" else config.speech_rows
    rows = torch.arange(len(prompts), device=device)
    drawn = torch.full((len(prompts), int(highest.max())), -1, device=device)
    for position in range(int(highest.max())):
        scores = model.head(hidden).float()
        early = (position < lowest[rows])[:, None]
        scores[:, config.eos : last_masked] = scores[:, config.eos : last_masked].masked_fill(
            early, float("-inf")
        )
        if sampler == "greedy":
            token = scores.argmax(-1)
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
