"""Manifests: a CSV that names audio files and what is known of them."""

import csv
from dataclasses import dataclass
from pathlib import Path

from rrpo.errors import UserError

REQUIRED = ("path", "emotion")
OPTIONAL = ("text", "speaker", "language")


@dataclass(frozen=True)
class Recording:
    """One audio file with its labels; `path` is absolute or relative to the manifest's folder, or
    to the folder above."""

    path: Path
    emotion: str
    text: str = ""
    speaker: str = ""
    language: str = ""


def read_manifest(path: Path) -> list[Recording]:
    """Read `manifest.csv` of a folder, or a CSV file, and check that every file is there.

    Columns: path and emotion; text, speaker and language where known; others are ignored.

    Raises:
        UserError: there is no manifest, a column or a label is missing, it holds no rows, or it
            names files that are absent; the message says which line.
    """
    file = path / "manifest.csv" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no manifest at {file}: a CSV with the columns path and emotion")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a CSV file in UTF-8 ({error})") from None
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(f"{file} lacks the column {missing[0]}: it has {', '.join(columns)}")
    if not rows:
        raise UserError(f"{file} holds no rows: name at least one audio file")
    recordings = []
    for number, row in enumerate(rows, start=2):
        if not row["path"] or not row["emotion"]:
            raise UserError(f"{file}, line {number}: path or emotion is empty: fill it in")
        audio = file.parent / row["path"]
        if not audio.is_file() and (file.parent.parent / row["path"]).is_file():
            audio = file.parent.parent / row["path"]
        if not audio.is_file():
            raise UserError(f"{file}, line {number}: no such audio file: {audio}")
        known = {name: (row.get(name) or "").strip() for name in OPTIONAL}
        recordings.append(Recording(audio, row["emotion"].strip(), **known))
    return recordings
