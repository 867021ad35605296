"""The encoder of a reward model: self-attention over packed tokens, and attention pooling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

ROTARY_BASE = 10_000.0
TOGETHER = 8
"""Utterances that attend in one grid, padded to the longest of them."""


def rotation(size: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (T, D/2) of rotary positions (Su 2021, arXiv 2104.09864)."""
    frequencies = ROTARY_BASE ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(size, device=device)[:, None] * frequencies[None, :]
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair of features of (..., T, D) by the angle of its position."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)


class Grid(NamedTuple):
    """Utterances of similar length, side by side for attention.

    Attributes:
        mask: (B, T) bool, B at most `TOGETHER` and T the longest of them.
        places: (N,) int64, the valid places of the flattened mask.
    """

    mask: Tensor
    places: Tensor


def grids(mask: Tensor) -> tuple[list[Grid], Tensor]:
    """Part a batch into grids, the shortest utterances first.

    Args:
        mask: (B, T) bool, a valid token in every row.

    Returns:
        the grids, and the places (N,) int64 of all their valid tokens, grid after grid, in the
        flattened mask.
    """
    size = mask.shape[1]
    positions = torch.arange(size, device=mask.device)
    lengths = (mask * (positions + 1)).amax(dim=1)
    made, taken = [], []
    for rows in torch.split(lengths.argsort(stable=True), TOGETHER):
        longest = int(lengths[rows[-1]])
        part = mask[rows, :longest]
        places = part.flatten().nonzero().squeeze(-1)
        made.append(Grid(part, places))
        taken.append((rows[:, None] * size + positions[:longest]).flatten()[places])
    return made, torch.cat(taken)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward over packed tokens.

    The tokens of a batch are packed to (N, D), N the number of valid ones, and spread over grids
    only for the attention itself: padding costs next to nothing and cannot be seen.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)

    def forward(self, packed: Tensor, parts: Sequence[Grid], turn: tuple[Tensor, Tensor]) -> Tensor:
        """Map packed (N, D) to (N, D).

        Args:
            packed: the valid tokens, grid after grid.
            parts: the grids.
            turn: cosines and sines (N, 1, 1, D / heads / 2) of the tokens' positions.
        """
        attended = self._attend(self.attention_norm(packed), parts, turn)
        packed = packed + self._drop(self.output(attended))
        inner = functional.gelu(self.expand(self.feedforward_norm(packed)))
        return packed + self._drop(self.contract(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)

    def _attend(self, packed: Tensor, parts: Sequence[Grid], turn: tuple[Tensor, Tensor]) -> Tensor:
        count, width = packed.shape
        joint = self.query_key_value(packed).view(count, 3, self.heads, -1)
        joint = torch.cat((rotate(joint[:, :2], *turn), joint[:, 2:]), dim=1).view(count, -1)
        attended = []
        owned = torch.split(joint, [len(part.places) for part in parts])
        for part, own in zip(parts, owned, strict=True):
            batch, size = part.mask.shape
            spread = own.new_zeros(batch * size, 3 * width).index_copy(0, part.places, own)
            query, key, value = spread.view(batch, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended_part = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=part.mask[:, None, None, :]
            )
            flat = attended_part.transpose(1, 2).reshape(batch * size, width)
            attended.append(flat.index_select(0, part.places))
        return torch.cat(attended)


class AttentionPooling(nn.Module):
    """Weighted mean over the valid frames; the weights are a softmax of one learned score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) and mask (B, T) bool to (B, D)."""
        scores = self.score(hidden).squeeze(-1).masked_fill(~mask, -torch.inf)
        return torch.einsum("bt,btd->bd", scores.softmax(dim=-1), hidden)
