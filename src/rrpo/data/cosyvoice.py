"""CosyVoice's own data layouts, to our manifest and, where there are tokens, our shards."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from rrpo.codec_identity import SPEECH_CODES, TOKEN_RATE
from rrpo.data.catalogue import OTHER, folded, known_corpora, named_emotion
from rrpo.data.encodings import damage, read_text
from rrpo.data.files import POINTER, is_file, is_pointer, near
from rrpo.data.findings import Findings, first
from rrpo.data.lengths import misfit
from rrpo.data.manifest import Recording, make_recording, require_empty, write_manifest
from rrpo.data.partitions import check_speakers, nobody_held_out
from rrpo.data.scan import require_partitions_read
from rrpo.data.shards import Utterance, write_shard
from rrpo.data.text_table import is_nothing, lines, read_pairs, visible
from rrpo.errors import UserError, shortened
from rrpo.files import atomic_path, writing

OWN_COLUMNS = ("emotion", "partition")
"""Columns of a parquet file that a user may have added."""
PARQUET_COLUMNS = ("utt", "audio_data", "wav", "text", "spk", "speech_token", *OWN_COLUMNS)
READ = 200
"""Rows of a parquet file that are held in memory at once."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote: rows of the manifest, how many came with tokens, and what is said."""

    utterances: int
    tokens: int
    findings: Findings


def import_cosyvoice(
    source: Path, out: Path, emotions: Path | None = None, codec: str = ""
) -> Imported:
    """Import data in the form CosyVoice's own recipes make.

    Args:
        source: a folder with wav.scp, text, utt2spk (and utt2emo); or a list of parquet files such
            as data.list, or one of them.
        out: gets manifest.csv; from parquet also the recordings, and tokens/ where there are any.
        emotions: a file of lines "utterance emotion", by default utt2emo beside the data.
        codec: identity of what the tokens are of (`rrpo.tokens`); parquet does not say it.

    Raises:
        UserError: a file is missing or malformed, or an utterance has no emotion; the message says
            which.
    """
    require_empty(out)
    found = Findings()
    beside = source if source.is_dir() else source.parent
    named = emotions or beside / "utt2emo"
    if source.is_dir() and not is_file(source / "wav.scp") and is_file(source / "data.list"):
        raise UserError(f"{source} holds no wav.scp: name its list, {source / 'data.list'}")
    labels = _pairs(named, found, one_word=True) if is_file(named) else {}
    if emotions is not None and not labels:
        raise UserError(f"no emotions at {emotions}: a file of lines with utterance and emotion")
    if source.is_dir():
        if not labels:
            raise UserError(f"{named} is missing: write a line for each utterance with its emotion")
        return _import_kaldi(source, out, labels, found)
    if not source.is_file():
        raise UserError(f"nothing at {source}: name a folder with wav.scp, or a parquet list")
    files = _parquet_files(source)
    _require_new(files)
    try:
        return _import_parquet(files, out, labels, found, codec)
    except UserError:
        # So that a second call, after the correction, finds the folder as empty as the first did.
        for made in ("audio", "tokens"):
            shutil.rmtree(out / made, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()  # where it holds nothing else
        raise


def _import_kaldi(folder: Path, out: Path, labels: Mapping[str, str], found: Findings) -> Imported:
    if is_file(folder / "segments"):
        raise UserError(
            f"{folder / 'segments'} cuts the recordings of wav.scp into utterances, and recordings "
            "are read whole: cut them into files, as with `extract-segments` of kaldi, or remove it"
        )
    tables = {}
    for name in ("wav.scp", "text", "utt2spk"):
        if not is_file(folder / name):
            raise UserError(f"{folder} holds no {name}: name a folder of CosyVoice's data recipe")
        tables[name] = _pairs(
            folder / name, found, empty=name != "wav.scp", one_word=name == "utt2spk"
        )
    _require_agreement(folder / "spk2utt", tables["utt2spk"])
    beside = folder / "utt2lang"
    languages = _pairs(beside, found, one_word=True) if is_file(beside) else {}
    if is_file(folder / "instruct"):
        found.notes.append(
            f"{folder / 'instruct'} is not read: a policy is told an emotion in the words of its "
            "instructions (--set instructions=FILE)"
        )
    rows = []
    for name, given in tables["wav.scp"].items():
        if given.endswith("|"):
            raise UserError(f"{folder / 'wav.scp'}: {name} is a command: write its audio to a file")
        spoken, speaker = tables["text"].get(name), tables["utt2spk"].get(name)
        if spoken is None or speaker is None:
            lacking = "text" if spoken is None else "utt2spk"
            raise UserError(f"{folder / lacking} has no line for {name}: add it")
        emotion = _label(name, labels)
        if emotion == OTHER:
            found.leave_unclassed(given, labels[name])
            continue
        audio = near(given, (folder, Path())) or folder / given
        if found.usable(audio, f"{given} of {name}"):
            row = f"{folder / 'wav.scp'}, {name}"
            language = languages.get(name, "")
            rows.append(Recording(audio.absolute(), emotion, spoken, speaker, language, row=row))
    if found.lines() and not rows:
        raise UserError(f"{folder / 'wav.scp'}: {found.refusal()}")
    _require_own_sounds(rows, folder / "wav.scp")
    for table in ("text", "utt2spk"):
        if more := [name for name in tables[table] if name not in tables["wav.scp"]]:
            found.notes.append(f"{folder / table} has utterances that wav.scp lacks: {first(more)}")
    found.notes += [*check_speakers(rows), *nobody_held_out(rows)]
    write_manifest(out, rows)
    return Imported(len(rows), 0, found)


def _require_agreement(file: Path, speakers: Mapping[str, str]) -> None:
    """Check kaldi's spk2utt, where it is there, against the speakers of the utterances.

    Raises:
        UserError: it names another speaker for one.
    """
    for number, line in enumerate(lines(read_text(file).content) if is_file(file) else (), start=1):
        speaker, *names = line.split() or [""]
        for name in names:
            if speakers.get(name, speaker) != speaker:
                raise UserError(
                    f"{file}, line {number}: {name} is of {speaker}, and of {speakers[name]} in "
                    "utt2spk: correct one of them, or remove spk2utt"
                )


def _import_parquet(
    files: Sequence[Path], out: Path, labels: Mapping[str, str], found: Findings, codec: str
) -> Imported:
    rows: list[Recording] = []
    tokens, misfits = 0, list[str]()
    for number, file in enumerate(files):
        spoken = []
        for row in _parquet_rows(file):
            name = str(row["utt"])
            label = labels or {name: _said(row, "emotion")}
            emotion = _label(name, label)
            if emotion == OTHER:
                found.leave_unclassed(name, label[name])
                continue
            recording = _keep_audio(row, out, len(rows))
            if not found.usable(recording, f"{recording} of {name}"):
                continue
            text, speaker = _said(row, "text"), _said(row, "spk")
            partition = _said(row, "partition")
            told = {"emotion": emotion, "text": text, "speaker": speaker, "partition": partition}
            rows.append(make_recording(recording, told, f"{file}: {name}"))
            if not row.get("speech_token"):
                continue
            codes = _codes(row, file)
            if wrong := misfit(codes.size, recording):
                misfits.append(f"{name}, {wrong}")
            else:
                part = rows[-1].partition
                spoken.append(Utterance(name, text, emotion, codes, speaker, partition=part))
        if spoken:
            write_shard(out / "tokens" / f"{number:05d}.parquet", spoken, codec)
            tokens += len(spoken)
    if found.lines() and not rows:
        raise UserError(f"{files[0]}: {found.refusal()}")
    _require_own_sounds(rows, files[0])
    if misfits:
        said = f"{len(misfits)} utterances have tokens that do not fit their sound ({misfits[0]})"
        if len(misfits) > tokens:
            raise UserError(
                f"{files[0]}: {said}: {TOKEN_RATE} a second are right, so they are of another "
                "codec; leave out the column speech_token, and make them with `rrpo tokenize`"
            )
        found.notes.append(f"{said}: their tokens are left out, `rrpo tokenize` makes them again")
    found.notes += [*check_speakers(rows), *nobody_held_out(rows)]
    write_manifest(out, rows)
    return Imported(len(rows), tokens, found)


def _require_own_sounds(rows: Sequence[Recording], source: Path) -> None:
    """Refuse a sound that two utterances name: it would have two texts or count twice."""
    seen: set[Path] = set()
    for row in rows:
        place = row.path.resolve()
        if place in seen:
            raise UserError(
                f"{source}: two utterances name {row.path}: cut it into a file for each, or leave "
                "one of them out"
            )
        seen.add(place)


def _said(row: Mapping[str, Any], column: str) -> str:
    """Return a value as text; what says nothing is empty."""
    found = row.get(column)
    if not isinstance(found, str | int | None):
        raise UserError(f"the {column} of {row['utt']} is a {type(found).__name__} and no text")
    value = "" if found is None else visible(str(found))
    if harm := damage(value):
        raise UserError(f"the {column} of {row['utt']}, {value[:40]!r}, {harm}: repair it")
    return "" if is_nothing(value) else value


def _require_new(files: Sequence[Path]) -> None:
    """Check that every utterance is in one place, before any audio is written.

    Raises:
        UserError: one stands twice, or has no name.
    """
    places: dict[str, Path] = {}
    for file in files:
        for row in _parquet_rows(file, ("utt",)):
            if not isinstance(row["utt"], str | int | None):
                kind = type(row["utt"]).__name__
                raise UserError(f"{file}: the column utt holds a {kind} and no name: name it")
            name = str(row["utt"] or "")
            if is_nothing(name):
                raise UserError(f"{file}: an utterance has no name in the column utt: name it")
            if name in places:
                raise UserError(
                    f"{file}: {name} stands twice, in {places[name]} too: leave one of them out"
                )
            places[name] = file
        require_partitions_read(file)


def _parquet_files(source: Path) -> list[Path]:
    """Return the files of a list, whose lines are relative to it or to here, or the one file."""
    if source.suffix in (".parquet", ".tar"):
        return [source]
    files: dict[Path, int] = {}
    for number, line in enumerate(lines(read_text(source).content), start=1):
        if not line.strip():
            continue
        file = near(line.strip(), (source.parent, Path()))
        if file is None:
            raise UserError(
                f"{source} names {line.strip()}, which is not there: correct line {number}"
            )
        other = files.setdefault(file.resolve(), number)
        if other != number:
            raise UserError(
                f"{source}, line {number}: {file.name} is named twice, in line {other} too: leave "
                "one of them out"
            )
    if not files:
        raise UserError(f"{source} names no parquet file: write one a line")
    return list(files)


def _parquet_rows(file: Path, columns: Sequence[str] = PARQUET_COLUMNS) -> Iterator[dict[str, Any]]:
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


def _keep_audio(row: Mapping[str, Any], out: Path, number: int) -> Path:
    """Return the recording of a row, written beside the manifest where the row holds it."""
    data = row.get("audio_data")
    if not data:
        named = str(row.get("wav") or "")
        if not named:
            raise UserError(f"{row['utt']} has no audio_data and no audio file in `wav`: name it")
        return Path(named).absolute()
    if not isinstance(data, bytes):
        raise UserError(f"the audio_data of {row['utt']} are no bytes of a sound file")
    if data.startswith(POINTER):
        raise UserError(
            f"the audio_data of {row['utt']} are a git-LFS pointer and no sound: run "
            "`git lfs pull` where the recordings are, and make the parquet file again"
        )
    kind = next((end for start, end in MAGIC.items() if data.startswith(start)), ".wav")
    path = out / "audio" / f"{number:06d}{kind}"
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


MAGIC = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
"""First bytes of the recordings that are no wav."""


def _codes(row: Mapping[str, Any], file: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        given = np.asarray(row["speech_token"]).ravel()
        codes = given.astype(np.int64)
        whole = bool((codes == given).all())
    except (TypeError, ValueError):
        whole = False
    cure = "leave out the column speech_token, and make them with `rrpo tokenize`"
    if not whole:
        raise UserError(
            f"{file}: the speech tokens of {row['utt']} are no numbers, or no whole ones: {cure}"
        )
    if codes.min() < 0 or codes.max() >= SPEECH_CODES:
        raise UserError(
            f"{file}: {row['utt']} has a speech token outside 0…{SPEECH_CODES - 1}: {cure}"
        )
    return codes


def _label(name: str, labels: Mapping[str, str]) -> str:
    """Return the emotion of an utterance, `OTHER` where its label says that it is in no class."""
    if not labels.get(name):
        raise UserError(f"{name} has no emotion: add it to utt2emo, or leave the utterance out")
    if folded(labels[name]) in known_corpora()["csv"].left_out:
        return OTHER
    return named_emotion(labels[name], name)


def _pairs(
    file: Path, found: Findings, empty: bool = False, one_word: bool = False
) -> dict[str, str]:
    """Read lines of an utterance and what belongs to it (see `read_pairs`)."""
    pairs, notes = read_pairs(file, empty, one_word)
    found.notes += notes
    return pairs
