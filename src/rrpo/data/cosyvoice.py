"""CosyVoice's own data layouts, to our manifest and, where there are tokens, our shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrpo.codec_identity import TOKEN_RATE
from rrpo.data.catalogue import (
    OTHER,
    emotion_name,
    folded,
    known_corpora,
    labels_asked,
    named_emotion,
    require_used,
)
from rrpo.data.encodings import read_text
from rrpo.data.files import is_file, near
from rrpo.data.findings import Findings, first
from rrpo.data.lengths import misfit
from rrpo.data.manifest import Recording, make_recording, write_manifest
from rrpo.data.new_folder import new_folder
from rrpo.data.parquet_rows import (
    UNREAD,
    codes,
    keep_audio,
    parquet_files,
    parquet_rows,
    require_new,
    said,
    unread,
)
from rrpo.data.partitions import check_speakers, nobody_held_out
from rrpo.data.shards import Utterance, write_shard
from rrpo.data.text_table import lines, read_pairs
from rrpo.errors import UserError


@dataclass(frozen=True)
class Imported:
    """What an import wrote: rows of the manifest, how many came with tokens, and what is said."""

    utterances: int
    tokens: int
    findings: Findings


def import_cosyvoice(
    source: Path,
    out: Path,
    emotions: Path | None = None,
    codec: str = "",
    labels: Mapping[str, str] | None = None,
) -> Imported:
    """Import data in the form CosyVoice's own recipes make.

    Args:
        source: a folder with wav.scp, text, utt2spk (and utt2emo); or a list of parquet files such
            as data.list, or one of them.
        out: gets manifest.csv; from parquet also the recordings, and tokens/ where there are any.
        emotions: a file of lines "utterance emotion", by default utt2emo beside the data.
        codec: identity of what the tokens are of (`rrpo.codec_identity`); parquet does not say it.
        labels: what labels of the data mean; "other" leaves their utterances out.

    Raises:
        UserError: a file is missing or malformed, an utterance has no emotion, or a label that
            `labels` explains is no utterance's; the message says which.
    """
    with new_folder(out) as part:
        return _import(source, out, part, emotions, codec, labels_asked(labels or {}))


@dataclass(frozen=True)
class _Labels:
    """Emotions of utterances by their names, the file that holds them, and what labels mean.

    `there` takes the labels of all utterances that were asked for.
    """

    file: Path
    of: Mapping[str, str]
    asked: Mapping[str, str]
    there: set[str] = field(default_factory=set)

    def emotion(self, name: str, column: str = "", held: Path | None = None) -> tuple[str, str]:
        """Return the label of an utterance, and the emotion it means; `OTHER` for no class.

        Args:
            column: what a parquet file says of it, if anything.
            held: that file.

        Raises:
            UserError: there is none, there are two that differ, or it is badly written.
        """
        given = self.of.get(name, "")
        if given and column and self._class(given) != self._class(column):
            raise UserError(
                f"{held}: {name} is {column} in the column emotion, and {given} in {self.file}: "
                "correct one of them, or leave the column out"
            )
        if not given and not column:
            where = name if held is None else f"{held}: {name}"
            raise UserError(
                f"{where} has no emotion: add it to {self.file}, or leave the utterance out"
            )
        label = given or column
        self.there.add(label)
        emotion = self._class(label)
        if emotion != OTHER and folded(label) not in self.asked:
            named_emotion(label, f"{self.file if given else held}: {name}")
        return label, emotion

    def _class(self, label: str) -> str:
        left_out = folded(label) in known_corpora()["csv"].left_out
        return self.asked.get(folded(label), OTHER if left_out else emotion_name(label))


def _import(
    source: Path,
    out: Path,
    part: Path,
    emotions: Path | None,
    codec: str,
    asked: Mapping[str, str],
) -> Imported:
    """Import into a folder that is held; `part` takes the tokens."""
    found = Findings()
    beside = source if source.is_dir() else source.parent
    named = emotions or beside / "utt2emo"
    if source.is_dir() and not is_file(source / "wav.scp") and is_file(source / "data.list"):
        raise UserError(f"{source} holds no wav.scp: name its list, {source / 'data.list'}")
    of = _pairs(named, found, one_word=True) if is_file(named) else {}
    labels = _Labels(named, of, asked)
    if emotions is not None and not labels.of:
        raise UserError(f"no emotions at {emotions}: a file of lines with utterance and emotion")
    if source.is_dir():
        if not labels.of:
            raise UserError(f"{named} is missing: write a line for each utterance with its emotion")
        return _import_kaldi(source, out, labels, found)
    if not source.is_file():
        raise UserError(f"nothing at {source}: name a folder with wav.scp, or a parquet list")
    files = parquet_files(source)
    require_new(files)
    found.notes += unread(files)
    done = _import_parquet(files, out, part, labels, found, codec)
    if done.tokens and not codec:
        found.notes.append(
            f"{out / 'tokens'} does not say which codec its tokens are of, as CosyVoice's parquet "
            "does not: import with --codec-of s3:FOLDER, or each command that reads them needs it"
        )
    return done


def _import_kaldi(folder: Path, out: Path, labels: _Labels, found: Findings) -> Imported:
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
        found.notes.append(f"{folder / 'instruct'} is not read: {UNREAD['instruct']}")
    rows = []
    for name, given in tables["wav.scp"].items():
        if given.endswith("|"):
            raise UserError(f"{folder / 'wav.scp'}: {name} is a command: write its audio to a file")
        spoken, speaker = tables["text"].get(name), tables["utt2spk"].get(name)
        if spoken is None or speaker is None:
            lacking = "text" if spoken is None else "utt2spk"
            raise UserError(f"{folder / lacking} has no line for {name}: add it")
        label, emotion = labels.emotion(name)
        if emotion == OTHER:
            found.leave_unclassed(given, label)
            continue
        audio = near(given, (folder, Path())) or folder / given
        if found.usable(audio, f"{given} of {name}"):
            row = f"{folder / 'wav.scp'}, {name}"
            language = languages.get(name, "")
            rows.append(Recording(audio.absolute(), emotion, spoken, speaker, language, row=row))
    require_used(asked=labels.asked, there=labels.there)
    if not rows:
        why = found.refusal() if found.left_out else "it names no utterance: write a line for each"
        raise UserError(f"{folder / 'wav.scp'}: {why}")
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
    files: Sequence[Path], out: Path, part: Path, labels: _Labels, found: Findings, codec: str
) -> Imported:
    rows: list[Recording] = []
    count, misfits = 0, list[str]()
    for number, file in enumerate(files):
        spoken = []
        for row in parquet_rows(file):
            name = str(row["utt"])
            label, emotion = labels.emotion(name, said(row, "emotion", file), file)
            if emotion == OTHER:
                found.leave_unclassed(name, label)
                continue
            recording = keep_audio(row, file, out, len(rows))
            if not found.usable(recording, f"{recording} of {name}"):
                continue
            text, speaker, partition = (
                said(row, one, file) for one in ("text", "spk", "partition")
            )
            told = {"emotion": emotion, "text": text, "speaker": speaker, "partition": partition}
            rows.append(make_recording(recording, told, f"{file}: {name}"))
            if not row.get("speech_token"):
                continue
            tokens = codes(row, file)
            if wrong := misfit(tokens.size, recording):
                misfits.append(f"{name}, {wrong}")
            else:
                given = rows[-1].partition
                spoken.append(Utterance(name, text, emotion, tokens, speaker, partition=given))
        if spoken:
            write_shard(part / f"{number:05d}.parquet", spoken, codec)
            count += len(spoken)
    require_used(asked=labels.asked, there=labels.there)
    if not rows:
        names = first(map(str, files))
        why = found.refusal() if found.left_out else "no utterance to import: name files with some"
        raise UserError(f"{names}: {why}")
    _require_own_sounds(rows, files[0])
    if misfits:
        wrong = f"{len(misfits)} utterances have tokens that do not fit their sound ({misfits[0]})"
        if len(misfits) > count:
            raise UserError(
                f"{files[0]}: {wrong}: {TOKEN_RATE} a second are right, so they are of another "
                "codec; leave out the column speech_token, and make them with `rrpo tokenize`"
            )
        found.notes.append(f"{wrong}: their tokens are left out, `rrpo tokenize` makes them again")
    found.notes += [*check_speakers(rows), *nobody_held_out(rows)]
    write_manifest(out, rows)
    return Imported(len(rows), count, found)


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


def _pairs(
    file: Path, found: Findings, empty: bool = False, one_word: bool = False
) -> dict[str, str]:
    """Read lines of an utterance and what belongs to it (see `read_pairs`)."""
    pairs, notes = read_pairs(file, empty, one_word)
    found.notes += notes
    return pairs
