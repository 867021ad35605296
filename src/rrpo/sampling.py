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

    def keeps_few(self, size: int) -> bool:
        """Whether at most `top_k` of `size` ids are kept, so that they are worth listing."""
        return 0 < self.top_k < size

    def largest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits / temperature (…, k) of the k largest, and their ids (…, k), ascending.

        Those that `top_p` cuts off are −inf. Of equal logits at the k-th place some are kept.
        """
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        values, ids = scaled.topk(self.top_k, dim=-1)
        if self.top_p < 1.0:
            share = (values.float() - scaled.float().logsumexp(-1, keepdim=True)).exp()
            before = share.cumsum(-1) - share
            values = values.masked_fill(before >= self.top_p, float("-inf"))
        ids, order = ids.sort(dim=-1)
        return values.gather(-1, order), ids

    def truncate(self, logits: Tensor) -> Tensor:
        """Return logits / temperature (…, V) with all but the likeliest ids at −inf.

        A relaxation of the draw must see these logits.
        """
        size = logits.shape[-1]
        if self.keeps_few(size):
            values, ids = self.largest(logits)
            return torch.full_like(logits, float("-inf")).scatter(-1, ids, values)
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        if self.top_p < 1.0:
            return nucleus(scaled.reshape(-1, size), self.top_p, size).view(logits.shape)
        return scaled

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one id per row of logits, (B, V) → (B,)."""
        if not self.keeps_few(logits.shape[-1]):
            return draw(self.truncate(logits), generator)
        values, ids = self.largest(logits)
        return ids.gather(1, draw(values, generator)[:, None])[:, 0]


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
