"""What the training loop asks of an objective."""

from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Model = TypeVar("Model", bound=torch.nn.Module)


class Objective(Protocol[Model]):
    """What is trained, and towards what.

    An objective that takes tensors from one step to the next keeps them in a dictionary `carried`,
    which becomes part of the checkpoint. One that has a method `batch()` returns from it what the
    last loss was computed from (`rrpo.diverged.Rows`): where that loss is not finite, it is written
    into `diverged.json` for a look.
    """

    @property
    def model(self) -> Model:
        """The model whose parameters with `requires_grad` are trained, in place."""
        ...

    def loss(
        self, model: Model, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss of one step, and figures to log.

        Figures are finite, as the loss is: one that is not ends the training, as does `NotFinite`.

        Args:
            model: the trained model, in training mode, on its device. Frozen companions of the
                objective are brought to that device by the objective.
            step: 1 … steps, the number that `metrics.jsonl` shows.
            generator: on the CPU; the only source of chance besides the global states of torch
                (dropout), numpy and Python. A loss must depend on nothing else that changes but
                `carried`.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into a checkpoint folder (`model.safetensors`, `model.json`)."""
        ...
