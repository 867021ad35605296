"""How a stretch of speech sounds, in a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

KEPT = 0.5
"""Power of a component's spread that a summary is divided by: 0 would leave the strongest
components to decide alone, 1 would make noise as loud as they are."""


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
