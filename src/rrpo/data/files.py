"""What lies on the disk: sounds by their suffixes, folders through links, and what is no sound."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from rrpo.errors import UserError

SOUNDS = frozenset(
    (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".w64", ".rf64")
)
"""Suffixes of the sounds that are looked for; recorders write them in capitals, too."""
FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
"""Accents within their letters, and beside them."""
POINTER = b"version https://git-lfs.github.com/"
"""What git leaves in the place of a large file that was not fetched."""


def is_file(path: Path) -> bool:
    """Say whether a file is there; a name that no system allows is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_pointer(path: Path) -> bool:
    """Say whether a file is what git-LFS leaves in the place of one."""
    try:
        if path.stat().st_size > 1024:
            return False
        with path.open("rb") as stream:
            return stream.read(len(POINTER)) == POINTER
    except (OSError, ValueError):
        return False


def is_sound(path: Path) -> bool:
    """Say whether a name is that of a sound.

    Examples:
        >>> [is_sound(Path(name)) for name in ("a/03a01Fa.WAV", "a/.hidden.wav", "a.txt")]
        [True, False, False]
    """
    return path.suffix.lower() in SOUNDS and not path.name.startswith(".")


def visible(folder: Path) -> list[Path]:
    """Return what a folder holds in the order of names, without what systems leave behind."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # no folder, or one that may not be read
        return []
    return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder and of those below; links are followed, each folder once.

    A link that leads up, to a folder that holds this one, is not followed.
    """
    yield from _below(folder, set(folder.resolve().parents))


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    for entry in visible(folder):
        if entry.is_dir():
            yield from _below(entry, seen)
        elif is_file(entry):
            yield entry


def sounds_in(folder: Path) -> list[Path]:
    """Return the sounds that lie in a folder itself."""
    return [entry for entry in visible(folder) if is_sound(entry) and is_file(entry)]


def sounds_below(folder: Path) -> list[Path]:
    """Return the sounds of a folder and of those below, in their order."""
    return sorted(file for file in files_below(folder) if is_sound(file))


def by_name(sounds: Iterable[Path]) -> dict[str, Path]:
    """Return sounds by their names without suffix.

    Raises:
        UserError: one name stands twice, in two folders or with two suffixes.
    """
    found: dict[str, Path] = {}
    for sound in sounds:
        other = found.setdefault(sound.stem, sound)
        if other is not sound:
            raise UserError(f"{sound.name} is there twice: {other} and {sound}: keep one of them")
    return found


def near(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the file of a name in the first folder that has it, or None.

    One system writes an accent as a sign of its own, another does not: both spellings are tried.
    """
    spellings = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in FORMS)))
    for folder in folders:
        for spelling in spellings:
            if is_file(folder / spelling):
                return folder / spelling
    return None


def require_nameable(path: Path) -> None:
    """Refuse a file whose name is no UTF-8: no table in UTF-8 can name it.

    Raises:
        UserError: it is not.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", errors="backslashreplace")
        raise UserError(
            f"the name {shown} is not UTF-8: rename it, as with convmv -f latin1 -t utf8 --notest"
        ) from None
