"""CosyVoice's own data layouts, to our manifest and, where there are tokens, our shards."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from rrpo.checkpoint import atomic_path, writing
from rrpo.data.manifest import Recording, is_file, require_empty, write_manifest
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.tokens import SPEECH_CODES

PARQUET_COLUMNS = ("utt", "audio_data", "wav", "text", "spk", "speech_token", "emotion")
"""Those of upstream's parquet files that are read; `emotion` is one a user may have added."""
READ = 200
"""Rows of a parquet file that are held in memory at once."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote: rows of the manifest, and how many came with speech tokens."""

    utterances: int
    tokens: int


def import_cosyvoice(source: Path, out: Path, emotions: Path | None = None) -> Imported:
    """Import data in the form CosyVoice's own recipes make.

    Args:
        source: a folder with wav.scp, text, utt2spk (and utt2emo); or a list of parquet files such
            as data.list, or one of them.
        out: gets manifest.csv; from parquet also the recordings, and tokens/ where there are any.
        emotions: a file of lines "utterance emotion", by default utt2emo beside the data.

    Raises:
        UserError: a file is missing or malformed, or an utterance has no emotion; the message says
            which.
    """
    require_empty(out)
    beside = source if source.is_dir() else source.parent
    named = emotions or beside / "utt2emo"
    labels = _table(named) if named.is_file() else {}
    if emotions is not None and not labels:
        raise UserError(f"no emotions at {emotions}: a file of lines with utterance and emotion")
    if source.is_dir():
        if not labels:
            raise UserError(f"{named} is missing: write a line for each utterance with its emotion")
        return _import_kaldi(source, out, labels)
    if not source.is_file():
        raise UserError(f"nothing at {source}: name a folder with wav.scp, or a parquet list")
    files = _parquet_files(source)
    try:
        return _import_parquet(files, out, labels)
    except UserError:
        # So that a second call, after the mend, finds the folder as empty as the first did.
        for made in ("audio", "tokens"):
            shutil.rmtree(out / made, ignore_errors=True)
        raise


def _import_kaldi(folder: Path, out: Path, labels: Mapping[str, str]) -> Imported:
    tables = {}
    for name in ("wav.scp", "text", "utt2spk"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}: name a folder of CosyVoice's data recipe")
        tables[name] = _table(folder / name)
    rows = []
    for name, given in tables["wav.scp"].items():
        if given.endswith("|"):
            raise UserError(f"{folder / 'wav.scp'}: {name} is a command: write its audio to a file")
        audio = folder / given if is_file(folder / given) else Path(given).absolute()
        if not is_file(audio):
            raise UserError(f"{folder / 'wav.scp'}: no such audio file: {given} of {name}")
        spoken, speaker = tables["text"].get(name), tables["utt2spk"].get(name)
        if spoken is None or speaker is None:
            lacking = "text" if spoken is None else "utt2spk"
            raise UserError(f"{folder / lacking} has no line for {name}")
        rows.append(Recording(audio.absolute(), _label(name, labels), spoken, speaker))
    write_manifest(out, rows)
    return Imported(len(rows), 0)


def _import_parquet(files: Sequence[Path], out: Path, labels: Mapping[str, str]) -> Imported:
    rows: list[Recording] = []
    tokens = 0
    for number, file in enumerate(files):
        spoken = []
        for row in _parquet_rows(file):
            name = str(row["utt"])
            emotion = _label(name, labels or {name: str(row.get("emotion") or "")})
            recording = _keep_audio(row, out, len(rows))
            text, speaker = str(row.get("text") or ""), str(row.get("spk") or "")
            rows.append(Recording(recording, emotion, text, speaker))
            if row.get("speech_token"):
                spoken.append(Utterance(name, text, emotion, _codes(row, file), speaker))
        if spoken:
            write_shard(out / "tokens" / f"{number:05d}.parquet", spoken)
            tokens += len(spoken)
    write_manifest(out, rows)
    return Imported(len(rows), tokens)


def _parquet_files(source: Path) -> list[Path]:
    """Return the files of a list, whose lines are relative to it or to here, or the one file."""
    if source.suffix in (".parquet", ".tar"):
        return [source]
    lines = [line.strip() for line in _text(source).splitlines() if line.strip()]
    files = [near if (near := source.parent / line).is_file() else Path(line) for line in lines]
    if not files:
        raise UserError(f"{source} names no parquet file")
    for file in files:
        if not file.is_file():
            raise UserError(f"{source} names {file}, which is not there")
    return files


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        table = parquet.ParquetFile(file)
        held = [name for name in PARQUET_COLUMNS if name in table.schema_arrow.names]
        if "utt" not in held or not {"audio_data", "wav"} & set(held):
            raise UserError(f"{file} lacks the columns utt and audio_data: not one of CosyVoice's")
        for batch in table.iter_batches(batch_size=READ, columns=held):
            yield from batch.to_pylist()
    except (arrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is not a parquet file ({str(error).splitlines()[0]})") from None


def _keep_audio(row: Mapping[str, Any], out: Path, number: int) -> Path:
    """Return the recording of a row, written beside the manifest where the row holds it."""
    data = row.get("audio_data")
    if not data:
        named = Path(str(row.get("wav") or ""))
        if not named.is_file():
            raise UserError(f"{row['utt']} has no audio_data and no audio file at {named}")
        return named.absolute()
    if not isinstance(data, bytes):
        raise UserError(f"the audio_data of {row['utt']} are no bytes of a sound file")
    kind = next((end for start, end in MAGIC.items() if data.startswith(start)), ".wav")
    path = out / "audio" / f"{number:06d}{kind}"
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


MAGIC = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
"""First bytes of the recordings that are no wav."""


def _codes(row: Mapping[str, Any], file: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        codes = np.asarray(row["speech_token"], dtype=np.int64).ravel()
    except (TypeError, ValueError):
        raise UserError(f"{file}: the speech tokens of {row['utt']} are no numbers") from None
    if codes.min() < 0 or codes.max() >= SPEECH_CODES:
        raise UserError(f"{file}: {row['utt']} has a speech token outside 0…{SPEECH_CODES - 1}")
    return codes


def _label(name: str, labels: Mapping[str, str]) -> str:
    emotion = labels.get(name, "")
    if not emotion:
        raise UserError(f"{name} has no emotion: add it to utt2emo, or leave the utterance out")
    return emotion


def _table(file: Path) -> dict[str, str]:
    """Read lines of an utterance and what belongs to it."""
    table = {}
    for number, line in enumerate(_text(file).splitlines(), start=1):
        name, _, value = line.strip().partition(" ")
        if not name:
            continue
        if not value.strip() or name in table:
            what = "stands twice" if name in table else "has no value"
            raise UserError(f"{file}, line {number}: {name} {what}")
        table[name] = value.strip()
    return table


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").replace("\t", " ")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} cannot be read as text in UTF-8 ({error})") from None
