"""What length and energy alone say of an emotion, so that the reward model need not learn it.

Long is not sad and loud is not angry, but in a corpus they go together, and a policy that is
rewarded for what goes along drags or shouts. A bias model is fitted to these two alone, frozen, and
its log-posterior added to the reward model's logits while that is trained: what it explains is then
no longer to be learnt (the bias product of Clark et al. 2019, arXiv 1909.03683). Used as a reward,
the model stands without it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from torch import Tensor

from rrpo.data.shards import Utterance

RIDGE = 1e-3
"""Of the weights, per utterance: keeps them finite where a class can be told without error."""


def nuisances(utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Return log length and, where every row has it, energy in dB: (N, 1) or (N, 2)."""
    lengths = np.log([row.tokens.size for row in utterances])
    if any(row.energy is None for row in utterances):
        return lengths[:, None]
    return np.stack([lengths, [float(row.energy or 0.0) for row in utterances]], axis=1)


class NuisanceModel:
    """Logistic regression on nuisances, and their squares, with a weight for each class."""

    def __init__(self, values: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit by maximum likelihood.

        Args:
            values: (N, F) nuisances.
            targets: (N, K) distributions over the classes.
        """
        from scipy.optimize import minimize  # takes a while, and few commands need it

        self.mean, self.deviation = values.mean(0), values.std(0) + 1e-6
        inputs = self._inputs(values)
        shape = (inputs.shape[1], targets.shape[1])

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weights = flat.reshape(shape)
            logits = inputs @ weights
            value = -(targets * log_softmax(logits, axis=1)).sum(1).mean()
            gradient = inputs.T @ (softmax(logits, axis=1) - targets) / len(inputs)
            gradient += 2 * RIDGE * weights
            return float(value + RIDGE * (weights**2).sum()), gradient.ravel()

        found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B")
        self.weights = found.x.reshape(shape)

    def log_posterior(self, values: NDArray[np.float64]) -> Tensor:
        """Return the log-posteriors (N, K) float32 of nuisances (N, F)."""
        logits = self._inputs(values) @ self.weights
        return torch.from_numpy(log_softmax(logits, axis=1).astype(np.float32))

    def _inputs(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = (values - self.mean) / self.deviation
        return np.concatenate([np.ones((len(scaled), 1)), scaled, scaled**2], axis=1)
