"""What the training loop asks of an objective."""

from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Model = TypeVar("Model", bound=torch.nn.Module, covariant=True)


class Objective(Protocol[Model]):
    """What is trained, and towards what.

    Three more members are optional. `carried` is a dictionary of the tensors that an objective
    takes from one step to the next; it becomes part of the checkpoint. `batch()` returns what the
    last loss was computed from (`rrpo.diverged.Rows`); it is written into `diverged.json` where
    that loss is not finite. `weight` is the number of things that the last loss is a mean over,
    such as its tokens, where batches differ in it: a micro-batch of this or another process counts
    by its weight, so that the step's gradient is that of one batch of them all. A part of a loss
    that is a mean over other things than the rest is weighed by `rrpo.processes.share`; all
    processes ask for it in the same order.
    """

    @property
    def model(self) -> Model:
        """The model whose parameters with `requires_grad` are trained, in place.

        The loop brings it to its device and puts it into training mode.
        """
        ...

    def loss(self, step: int, generator: torch.Generator, /) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss of one batch, and figures to log.

        Figures are finite, as the loss is: one that is not ends the training, as does `NotFinite`.
        Frozen companions of the objective are brought to the model's device by the objective.

        Args:
            step: 1 … steps, the number that `metrics.jsonl` shows. With gradient accumulation
                several losses of one step are asked for.
            generator: on the CPU; the only source of chance besides the global states of torch
                (dropout), numpy and Python. A loss must depend on nothing else that changes but
                `carried`.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into a checkpoint folder (`model.safetensors`, `model.json`)."""
        ...
