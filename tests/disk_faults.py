"""Faults of a disk: each operation that changes it is counted, and one of them fails.

A kill takes place within the process: from then on no operation does anything, as if the process
were gone.
"""

import builtins
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import safetensors.torch
import soundfile
import torch
from safetensors import SafetensorError


class Killed(BaseException):
    """What stands for the end of the process."""


class Faults:
    """Counts the operations on the disk and lets one of them fail.

    Attributes:
        done: what was done, in order.
        at: the number of the operation that fails, from 0; None: none does.
        kill: whether the process ends before that operation, or only the disk is full.
        flushed: of each file that was made sure to be on the disk, its size and time then.
    """

    def __init__(self, at: int | None, kill: bool) -> None:
        self.at, self.kill = at, kill
        self.done: list[str] = []
        self.flushed: dict[int, tuple[int, int]] = {}

    def before(self, name: str, path: Path | None = None) -> None:
        """Be asked before an operation."""
        dead = self.kill and self.at is not None and len(self.done) > self.at
        number = len(self.done)
        self.done.append(name)
        if dead:
            raise Killed
        if number == self.at:
            if self.kill:
                raise Killed
            if path is not None and path.is_file():
                path.write_bytes(path.read_bytes()[:10])  # what still found room
            if name in FAILURES:
                raise FAILURES[name]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def lose_unflushed(self, root: Path) -> None:
        """Cut what a loss of power may cut: every file not flushed since it was written."""
        for path in root.rglob("*"):
            if path.is_file():
                found = path.stat()
                if self.flushed.get(found.st_ino) != (found.st_size, found.st_mtime_ns):
                    os.truncate(path, found.st_size // 2)


FAILURES: dict[str, Exception] = {
    "save_file": SafetensorError("I/O error: No space left on device (os error 28)"),
    "write_table": OSError("Error writing bytes to file. Detail: No space left on device"),
    "save": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    "sound": soundfile.LibsndfileError(2, "No space left on device: "),
}
"""What writers in C++ and Rust say of a full disk."""
NEEDS_ROOM = (
    *("open", "write", "mkstemp", "mkdir", "fsync", "copyfile", "replace"),
    *FAILURES,
)
"""What a full disk refuses; it reads and removes all the same."""


@contextmanager
def faults(at: int | None, kill: bool) -> Iterator[Faults]:
    """Watch every operation that changes the disk."""
    made = Faults(at, kill)
    with pytest.MonkeyPatch.context() as patched:

        def watch(owner: Any, name: str, label: str = "", place: int | None = None) -> None:
            original = getattr(owner, name)

            def watched(*arguments: Any, **options: Any) -> Any:
                label_ = label or name
                # A folder that is there is not made, nor is a file removed that is not.
                idle = name in ("mkdir", "unlink") and (
                    Path(arguments[0]).exists() is (name == "mkdir")
                )
                aside = place is not None and not isinstance(arguments[place], str | Path)
                if not idle and not aside and (kill or label_ in NEEDS_ROOM):
                    path = None if place is None else Path(arguments[place])
                    made.before(label_, path)
                if label_ == "fsync":
                    found = os.fstat(arguments[0])
                    made.flushed[found.st_ino] = (found.st_size, found.st_mtime_ns)
                return original(*arguments, **options)

            patched.setattr(owner, name, watched)

        real_open = builtins.open

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = real_open(file, mode, *arguments, **options)
            if not set(mode) & set("wax+") or not hasattr(stream, "write"):
                return stream
            write = stream.write

            def written(data: Any) -> Any:
                made.before("write")
                return write(data)

            try:
                stream.write = written
            except AttributeError:
                made.before("write")
            return stream

        patched.setattr("io.open", opened)
        patched.setattr(builtins, "open", opened)
        for name in ("fsync", "replace", "rename", "mkdir", "rmdir", "unlink"):
            watch(os, name, "replace" if name == "rename" else name)
        watch(shutil, "copyfile")
        watch(shutil, "rmtree")
        watch(tempfile, "mkstemp")
        watch(safetensors.torch, "save_file", place=1)
        watch(parquet, "write_table", place=1)
        watch(torch, "save", place=1)
        watch(soundfile, "write", "sound", place=0)
        yield made
