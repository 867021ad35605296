"""Rows of the parquet files that CosyVoice's recipes make, and what is wrong with them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from rrpo.codec_identity import SPEECH_CODES
from rrpo.data.encodings import damage, read_text
from rrpo.data.files import POINTER, is_pointer, near
from rrpo.data.findings import first
from rrpo.data.scan import require_partitions_read
from rrpo.data.text_table import is_nothing, lines, visible
from rrpo.errors import UserError, shortened
from rrpo.files import atomic_path, writing

OWN_COLUMNS = ("emotion", "partition")
"""Columns of a parquet file that a user may have added."""
PARQUET_COLUMNS = ("utt", "audio_data", "wav", "text", "spk", "speech_token", *OWN_COLUMNS)
UNREAD = {
    "instruct": "a policy is told an emotion in the words of its instructions "
    "(--set instructions=FILE)",
    "reject_speech_token": "`rrpo policy dpo` draws the pairs it is trained on",
}
"""Columns of CosyVoice's that are passed over → why."""
READ = 200
"""Rows of a parquet file that are held in memory at once."""
MAGIC = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
"""First bytes of the recordings that are no wav."""


def parquet_files(source: Path) -> list[Path]:
    """Return the files of a list, whose lines are relative to it or to here, or the one file."""
    if source.suffix in (".parquet", ".tar"):
        return [source]
    files: list[Path] = []
    places: dict[Path, int] = {}
    for number, line in enumerate(lines(read_text(source).content), start=1):
        if not line.strip():
            continue
        file = near(line.strip(), (source.parent, Path()))
        if file is None:
            raise UserError(
                f"{source} names {line.strip()}, which is not there: correct line {number}"
            )
        other = places.setdefault(file.resolve(), number)
        if other != number:
            raise UserError(
                f"{source}, line {number}: {file.name} is named twice, in line {other} too: leave "
                "one of them out"
            )
        files.append(file)
    if not files:
        raise UserError(f"{source} names no parquet file: write one a line")
    return files


def parquet_rows(file: Path, columns: Sequence[str] = PARQUET_COLUMNS) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, the columns that it has of those that are asked for.

    Raises:
        UserError: it is no parquet file, or not one of CosyVoice's.
    """
    if is_pointer(file):
        raise UserError(f"{file} is a git-LFS pointer and not the file: run `git lfs pull`")
    try:
        table = parquet.ParquetFile(file)
        held = [name for name in PARQUET_COLUMNS if name in table.schema_arrow.names]
        if "utt" not in held or not {"audio_data", "wav"} & set(held):
            raise UserError(f"{file} lacks the columns utt and audio_data: not one of CosyVoice's")
        wanted = [name for name in held if name in columns]
        for batch in table.iter_batches(batch_size=READ, columns=wanted):
            yield from batch.to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:  # the last: text that is no UTF-8
        reason = shortened(str(error)) or type(error).__name__
        raise UserError(f"{file} is not a parquet file ({reason}): copy it again") from None


def require_new(files: Sequence[Path]) -> None:
    """Check that every utterance is in one place, before any audio is written.

    Raises:
        UserError: one stands twice, or has no name.
    """
    places: dict[str, Path] = {}
    for file in files:
        for row in parquet_rows(file, ("utt",)):
            if not isinstance(row["utt"], str | int | None):
                kind = type(row["utt"]).__name__
                raise UserError(f"{file}: the column utt holds a {kind} and no name: name it")
            name = "" if row["utt"] is None else str(row["utt"])
            if is_nothing(name):
                raise UserError(f"{file}: an utterance has no name in the column utt: name it")
            if name in places:
                raise UserError(
                    f"{file}: {name} stands twice, in {places[name]} too: leave one of them out"
                )
            places[name] = file
        require_partitions_read(file)


def unread(files: Sequence[Path]) -> list[str]:
    """Return a note for each column of CosyVoice's that is not read."""
    names = {file: parquet.read_schema(file).names for file in files}
    having = {column: [str(file) for file in files if column in names[file]] for column in UNREAD}
    return [
        f"the column {column} is not read ({first(having[column])}): {why}"
        for column, why in UNREAD.items()
        if having[column]
    ]


def said(row: Mapping[str, Any], column: str, file: Path) -> str:
    """Return a value as text; what says nothing is empty."""
    found = row.get(column)
    where = f"{file}: the {column} of {row['utt']}"
    if not isinstance(found, str | int | None):
        raise UserError(f"{where} is a {type(found).__name__} and no text: write text")
    value = "" if found is None else visible(str(found))
    if harm := damage(value):
        raise UserError(f"{where}, {value[:40]!r}, {harm}: repair it")
    return "" if is_nothing(value) else value


def keep_audio(row: Mapping[str, Any], file: Path, out: Path, number: int) -> Path:
    """Return the recording of a row, written into `out/audio` where the row holds it.

    Else its path is relative to the folder of the file, or to here.
    """
    data = row.get("audio_data")
    if not data:
        named = str(row.get("wav") or "")
        if not named:
            raise UserError(
                f"{file}: {row['utt']} has no audio_data and no audio file in `wav`: name it"
            )
        return (near(named, (file.parent, Path())) or file.parent / named).absolute()
    where = f"{file}: the audio_data of {row['utt']}"
    if not isinstance(data, bytes):
        raise UserError(f"{where} are no bytes of a sound file: write the file's own")
    if data.startswith(POINTER):
        raise UserError(
            f"{where} are a git-LFS pointer and no sound: run "
            "`git lfs pull` where the recordings are, and make the parquet file again"
        )
    kind = next((end for start, end in MAGIC.items() if data.startswith(start)), ".wav")
    path = out / "audio" / f"{number:06d}{kind}"
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def codes(row: Mapping[str, Any], file: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the speech tokens (T,) of a row that has some.

    Raises:
        UserError: they are no ids of the codec.
    """
    try:
        given = np.asarray(row["speech_token"]).ravel()
        found = given.astype(np.int64)
        whole = bool((found == given).all())
    except (TypeError, ValueError):
        whole = False
    cure = "leave out the column speech_token, and make them with `rrpo tokenize`"
    if not whole:
        raise UserError(
            f"{file}: the speech tokens of {row['utt']} are no numbers, or no whole ones: {cure}"
        )
    if found.min() < 0 or found.max() >= SPEECH_CODES:
        raise UserError(
            f"{file}: {row['utt']} has a speech token outside 0…{SPEECH_CODES - 1}: {cure}"
        )
    return found
