"""Weights in the precision of a file that is written: what it cannot hold is named, not written."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rrpo.errors import UserError

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Those a checkpoint is written in; float64 is read as float32."""
LOST = 0.01
"""Share of a weight's numbers that may become zero before that is told."""


def parse_precision(name: str) -> Precision:
    """Return a precision by its name.

    Raises:
        UserError: it is none of them.

    Examples:
        >>> parse_precision("bfloat16")
        'bfloat16'
    """
    for known in PRECISIONS:
        if name == known:
            return known
    raise UserError(f"unknown precision {name!r}: choose one of {', '.join(PRECISIONS)}")


def in_precision(
    state: Mapping[str, Tensor], precision: Precision, target: Path, names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Return weights as a file will hold them, on the CPU; what turns into zeros is told.

    Args:
        state: our names → weights, in float32.
        precision: of the file.
        target: the file, for messages.
        names: our names → those of the file, for messages; ours where one is missing.

    Raises:
        UserError: a weight holds NaN or infinity, or a number beyond the precision's largest; the
            message names the first.
    """
    dtype = getattr(torch, precision)
    largest = torch.finfo(dtype).max
    cast, emptied = {}, []
    for name, value in state.items():
        known = names.get(name, name)
        if not bool(torch.isfinite(value).all()):
            raise UserError(
                f"{target}: {known} holds NaN or infinity: the training had failed, export an "
                "earlier checkpoint"
            )
        cast[name] = value.to(dtype).cpu().contiguous()
        if not bool(torch.isfinite(cast[name]).all()):
            raise UserError(
                f"{target}: {known} reaches {float(value.abs().max()):.4g} and {precision} ends at "
                f"{largest:.5g}: export it with --precision float32 or bfloat16"
            )
        there = int(value.count_nonzero())
        if there and 1 - int(cast[name].count_nonzero()) / there > LOST:
            emptied.append(known)
    if emptied:
        warnings.warn(
            f"{target}: {len(emptied)} weights lose over {LOST:.0%} of their numbers, which are "
            f"zero in {precision}, {emptied[0]} the first: export with --precision float32 or "
            "bfloat16",
            stacklevel=3,
        )
    return cast
