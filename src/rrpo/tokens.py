"""Speech-token ids, padding and masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

SPEECH_CODES = 6561
"""Codes of one frame: eight base-3 digits, 3^8."""
TOKEN_RATE = 25
"""Tokens of a second of speech."""
IGNORE = -1
"""Target value of a position that carries no loss."""


def fits_sound(count: int, seconds: float) -> bool:
    """Say whether a sound of that length can have so many tokens, 25 a second.

    Codecs round at the ends, and some leave out silence there: a tenth and four tokens are allowed.
    Those of CosyVoice's first generation are 50 a second.

    Examples:
        >>> fits_sound(50, 2.0), fits_sound(100, 2.0)
        (True, False)
    """
    return abs(count - TOKEN_RATE * seconds) <= 4 + 0.1 * TOKEN_RATE * seconds


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
