"""What the codecs of this package have in common: a block of their networks, digits of a token."""

import torch
from torch import Tensor, nn

DIGITS = 8
"""Values of a token, each -1, 0 or 1."""


class Block(nn.Module):
    """Residual block: a dilated convolution of three tokens, GELU, and a linear layer."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(3 * width, width)
        self.project = nn.Linear(width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); mask (B, T, 1) is 0 on padding."""
        tokens, reach = hidden.shape[1], self.dilation
        normed = nn.functional.pad(self.norm(hidden) * mask, (0, 0, reach, reach))
        # One matrix product over the three shifts: on a CPU far faster than a convolution.
        shifts = [normed[:, start : start + tokens] for start in (0, reach, 2 * reach)]
        mixed = self.mix(torch.cat(shifts, dim=-1))
        result: Tensor = self.project(nn.functional.gelu(mixed))
        return hidden + result
