"""A training whose numbers are no numbers any more: what is kept of it to look at.

`diverged.json` in the run's folder holds the step's figures and its batch, where the objective
offers one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rrpo.checkpoint import write_json
from rrpo.errors import UserError

Rows = Sequence[Mapping[str, Any]]
"""A batch to look at: a row for each utterance, values that JSON can hold."""


class TrainingDiverged(UserError):  # noqa: N818
    """A loss, a figure, a gradient or a weight is not finite; the last good checkpoint stands."""


@dataclass(frozen=True)
class Divergence:
    """A step whose numbers are not finite.

    Attributes:
        step: its number; 0 is before the first.
        what: what is not finite, in words.
        figures: everything that was measured in it.
        batch: what the loss was computed from; empty where the objective does not say.
    """

    step: int
    what: str
    figures: Mapping[str, float] = field(default_factory=dict)
    batch: Rows = ()


def not_finite(figures: Mapping[str, float]) -> list[str]:
    """Return the names of the figures that are NaN or infinite, each with its value.

    Examples:
        >>> not_finite({"loss": 0.5, "reward": float("nan")})
        ['reward nan']
    """
    return [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in figures.items()
        if not math.isfinite(value)
    ]


def broken(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the names of the tensors that hold a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            yield name


def keep_batch(found: Divergence, folder: Path, process: int = 0) -> str:
    """Write a divergence into a run's folder; return what a message says of it.

    A message about the divergence is worth more than one about the disk, so a failure to write is
    part of what is returned.

    Args:
        process: each of several processes has a batch, and a file, of its own.
    """
    path = folder / (f"diverged-{process}.json" if process else "diverged.json")
    record = {
        "step": found.step,
        "what": found.what,
        "figures": {name: _shown(value) for name, value in found.figures.items()},
        "batch": [dict(row) for row in found.batch],
    }
    try:
        write_json(path, record)
    except UserError as error:
        return f"its batch could not be kept: {error}"
    return f"its {'batch is' if found.batch else 'figures are'} in {path}"


def forget_batch(folder: Path) -> None:
    """Remove what an earlier attempt at a run left in its folder."""
    for path in folder.glob("diverged*.json"):
        path.unlink(missing_ok=True)


def _shown(value: float) -> float | str:
    """Return a number, or in words what JSON has no number for."""
    return value if math.isfinite(value) else f"{value:g}"
