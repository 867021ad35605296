"""The folder of a training run: one process at a time, one configuration, whole after any kill.

config.yaml     the resolved configuration; a resumed run must have the same
inputs.json     what it is made from, with hashes; likewise
metrics.jsonl   a line for each step and validation
checkpoint/     the model, and what it takes to go on (`rrpo.state`), sealed with hashes
results.json    how it ended
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from rrpo import config as configuration
from rrpo.checkpoint import alone, claim, read_json, writing
from rrpo.config import Strict
from rrpo.diverged import forget_batch
from rrpo.errors import UserError
from rrpo.folder import (
    SUMS,
    drop_kept,
    fall_back,
    flush,
    neighbours,
    recover_folder,
    require_whole,
    sweep,
)
from rrpo.processes import training_processes
from rrpo.progress import restore_metrics
from rrpo.state import TrainingState, restore_state


@dataclass(frozen=True)
class RunFolder:
    """A folder that this process alone writes, and the processes that train together."""

    path: Path
    accelerator: Accelerator

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is."""
        return self.path / "checkpoint"

    def restore(self, state: TrainingState) -> None:
        """Put back what the checkpoint holds, if there is one, and what lay beside it then.

        Raises:
            UserError: no whole checkpoint is left, or it does not fit the training.
        """
        main = self.accelerator.is_main_process
        if self.checkpoint.exists():
            if main:
                self._find_whole()
            self.accelerator.wait_for_everyone()
            restore_state(state, self.checkpoint, self.accelerator)
        if not main:
            return
        with writing(self.path):
            forget_batch(self.path)
            sweep(self.path)
            if state.step > 0:
                restore_metrics(self.path, state.step)
            if state.finished:  # a kill may have come before this
                drop_kept(self.checkpoint)

    def _find_whole(self) -> None:
        """See to it that the checkpoint is whole: where it is damaged, take the one before.

        The damaged one is kept as `checkpoint.damaged`, for what can still be read of it.
        """
        target = self.checkpoint
        try:
            require_whole(target)
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


@contextmanager
def open_run(
    path: Path, config: Strict, resume: bool = False, inputs: Mapping[str, Any] | None = None
) -> Iterator[RunFolder]:
    """Take a run's folder for this process, and write or compare what the run is made from.

    Args:
        path: made if need be; what a kill left half done there is finished or undone.
        config: the whole configuration of the run.
        resume: go on from a checkpoint in it.
        inputs: what else it is made from.

    Raises:
        UserError: another process is at this run, the folder cannot be written, it holds a run
            that is not to be continued or is of an earlier version, or it was made from another
            configuration or other inputs.
    """
    run = RunFolder(path, training_processes())
    with alone(path) if run.accelerator.is_main_process else nullcontext():
        if run.accelerator.is_main_process:
            with writing(path):
                recover_folder(run.checkpoint, keep=True)
        run.accelerator.wait_for_everyone()
        begun = run.checkpoint.exists()
        if begun and not any((run.checkpoint / name).is_file() for name in ("training.json", SUMS)):
            raise UserError(
                f"{run.checkpoint} cannot be continued (no training.json): choose another --out"
            )
        if begun and not resume:
            raise UserError(f"{path} already holds a training run: pass --resume or another --out")
        if run.accelerator.is_main_process:
            _compare(path, config, begun, inputs)
        yield run


def _require_ours(stored: Path, config: Strict) -> None:
    """Refuse to write over a `config.yaml` that no run of this kind has left.

    Raises:
        UserError: it is there, no beginning of ours (of which a power failure may have left a
            half), and its keys are not those of a whole configuration.
    """
    if not stored.exists() or configuration.dumped(config).encode().startswith(stored.read_bytes()):
        return
    if set(configuration.read(stored)) != set(type(config).model_fields):
        raise UserError(
            f"{stored} is there and of no run of this kind: choose another --out, or move it away"
        )


def _compare(path: Path, config: Strict, begun: bool, inputs: Mapping[str, Any] | None) -> None:
    """Write what a run is made from before its first step, or check that it is the same."""
    stored = path / "config.yaml"
    if inputs is not None:
        claim(path / "inputs.json", inputs, "a run")
    if not begun:
        _require_ours(stored, config)
        configuration.dump(config, stored)
        # Its checkpoints are of no use without these, so they come to the disk before any.
        with writing(path):
            for written in (stored, path / "inputs.json", path):
                if written.exists():
                    flush(written)
    elif stored.is_file():
        # As it was written: a key that it lacks is of an earlier version, and no default.
        configuration.require_same(config, configuration.read(stored), stored)
    else:
        raise UserError(
            f"{path} has a checkpoint and no config.yaml: it is of an earlier version, start again "
            "in another --out"
        )
