"""What a study on real speech cost, added up from what its parts wrote beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.checkpoint import load_tensors
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo_studies.real_speech.folds import Fold, Job, mixes_audio


def costs(folder: Path, folds: Sequence[Fold], jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what a study in a folder cost, and whether mixes are part of it.

    Parts that two studies share are counted in both.

    Raises:
        UserError: what was written of a part is gone.
    """
    return {
        "mixes": any(mixes_audio(job.model) for job in jobs),
        "core_minutes": round(_finetuning(folder, jobs) / 60, 1),
        "listening_minutes": round(_listening(folder, jobs) / 60, 1),
        "preparation_minutes": round(_preparation(folder, folds) / 60, 1),
    }


def _finetuning(folder: Path, jobs: Sequence[Job]) -> float:
    """Return the seconds of a core that jobs took."""
    return sum(
        float(load_tensors(folder / "jobs" / f"{job.name}.safetensors")["seconds"]) for job in jobs
    )


def _listening(folder: Path, jobs: Sequence[Job]) -> float:
    """Return the seconds of a core that recordings and the mixes for jobs took to listen to."""
    mixed = (f"mix {'+'.join(job.fold.languages)}" for job in jobs if mixes_audio(job.model))
    asked = ["listen", *dict.fromkeys(mixed)]
    total = 0.0
    for name in asked:
        path = folder / "seconds" / f"{name}.json"
        if not path.is_file():
            raise UserError(f"{path} is gone: remove {folder} and begin again")
        total += read_json(path)["seconds"]
    return total


def _preparation(folder: Path, folds: Sequence[Fold]) -> float:
    """Return the seconds that tokenizers and pre-training took.

    They are those of the clock, on one core. The median step stands for all, so a run that was
    held up counts as one that was not.
    """
    total = 0.0
    for languages in dict.fromkeys("+".join(fold.languages) for fold in folds):
        for part in ("tokenizers", "pretrained"):
            path = folder / part / f"{languages}.run" / "metrics.jsonl"
            if not path.is_file():
                raise UserError(f"{path} is gone: remove {path.parent.parent / languages} too")
            steps = [json.loads(line)["seconds"] for line in path.read_text().splitlines()]
            total += len(steps) * float(np.median(steps))
    return total
