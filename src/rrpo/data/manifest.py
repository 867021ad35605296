"""Manifests: a CSV that names audio files and what is known of them."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rrpo.checkpoint import write_text
from rrpo.errors import UserError

REQUIRED = ("path", "emotion")
PARTITIONS = ("train", "validation", "test")
TEST = PARTITIONS[-1]
"""Of whom nothing is trained on."""


@dataclass(frozen=True)
class Recording:
    """One audio file with its labels.

    In a manifest `path` is absolute or relative to its folder, or to the folder above.
    `intensity` lies in 0…1 where the corpus grades it. `partition` is train, validation or test;
    `session` is a recording session, or a subset as the corpus was released.
    """

    path: Path
    emotion: str
    text: str = ""
    speaker: str = ""
    language: str = ""
    corpus: str = ""
    gender: str = ""
    intensity: float | None = None
    partition: str = ""
    session: str = ""


COLUMNS = tuple(field.name for field in fields(Recording))


def read_manifest(path: Path) -> list[Recording]:
    """Read `manifest.csv` of a folder, or a CSV file, and check that every file is there.

    Columns: path and emotion; the other fields of `Recording` where known; others are ignored.

    Raises:
        UserError: there is no manifest, a column or a label is missing, it holds no rows, an
            intensity is no number in 0…1, or it names files that are absent; the message says
            which line.
    """
    file, rows = read_rows(path)
    recordings = []
    for number, row in rows:
        where = f"{file}, line {number}"
        if not row["path"] or not row["emotion"]:
            raise UserError(f"{where}: path or emotion is empty: fill it in")
        audio = file.parent / row["path"]
        above = file.absolute().parent.parent / row["path"]
        if not is_file(audio) and is_file(above):
            audio = above
        if not is_file(audio):
            raise UserError(f"{where}: no such audio file: {audio}")
        recordings.append(make_recording(audio, row, where))
    return recordings


def read_rows(
    path: Path, required: Sequence[str] = REQUIRED, delimiter: str = ",", quotes: bool = True
) -> tuple[Path, list[tuple[int, dict[str, str]]]]:
    """Read a table with a header, or `manifest.csv` of a folder; values are stripped.

    Returns:
        The file, and its rows in order, at least one, each with the number of its (last) line.

    Raises:
        UserError: it is missing or no text in UTF-8, lacks a required column, or holds no rows.
    """
    file = path / "manifest.csv" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no manifest at {file}: a CSV with the columns {' and '.join(required)}")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, quoting=quoting)
            columns = list(reader.fieldnames or [])
            rows = [
                (reader.line_num, {name: (row[name] or "").strip() for name in columns})
                for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a CSV file in UTF-8 ({error})") from None
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(f"{file} lacks the column {missing[0]}: it has {', '.join(columns)}")
    if not rows:
        raise UserError(f"{file} holds no rows: name at least one audio file")
    return file, rows


def is_file(path: Path) -> bool:
    """Say whether a file is there; a name that no system allows is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_recording(audio: Path, row: dict[str, str], where: str) -> Recording:
    """Make the recording of a row of text; `where` begins the message of a mistake."""
    known = {name: row[name] for name in COLUMNS[1:] if name in row}
    if known.get("partition", "") not in ("", *PARTITIONS):
        raise UserError(
            f"{where}: the partition is {known['partition']!r}: "
            f"name one of {', '.join(PARTITIONS)}, or leave it blank"
        )
    graded = known.pop("intensity", "")
    try:
        intensity = float(graded) if graded else None
    except ValueError:
        intensity = math.nan
    if intensity is not None and not 0 <= intensity <= 1:
        raise UserError(f"{where}: intensity is {graded!r}: give a number from 0 to 1, or nothing")
    return Recording(audio, **known, intensity=intensity)


def require_empty(out: Path) -> None:
    """Check that a folder to be written is not there yet, or holds nothing.

    Raises:
        UserError: it holds something, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name another --out or remove it")


def write_manifest(folder: Path, recordings: Sequence[Recording]) -> None:
    """Write `manifest.csv` into a folder: paths inside it are relative, all others absolute.

    Raises:
        UserError: there are no recordings, or the file cannot be written.
    """
    if not recordings:
        raise UserError("there is no utterance to import")
    root = folder.absolute()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for recording in recordings:
        path = recording.path.absolute()
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        values = [getattr(recording, name) for name in COLUMNS[1:]]
        writer.writerow([inside.as_posix(), *("" if value is None else value for value in values)])
    write_text(folder / "manifest.csv", stream.getvalue())
