"""Files written whole or not at all, JSON, hashes, and folders that one process has."""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from safetensors import SafetensorError

from rrpo.errors import UserError
from rrpo.interval import Interval


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block ends well.

    The folder is made if need be. A reader sees the old file or the new one, never a part.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: a folder has that name, choose another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): choose a folder that can be written"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path} ({reason}): free space or choose another") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, rejecting NaN and infinity; unknown ends are null."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=_as_json) + "\n")


def _as_json(value: Any) -> dict[str, Any]:
    return value.as_json() if isinstance(value, Interval) else asdict(value)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (OSError, ValueError, RecursionError) as error:  # a number of 5000 digits is the second
        raise UserError(f"{path} is not readable JSON ({error}): make it again") from None


def claim(path: Path, plan: Mapping[str, Any], content: str, besides: Collection[str] = ()) -> None:
    """Write what a folder's content is made from to `path`, or check that it is what is there.

    Args:
        content: what the folder holds, as in "a demo".
        besides: names that may stand there and are not compared.

    Raises:
        UserError: what is there was made from something else.
    """
    if not path.is_file():
        write_json(path, plan)
        return
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged, it holds no JSON object: copy it again")
    stored = {name: value for name, value in found.items() if name not in besides}
    asked = json.loads(json.dumps(plan))
    if stored != asked:
        names = [name for name in {**asked, **stored} if stored.get(name) != asked.get(name)]
        told = ", ".join(f"{name}{_both(stored.get(name), asked.get(name))}" for name in names)
        raise UserError(
            f"{path.parent} holds {content} with another {told}: choose another --out or remove it"
        )


def _both(there: object, asked: object) -> str:
    """Return two numbers, where a message is the better for them."""
    numbers = all(isinstance(one, int | float) for one in (there, asked))
    return f" ({there} there, {asked} asked for)" if numbers else ""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write (no permission, full disk) into a UserError that names the folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(folder, error) from None


def cannot_write(folder: Path, error: Exception) -> UserError:
    """Return what is said of a failure to write into a folder."""
    if folder.is_file():
        return UserError(f"{folder} is a file: name a folder for --out")
    reason = getattr(error, "strerror", None) or error
    return UserError(f"cannot write {folder} ({reason}): free space or choose another folder")


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold a folder, made if need be, for this process alone, where the system can.

    Yields:
        whether it is held.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            raise UserError(
                f"another process is writing {folder}: wait for it, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            held = False
        yield held
    finally:
        os.close(handle)


def require_writable(folder: Path) -> None:
    """Make a folder, and refuse one that takes no file, before work that takes long.

    Raises:
        UserError: it cannot be made or written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()


def require_empty(out: Path) -> None:
    """Check that a folder to be written is not there yet, or holds nothing.

    Raises:
        UserError: it holds something, or is a file.
    """
    with writing(out):
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file: name a folder for --out")
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out} is not empty: name another --out or remove it")
