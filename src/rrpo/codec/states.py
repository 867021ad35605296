"""What a recogniser's encoder hears in a recording, kept by content, and how to sum it up."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rrpo.audio import Audio, checked
from rrpo.checkpoint import load_tensors, save_tensors
from rrpo.codec.whisper import WhisperEncoder

TOKEN_SAMPLES = 640
"""Samples of a token, 40 ms at 16 kHz: two states of the encoder."""
KEPT = 0.5
"""Power of a component's spread that a summary is divided by: 0 would leave the strongest
components to decide alone, 1 would make noise as loud as they are."""


def hear(encoder: WhisperEncoder, audio: Audio) -> Tensor:
    """Return the encoder's states (T, 2 D) of audio (N,) at 16 kHz, T = ceil(N / 640).

    The states of the two halves of a token stand side by side.

    Raises:
        UserError: see `rrpo.audio.checked`; or the audio is over 30 seconds long.
    """
    samples = checked(audio)
    states = encoder.hear(np.pad(samples, (0, -samples.size % TOKEN_SAMPLES)))
    return states.reshape(-1, 2 * encoder.config.width)


class StateCache:
    """Keeps states in a folder, by the samples and the encoder's weights."""

    def __init__(self, folder: Path, encoder: WhisperEncoder) -> None:
        self.folder = folder
        self.encoder = encoder
        digest = hashlib.sha256()
        for name, weight in sorted(encoder.state_dict().items()):
            digest.update(name.encode() + weight.numpy().tobytes())
        self._encoder = digest.digest()

    def hear(self, audio: Audio) -> Tensor:
        """Return the states (T, 2 D) float16 of audio (N,); see `hear`."""
        samples = np.ascontiguousarray(audio, dtype=np.float32)
        key = hashlib.sha256(self._encoder + samples.tobytes()).hexdigest()
        path = self.folder / key[:2] / f"{key}.safetensors"
        if not path.is_file():
            save_tensors(path, {"states": hear(self.encoder, samples).half()})
        return load_tensors(path)["states"]


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


@dataclass(frozen=True)
class Summary:
    """How a stretch of speech sounds beside what else its speaker says, in S numbers.

    Mean and deviation over time of the scaled states (`pooled`), less the speaker's average, in
    the principal components of what is left. That varies with the manner of speaking and the text,
    while voice and channel cancel; no label of an emotion is used.

    Attributes:
        speakers: name → (4 D,), the average of a speaker.
        deviation: (4 D,) of what is left.
        basis: (4 D, S) principal components, each divided by a power of its spread (`KEPT`).
    """

    speakers: dict[str, Tensor]
    deviation: Tensor
    basis: Tensor

    def of(self, pooled_states: Tensor, speakers: Sequence[str]) -> Tensor:
        """Return (B, S) of pooled states (B, 4 D) and the names of their B speakers."""
        centres = torch.stack([self.speakers[name] for name in speakers])
        summed: Tensor = ((pooled_states - centres) / self.deviation) @ self.basis
        return summed


def fit_summary(pooled_states: Tensor, speakers: Sequence[str], size: int = 64) -> Summary:
    """Fit a summary to pooled states (N, 4 D) of N utterances.

    Its numbers have a mean square of 1 together; with fewer utterances than numbers the last
    ones are always 0.
    """
    names = np.asarray(speakers)
    centres = {
        name: pooled_states[torch.from_numpy(names == name)].mean(0)
        for name in np.unique(names).tolist()
    }
    left = pooled_states - torch.stack([centres[name] for name in speakers])
    deviation = left.std(0).clamp(min=1e-4)
    left = left / deviation
    _, singular, components = torch.linalg.svd(left, full_matrices=False)
    spread = (singular[:size] / len(left) ** 0.5).clamp(min=1e-4)
    basis = components[:size].T / spread**KEPT
    basis = torch.nn.functional.pad(basis, (0, size - basis.shape[1]))
    return Summary(centres, deviation, basis / (left @ basis).square().mean().sqrt())
