"""Speech tokens in batches: padding, masks, and the digits of an id."""

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORE = -1
"""Target value of a position that carries no loss."""


def pad(sequences: Sequence[Tensor], value: int = 0) -> Tensor:
    """Right-pad tensors (T_b, …) to one tensor (B, T, …), T the greatest length.

    Examples:
        >>> pad([torch.tensor([1, 2]), torch.tensor([3])], value=-1)
        tensor([[ 1,  2],
                [ 3, -1]])
    """
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=value)


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Return (B, T) bool, true where position t < lengths[b]; `size` is T, by default the maximum.

    Examples:
        >>> length_mask(torch.tensor([2, 1]))
        tensor([[ True,  True],
                [ True, False]])
    """
    if size is None:
        size = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def batch(sequences: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-pad tensors (T_b, …) to one (B, T, …), with its mask (B, T) bool, on a device."""
    lengths = torch.tensor([len(one) for one in sequences])
    return pad(sequences).to(device), length_mask(lengths).to(device)


def digits(ids: Tensor) -> Tensor:
    """Split FSQ ids (…) into their eight base-3 digits (…, 8), lowest first.

    CosyVoice2's id is the sum of h_i * 3^i over digits h_i in {0, 1, 2}.

    Examples:
        >>> digits(torch.tensor([5]))
        tensor([[2, 1, 0, 0, 0, 0, 0, 0]])
    """
    powers = 3 ** torch.arange(8, device=ids.device)
    return (ids[..., None] // powers) % 3
