"""Manifests: a CSV that names audio files and what is known of them."""

import csv
import io
import math
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NoReturn

from rrpo.data.catalogue import corpus_key, folded, named_emotion
from rrpo.data.encodings import damage
from rrpo.data.files import SOUNDS, is_file, near
from rrpo.data.findings import Findings
from rrpo.data.segments import COLUMNS as SEGMENTS
from rrpo.data.segments import require_whole
from rrpo.data.text_table import Table, read_table
from rrpo.errors import UserError
from rrpo.files import write_text

REQUIRED = ("path", "emotion")
PARTITIONS = ("train", "validation", "test")
LONGEST = 100_000
"""Signs of a cell; readers of tables take little more."""
TEST = PARTITIONS[-1]
"""Of whom nothing is trained on."""
ALSO_CALLED = {
    "training": "train",
    **dict.fromkeys(("valid", "val", "dev", "devel", "development"), "validation"),
    "testing": "test",
}
"""Other names of partitions; `eval` is a test here and a validation there, and is asked for."""


SPLITS = ("split", "subset", "set", "data_split", "split_name")
"""What other tables call the partition; ours is `partition` alone, so these are asked about."""


@dataclass(frozen=True)
class Recording:
    """One audio file with its labels.

    In a manifest `path` is absolute or relative to its folder, or to the folder above.
    `intensity` lies in 0…1 where the corpus grades it. `partition` is train, validation or test;
    `session` is a recording session, or a subset as the corpus was released. `row` says where a
    table names it, for messages; it is in no manifest.
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
    row: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """What a message calls it: its row and the name of its file, or the path of that."""
        return f"{self.row}: {self.path.name}" if self.row else str(self.path)


COLUMNS = tuple(column.name for column in fields(Recording) if column.name != "row")


def read_manifest(path: Path, found: Findings | None = None) -> list[Recording]:
    """Read `manifest.csv` of a folder, or another table, and check that every file is there.

    Columns: path and emotion; the other fields of `Recording` where known; others are ignored.
    Labels come in one spelling (`emotion_name`).

    Args:
        found: takes recordings that cannot be used, which are left out; None: they are a mistake.

    Raises:
        UserError: there is no manifest, a column or a label is missing, it holds no rows, an
            intensity is no number in 0…1, a file stands twice, a row names a part of one, or files
            are absent, all of them with `found`; the message says which line.
    """
    table = read_table(table_file(path), REQUIRED, (*COLUMNS, *SEGMENTS, *SPLITS))
    for note in table.notes if found is None else ():
        print(note)  # with nobody to take it, it is still said
    recordings = rows_to_recordings(table, {name: name for name in COLUMNS}, found)
    return [replace(one, emotion=named_emotion(one.emotion, one.place)) for one in recordings]


def partition_name(name: str) -> str:
    """Return one spelling for a partition: Train, TRAIN and training are train.

    Examples:
        >>> partition_name("Train"), partition_name("dev"), partition_name("fold 3")
        ('train', 'validation', 'fold 3')
    """
    plain = folded(name)
    known = ALSO_CALLED.get(plain, plain)
    return known if known in PARTITIONS else name


def table_file(path: Path) -> Path:
    """Return the table that a path names, which is `manifest.csv` of a folder.

    Raises:
        UserError: there is none.
    """
    file = path / "manifest.csv" if path.is_dir() else path
    if not is_file(file):
        raise UserError(f"no manifest at {file}: a CSV with the columns {' and '.join(REQUIRED)}")
    return file


def rows_to_recordings(
    table: Table,
    columns: Mapping[str, str],
    found: Findings | None = None,
    blank_labels: Container[str] = (),
) -> list[Recording]:
    """Return the recordings of a table; paths are relative to its folder, or to the one above.

    Args:
        columns: our column → the table's.
        found: see `read_manifest`.
        blank_labels: words for nothing, in small letters, that are labels here.

    Raises:
        UserError: see `read_manifest`.
    """
    file = table.file
    if not any(row.cells.get(columns["partition"]) for row in table.rows):
        for name in SPLITS:
            require_no_split({row.cells.get(name) for row in table.rows}, name, file)
    folders = (file.parent, file.absolute().parent.parent)
    lost = Findings()
    first: dict[Path, int] = {}
    recordings = []
    for row in table.rows:
        where = f"{file}, line {row.number}"
        known = {ours: row.cells[name] for ours, name in columns.items() if name in row.cells}
        blank = row.blanked.get(columns["emotion"], "")
        known["emotion"] = known["emotion"] or (blank if folded(blank) in blank_labels else "")
        if not known["path"] or not known["emotion"]:
            said = f" ({', '.join(row.blanked.values())})" if row.blanked else ""
            lacking = "emotion" if known["path"] else "path"
            raise UserError(f"{where}: {lacking} is empty{said}: fill it in")
        audio = near(known["path"], folders)
        place = (audio or folders[0] / known["path"]).absolute()
        if not lost.usable(place, f"line {row.number}: {known['path']}"):
            continue
        if (other := first.setdefault(place.resolve(), row.number)) != row.number:
            raise UserError(
                f"{where}: {place.name} is there twice, in line {other} too: keep one of them"
            )
        require_whole(row.cells, place, where)
        recordings.append(make_recording(audio or place, known, where))
    if lost.lines() and (found is None or not recordings):
        _refuse(file, lost, folders, len(table.rows))
    if found is not None:
        found.add(lost)
        found.notes += table.notes
    return recordings


def require_no_split(found: Set[object], column: str, file: Path) -> None:
    """Refuse partitions in a column that is not read, as of a test set that would be trained on.

    Args:
        found: what stands in the column.

    Raises:
        UserError: nothing but names of partitions does.
    """
    names = {str(one) for one in found if one}
    if names and all(partition_name(one) in PARTITIONS for one in names):
        raise UserError(
            f"{file}: its column {column} holds {' and '.join(sorted(names))}, which would not be "
            f"kept apart: call it partition (of an import, --column partition={column}), or rename "
            "it"
        )


def _refuse(file: Path, lost: Findings, folders: Sequence[Path], count: int) -> NoReturn:
    """Say what of a table cannot be used."""
    if lost.missing:
        line, _, name = lost.missing[0].partition(": ")
        if "://" in name:
            cure = "write its path alone" if name.startswith("file:") else "download it"
            raise UserError(f"{file}, {line}: {name} is no file here: {cure}")
        if suffix := next((one for one in sorted(SOUNDS) if near(name + one, folders)), ""):
            raise UserError(
                f"{file}, {line}: no such audio file: {name}, but {name}{suffix}: write the suffix"
            )
        slash = ", with / and no backslash in them" if "\\" in name else ""
        raise UserError(
            f"{file}, {line}: no such audio file: {name} is neither in {folders[0]} nor in "
            f"{folders[1]} ({len(lost.missing)} of {count} are not there): correct the paths{slash}"
        )
    raise UserError(f"{file}: of its {count} recordings {lost.lines()[0]}")


def make_recording(audio: Path, row: dict[str, str], where: str) -> Recording:
    """Make the recording of a row of text; `where` begins the message of a mistake."""
    known = {name: row[name] for name in COLUMNS[1:] if name in row}
    known["partition"] = partition_name(known.get("partition", ""))
    if known["partition"] not in ("", *PARTITIONS):
        raise UserError(
            f"{where}: the partition is {known['partition']!r}: "
            f"name one of {', '.join(PARTITIONS)}, or leave it blank"
        )
    if known.get("corpus"):
        known["corpus"] = corpus_key(known["corpus"])
    graded = known.pop("intensity", "")
    try:
        intensity = float(graded) if graded else None
    except ValueError:
        intensity = math.nan
    if intensity is not None and not 0 <= intensity <= 1:
        raise UserError(f"{where}: intensity is {graded!r}: give a number from 0 to 1, or nothing")
    return Recording(audio, **known, intensity=intensity, row=where)


def write_manifest(folder: Path, recordings: Sequence[Recording]) -> None:
    """Write `manifest.csv` into a folder: paths inside it are relative, all others absolute.

    Raises:
        UserError: there are no recordings, a text holds a NUL or is too long for a table, or the
            file cannot be written.
    """
    if not recordings:
        raise UserError(f"{folder}: there is no utterance for its manifest: name at least one")
    root = folder.absolute()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for recording in recordings:
        if harm := damage(recording.text):
            raise UserError(
                f"{recording.place}: its text {recording.text[:40]!r} {harm}: repair it"
            )
        path = recording.path.absolute()
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        values = [getattr(recording, name) for name in COLUMNS[1:]]
        if any("\0" in str(value) or len(str(value)) > LONGEST for value in values):
            raise UserError(
                f"{path.name}: its text or a label holds a NUL character or over {LONGEST} signs: "
                "it is no text of an utterance, correct it"
            )
        writer.writerow([inside.as_posix(), *("" if value is None else value for value in values)])
    write_text(folder / "manifest.csv", stream.getvalue())
