"""A training whose numbers are no numbers any more: what is kept of it to look at.

`diverged.json` in the run's folder holds the step's figures and its batch, where the objective
offers one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rrpo.errors import UserError
from rrpo.files import write_json
from rrpo.processes import ELSEWHERE
from rrpo.schedule import TrainConfig

Rows = Sequence[Mapping[str, Any]]
"""A batch to look at: a row for each utterance, values that JSON can hold."""


class TrainingDiverged(UserError):
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


def diverged(
    found: Divergence, config: TrainConfig, folder: Path, process: int, saved: int | None
) -> TrainingDiverged:
    """Keep what a step is to be looked at by, and say what can be done.

    Args:
        found: the step; where it does not say what is not finite, its figures do.
        folder: of the run.
        process: which of several processes this is.
        saved: the step of the last checkpoint; None: there is none.
    """
    figures = {name: figure for name, figure in found.figures.items() if name != "step"}
    what = found.what or ", ".join(not_finite(figures)) or ELSEWHERE
    left = keep_batch(replace(found, what=what, figures=figures), folder, process)
    kept, advice = "no checkpoint was written yet", "start again in another --out"
    if saved is not None:
        kept = f"{folder / 'checkpoint'} keeps step {saved}"
    if found.step == 0:
        advice = f"nothing was trained yet, so look at the model and the data first, or {advice}"
    return TrainingDiverged(
        f"training diverged at step {found.step} ({what}; {kept}; {left}): "
        f"lower learning_rate={config.learning_rate:g} or "
        f"max_gradient_norm={config.max_gradient_norm:g}, or raise "
        f"warmup_steps={config.warmup_steps}, and {advice}"
    )


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


def _shown(value: float) -> float | str:
    """Return a number, or in words what JSON has no number for."""
    return value if math.isfinite(value) else f"{value:g}"
