"""The distribution that tokens are drawn from: truncation and the draw itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

NUCLEUS, TOP, WINDOW, REPEATS = 0.8, 25, 10, 1
"""CosyVoice's repetition-aware sampling: top-p, top-k, tokens looked back, repeats refused."""


@dataclass(frozen=True)
class Sampling:
    """A distribution over ids: softmax(logits / temperature), the unlikely ids cut off.

    Kept are the k largest (`top_k` = 0: all) and of those, in falling order, the ids until they sum
    to `top_p` of all probability.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def cuts(self) -> bool:
        """Whether unlikely ids are cut off."""
        return self.top_k > 0 or self.top_p < 1.0

    def truncate(self, logits: Tensor) -> Tensor:
        """Return logits / temperature (…, V) with all but the likeliest ids at −inf.

        A relaxation of the draw must see these logits.
        """
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        size = logits.shape[-1]
        if self.top_p < 1.0:
            most = self.top_k if self.top_k > 0 else size
            return nucleus(scaled.reshape(-1, size), self.top_p, most).view(logits.shape)
        if self.top_k <= 0 or self.top_k >= size:
            return scaled
        smallest = scaled.topk(self.top_k, dim=-1).values[..., -1:]
        return scaled.masked_fill(scaled < smallest, float("-inf"))

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one id per row of logits, (B, V) → (B,)."""
        return draw(self.truncate(logits), generator)


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
