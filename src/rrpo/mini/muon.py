"""Muon: momentum whose update of a matrix is made orthogonal (Jordan et al. 2024)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """Move the singular values of a matrix (R, C) near one and keep its singular vectors.

    A quintic Newton-Schulz iteration in bfloat16; with Jordan's coefficients the values end between
    about 0.7 and 1.2, which is near enough, and five rounds do.
    """
    first, second, third = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    value = (matrix.T if tall else matrix).to(torch.bfloat16)
    value = value / (value.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = value @ value.T
        value = first * value + (second * gram + third * gram @ gram) @ value
    result: Tensor = value.T if tall else value
    return result.to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, with decoupled weight decay; for matrices only."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 0.02, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients; `closure`, if given, computes them first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(MOMENTUM).add_(weight.grad)
                update = orthogonalize(weight.grad + MOMENTUM * state["momentum"])
                # A tall matrix needs a longer step for the same change of its outputs' scale.
                longer = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * longer)
        return loss
