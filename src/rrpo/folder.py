"""Folders that are replaced whole: filled beside the old one, on the disk, then put in its place.

A sealed folder holds `SHA256SUMS`, the hash of each of its files as `sha256sum --check` reads them,
so that a file that was cut or changed since is found before it is used.
"""

import os
import re
import shutil
from pathlib import Path

from rrpo.checkpoint import sha256, write_text
from rrpo.errors import UserError

SUMS = "SHA256SUMS"
HALF_WRITTEN = re.compile(r"\.[a-z]+\.(json|jsonl|yaml)\.[a-z0-9_]{8}")
"""Names of temporary files of what lies in a run's folder."""


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
