"""Folders that are whole after any kill: replaced at once, sealed with hashes; and that of a run.

A folder that is replaced is filled beside the old one, on the disk, then put in its place. A sealed
one holds `SHA256SUMS`, the hash of each of its files as `sha256sum --check` reads them, so that a
file that was cut or changed since is found before it is used. A training run has one process at a
time and one configuration; in its folder are

config.yaml     the resolved configuration; a resumed run must have the same
inputs.json     what it is made from, with hashes; likewise
metrics.jsonl   a line for each step and validation
checkpoint/     the model, and what it takes to go on (`rrpo.state`), sealed
results.json    how it ended
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from rrpo import config as configuration
from rrpo.checkpoint import SUMS, model_place
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.files import alone, claim, read_json, sha256, write_json, write_text, writing
from rrpo.processes import ending_together, is_main, require_same, training_processes
from rrpo.shared_folder import require_one_folder

CONFIG = "config"
"""Key of the hash of config.yaml in inputs.json."""
HALF_WRITTEN = re.compile(r"\.[a-z]+\.(json|jsonl|yaml)\.[a-z0-9_]{8}")
"""Names of temporary files of what lies in a run's folder."""
THREADS = ("threads", "train.threads")
"""What each of several processes may have otherwise: their machines differ in cores."""


def run_of(place: Path) -> Path | None:
    """Return the folder of the run that a model's place is of, if it is of one.

    The place may be the run, a checkpoint of it, or a file of either.
    """
    for one in (place, model_place(place)):
        if (one / "config.yaml").is_file():
            return one
        if one.name.startswith("checkpoint") and (one.parent / "config.yaml").is_file():
            return one.parent
    return None


def begin_folder(folder: Path) -> Path:
    """Make the empty folder `NAME.new` beside `folder`, to be filled before `commit_folder`.

    What `commit_folder` kept goes first, so that there are never more than two on the disk.
    """
    recover_folder(folder)
    fresh, _ = neighbours(folder)
    fresh.mkdir(parents=True)
    return fresh


def commit_folder(folder: Path, keep: bool = False) -> None:
    """Put the filled `NAME.new` in the place of `folder`.

    A folder cannot be replaced in one rename, so the old one steps aside first. Whenever the
    process is killed, `recover_folder` finds one complete folder: while `folder` is away,
    `NAME.new` is complete and on the disk.

    Args:
        keep: leave the old one as `NAME.old`, to fall back on.
    """
    fresh, old = neighbours(folder)
    for path in [*fresh.iterdir(), fresh]:
        flush(path)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    flush(folder.parent)
    if not keep:
        drop_kept(folder)


def drop_kept(folder: Path) -> None:
    """Remove `NAME.old`, if it is there."""
    shutil.rmtree(neighbours(folder)[1], ignore_errors=True)


def discard_fresh(folder: Path) -> None:
    """Remove a `NAME.new` that could not be filled, so that it takes up no space.

    One that is to take the place of a folder that stands aside already is whole, and stays.
    """
    fresh, old = neighbours(folder)
    if folder.exists() or not old.exists():
        shutil.rmtree(fresh, ignore_errors=True)


def recover_folder(folder: Path, keep: bool = False) -> None:
    """Finish or undo what a killed `commit_folder` left beside `folder`.

    Args:
        keep: `NAME.old` is one to fall back on, not a leftover.
    """
    fresh, old = neighbours(folder)
    if not folder.exists() and old.exists():
        (fresh if fresh.exists() else old).rename(folder)
    for leftover in (fresh,) if keep else (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def sweep(folder: Path) -> None:
    """Remove from a run's folder the files that a kill left half written (`atomic_path`)."""
    for path in folder.iterdir():
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink()


def fall_back(folder: Path) -> Path:
    """Put `NAME.old` in the place of a damaged `folder`; return where that lies now."""
    _, old = neighbours(folder)
    damaged = folder.with_name(f"{folder.name}.damaged")
    if damaged.exists():
        shutil.rmtree(damaged)
    folder.rename(damaged)
    old.rename(folder)
    flush(folder.parent)
    return damaged


def seal(folder: Path) -> None:
    """Write the hash of every file of a folder into its `SHA256SUMS`."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    write_text(folder / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in files))


def require_whole(folder: Path) -> None:
    """Check a sealed folder against its `SHA256SUMS`.

    Raises:
        UserError: a file is missing, or is not what it was; the message names it.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{folder} has lost its {SUMS}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / SUMS} cannot be read ({error})") from None
    if lines.pop():  # what follows the last line's end
        raise UserError(f"{folder / SUMS} is cut")
    named = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {path.name for path in folder.iterdir() if path.name != SUMS}
    for name in sorted(found | named.keys()):
        if name not in named:
            raise UserError(f"{folder / SUMS} does not list {name}")
        if name not in found:
            raise UserError(f"{folder} has lost the file {name!r}")
        if sha256(folder / name) != named[name]:
            raise UserError(f"{folder / name} is damaged: its SHA-256 is not that in {SUMS}")


def neighbours(folder: Path) -> tuple[Path, Path]:
    """Return where a new folder is filled, and where an old one stands aside."""
    return folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can say so."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class RunFolder:
    """A folder that this process alone writes, and the processes that train together."""

    path: Path
    accelerator: Accelerator

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is."""
        return self.path / "checkpoint"

    def find_whole(self) -> None:
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

    Of several processes the main one alone looks at what is there and decides for all.

    Raises:
        UserError: another process is at this run, the folder cannot be written, it holds a run
            that is not to be continued or is of an earlier version, or it was made from another
            configuration or other inputs; or the processes that train together have not the same
            of these, or not the same folder.
    """
    run = RunFolder(path, training_processes())
    made = {name: one for name, one in configuration.by_key(config).items() if name not in THREADS}
    require_same({"kind": type(config).__name__, **made, **(inputs or {}), "resume": resume})
    with ExitStack() as held:
        with ending_together():
            if is_main():
                held.enter_context(alone(path))
                with writing(path):
                    recover_folder(run.checkpoint, keep=True)
        require_one_folder(path)
        with ending_together():
            if is_main():
                _compare(path, config, _begun(run, resume), inputs)
        yield run


def _begun(run: RunFolder, resume: bool) -> bool:
    """Say whether a run's folder holds a checkpoint to go on from.

    Raises:
        UserError: it cannot be continued, or is not to be.
    """
    if not run.checkpoint.exists():
        return False
    if not any((run.checkpoint / name).is_file() for name in ("training.json", SUMS)):
        raise UserError(
            f"{run.checkpoint} cannot be continued (no training.json): choose another --out"
        )
    if not resume:
        raise UserError(f"{run.path} already holds a training run: pass --resume or another --out")
    return True


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


def _as_stored(inputs: Mapping[str, Any], made: Path) -> dict[str, Any]:
    """Return inputs, those with the content of the stored ones under the stored names.

    A path may be spelt otherwise; where nothing was hashed the name alone says what it was.
    """

    def contents(given: Any) -> list[str]:
        return [digest or name for name, digest in given]

    stored = read_json(made) if made.is_file() else {}
    found = dict(inputs)
    for name in inputs.keys() & stored.keys() if isinstance(stored, dict) else ():
        with suppress(TypeError, ValueError):  # of something else than names and hashes
            if contents(stored[name]) == contents(inputs[name]):
                found[name] = stored[name]
    return found


def _compare(path: Path, config: Strict, begun: bool, inputs: Mapping[str, Any] | None) -> None:
    """Write what a run is made from before its first step, or check that it is the same."""
    stored, made = path / "config.yaml", path / "inputs.json"
    if inputs is not None:
        claim(made, _as_stored(inputs, made), "a run", (CONFIG,))
    if not begun:
        _require_ours(stored, config)
        configuration.dump(config, stored)
        if inputs is not None:
            write_json(made, {**inputs, CONFIG: sha256(stored)})
        # Its checkpoints are of no use without these, so they come to the disk before any.
        with writing(path):
            for written in (stored, made, path):
                if written.exists():
                    flush(written)
    elif stored.is_file():
        # As it was written: a key that it lacks is of an earlier version, and no default.
        configuration.require_same(config, configuration.read(stored), stored)
        known = read_json(made).get(CONFIG) if made.is_file() else None
        if known not in (None, sha256(stored)):
            raise UserError(
                f"{stored} was changed after the run began, and its checkpoint is of what it said "
                "before: put that back, or begin another run in another --out"
            )
    else:
        raise UserError(
            f"{path} has a checkpoint and no config.yaml: it is of an earlier version, start again "
            "in another --out"
        )
