"""Archives given in the place of what is in them: named, with what to do."""

import zipfile
from pathlib import Path

from rrpo.errors import UserError

KINDS = (
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"\x1f\x8b", 0, "packed with gzip"),
    (b"BZh", 0, "packed with bzip2"),
    (b"\xfd7zXZ\0", 0, "packed with xz"),
    (b"\x28\xb5\x2f\xfd", 0, "packed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive"),
    (b"Rar!", 0, "a rar archive"),
    (b"ustar", 257, "a tar archive"),
)
"""First bytes of archives, and where they stand."""
ZIPS = ("data.pkl", "[Content_Types].xml")
"""Files of zip archives that are a format of their own: torch's checkpoints, Excel's workbooks."""


def refuse_archive(path: Path) -> None:
    """Refuse a file that is an archive; one that is none, or not there, is nobody's mistake here.

    Raises:
        UserError: it has to be unpacked first.
    """
    try:
        if not path.is_file():  # to read of a pipe takes that away
            return
        with path.open("rb") as stream:
            head = stream.read(512)
    except (OSError, ValueError):
        return
    kind = next((name for sign, at, name in KINDS if head[at:].startswith(sign)), "")
    if not kind or (kind == "a zip archive" and _is_format(path)):
        return
    raise UserError(f"{path} is {kind}: unpack it, and name what comes out")


def _is_format(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(ZIPS) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return True  # a damaged one, which its reader names
