"""What a recogniser's encoder hears in a recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rrpo.audio import Audio, checked
from rrpo.codec.whisper import WhisperEncoder

TOKEN_SAMPLES = 640
"""Samples of a token, 40 ms at 16 kHz: two states of the encoder."""


def hear(encoder: WhisperEncoder, audio: Audio) -> Tensor:
    """Return the encoder's states (T, 2 D) of audio (N,) at 16 kHz, T = ceil(N / 640).

    The states of the two halves of a token stand side by side.

    Raises:
        UserError: see `rrpo.audio.checked`; or the audio is over 30 seconds long.
    """
    samples = checked(audio)
    states = encoder.hear(np.pad(samples, (0, -samples.size % TOKEN_SAMPLES)))
    return states.reshape(-1, 2 * encoder.config.width)


def pooled(frames: Tensor, mask: Tensor) -> Tensor:
    """Return mean and standard deviation (B, 2 D) over the valid frames of (B, T, D).

    Args:
        frames: (B, T, D).
        mask: (B, T) bool, at least one true in each row.
    """
    count = mask.sum(1)[:, None]
    valid = mask[..., None]
    mean = (frames * valid).sum(1) / count
    squares = ((frames - mean[:, None]) * valid).square().sum(1) / count
    # The root has no gradient at zero.
    return torch.cat([mean, (squares + 1e-6).sqrt()], dim=-1)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation (2 D,) of the states that a tokenizer was trained on."""

    mean: Tensor
    deviation: Tensor

    def apply(self, states: Tensor) -> Tensor:
        """Bring states (…, 2 D) of any type to float32 of mean 0 and deviation 1."""
        return (states.float() - self.mean) / self.deviation


def measure_scale(heard: Sequence[Tensor]) -> Scale:
    """Measure the scale of states, each (T, 2 D)."""
    count = sum(len(states) for states in heard)
    mean = torch.stack([states.double().sum(0) for states in heard]).sum(0) / count
    squares = torch.stack([(states.double() - mean).square().sum(0) for states in heard]).sum(0)
    return Scale(mean.float(), (squares / count).sqrt().clamp(min=1e-4).float())
