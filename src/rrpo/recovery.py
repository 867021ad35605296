"""Finding the newest whole checkpoint of a run whose files were cut, changed or lost."""

from pathlib import Path

from accelerate import Accelerator

from rrpo.checkpoint import read_json, writing
from rrpo.errors import UserError
from rrpo.folder import SUMS, fall_back, neighbours, require_whole
from rrpo.state import SEALED


def find_whole(target: Path, accelerator: Accelerator) -> None:
    """See to it that the checkpoint `target` is whole: where it is damaged, take the one before.

    The damaged one is kept as `checkpoint.damaged`, for what can still be read of it.

    Raises:
        UserError: it is damaged, and there is no whole one before it.
    """
    if accelerator.is_main_process:
        try:
            _require_sealed(target)
        except UserError as damage:
            _, old = neighbours(target)
            if not old.exists():
                raise UserError(
                    f"{damage}, and no earlier checkpoint is kept: put that file back from a copy, "
                    "or start again in another --out"
                ) from None
            try:
                require_whole(old)
            except UserError as more:
                raise UserError(
                    f"{damage}, and so is the one before ({more}): put a file back from a copy, or "
                    "start again in another --out"
                ) from None
            with writing(target):
                aside = fall_back(target)
            step = read_json(target / "training.json")["step"]
            print(f"{damage}: moved to {aside.name}, going on from the checkpoint of step {step}")
    accelerator.wait_for_everyone()


def _require_sealed(target: Path) -> None:
    """Check the hashes of a checkpoint; one of before they were written is taken as it is."""
    if not (target / SUMS).is_file():
        description = read_json(target / "training.json")
        if not isinstance(description, dict) or description.get("form", 1) < SEALED:
            return
    require_whole(target)
