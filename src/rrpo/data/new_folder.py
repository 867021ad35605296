"""The folder that an import writes: of one process, and as it was before where it is cut off."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rrpo.files import alone, require_empty, writing

PART = ".importing"
"""Folder of the tokens of an import that has not ended; then they are called `tokens`."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Hold an empty folder for an import, and empty it again where that does not end well.

    What an import that was killed has left is removed first, so a second call begins as the first.

    Yields:
        a folder for tokens, which becomes `out/tokens` at the end: part of them are never there.

    Raises:
        UserError: the folder holds something, another process is writing it, or it cannot be
            written.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    with alone(out) as held:
        part = out / PART
        if part.is_dir() and held:
            _clear(out)
        require_empty(out)
        try:
            with writing(out):
                part.mkdir()
            yield part
            with writing(out):
                if any(part.iterdir()):
                    part.rename(out / "tokens")
                else:
                    part.rmdir()
        except BaseException:  # Ctrl-C, too
            _clear(out)
            for folder in made:
                with suppress(OSError):  # another has put something there
                    folder.rmdir()
            raise


def _clear(out: Path) -> None:
    """Remove what an import writes; the folder was empty before it began."""
    for file in (out / "manifest.csv", *out.glob(".manifest.csv.*")):
        with suppress(OSError):
            file.unlink(missing_ok=True)
    # The last tells that there was an import.
    for name in ("audio", "tokens", PART):
        shutil.rmtree(out / name, ignore_errors=True)
