"""Emotional speech corpora to our manifest: labels, partitions, and what had to be left out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrpo.data.catalogue import Corpus, known_corpora
from rrpo.data.layouts import LISTED, READERS, find_roots
from rrpo.data.manifest import (
    COLUMNS,
    PARTITIONS,
    Recording,
    is_file,
    make_recording,
    read_rows,
    require_empty,
    write_manifest,
)
from rrpo.errors import UserError

OTHER = "other"
"""What a label is mapped to that is to be left out."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what it did not.

    Attributes:
        recordings: those of the manifest.
        left_out: label and reason → recordings.
        speakers_read: names, of what was left out too.
        empty: files of 0 bytes, left out.
        missing: names of recordings that the corpus' own tables list and that are not there.
    """

    recordings: list[Recording]
    left_out: Counter[str]
    speakers_read: set[str]
    empty: list[Path]
    missing: list[str]


def import_corpus(
    name: str,
    source: Path,
    out: Path,
    labels: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Imported:
    """Write `manifest.csv` of a corpus; nothing of the corpus is copied.

    Args:
        name: one of `READERS`, or csv.
        source: the folder of the corpus, or of csv the table or its folder.
        labels: label of the corpus → emotion, before those of `corpora.yaml`; "other" leaves out.
        columns: of csv: our column → the table's.

    Raises:
        UserError: it is not that corpus or not all of it, a label is unknown, a recording stands
            twice or is missing, or nothing is left; the message says which and where.
    """
    require_empty(out)
    corpus = known_corpora()[name]
    missing: list[str] = []
    if name == "csv":
        read = _read_csv(source, columns or {})
    elif columns:
        raise UserError("--column names columns of a csv: leave it out")
    else:
        roots = find_roots(source, name)
        read = [one for root in roots for one in READERS[name](root, corpus)]
        read = [_described(one, name, corpus) for one in read]
        there = {one.path.stem for one in read}
        listed = [one for root in roots if name in LISTED for one in LISTED[name](root)]
        missing = [one for one in listed if one not in there]
    if not read:
        raise UserError(f"{source} holds no recording of {corpus.title}: expected {corpus.layout}")
    _require_once(read, by_name=name not in ("csv", "casia"))
    speakers = {one.speaker for one in read if one.speaker}
    empty = [one.path for one in read if one.path.stat().st_size == 0]
    if len(empty) == len(read):
        raise UserError(f"{source}: all {len(read)} recordings are of 0 bytes: copy them again")
    absent = set(empty)
    kept, left_out = _label(
        [one for one in read if one.path not in absent], corpus, labels or {}, source
    )
    if not kept:
        raise UserError(
            f"{source}: all {len(read)} recordings are left out: {next(iter(left_out))}"
        )
    kept = with_partitions(kept)
    write_manifest(out, kept)
    return Imported(kept, left_out, speakers, empty, missing)


def with_partitions(recordings: Sequence[Recording]) -> list[Recording]:
    """Give every recording its partition; those that are given stay.

    A speaker who has one somewhere has it everywhere. A corpus of `corpora.yaml` goes by its lists.
    Of any other the remaining speakers take turns (`in_order`), language by language. A recording
    whose speaker is unknown gets none.

    Raises:
        UserError: partitions are given and are not ours, or divide a speaker.
    """
    _require_disjoint([one for one in recordings if one.partition])
    given = {_person(one): one.partition for one in recordings if one.partition and one.speaker}
    unlisted = defaultdict(set)
    for one in recordings:
        if one.speaker and not _rule(one.corpus) and _person(one) not in given:
            unlisted[one.corpus, one.language].add(one.speaker)
    turns = {name: in_order(speakers) for name, speakers in unlisted.items()}
    return [
        replace(
            one,
            partition=one.partition
            or given.get(_person(one))
            or _partition(one, turns.get((one.corpus, one.language), {})),
        )
        for one in recordings
    ]


def _person(one: Recording) -> tuple[str, str]:
    """Return what tells a speaker from others: names are unique within a corpus."""
    return one.corpus, one.speaker


def in_order(speakers: set[str]) -> dict[str, str]:
    """Give speakers turns by the order of their names: of every five, one validates and one tests.

    Three or four speakers count as one round; with fewer all are in train. Nothing but the names
    decides, so the same speakers are always divided in the same way.
    """
    turns = min(len(speakers), 5)
    if turns < 3:
        return dict.fromkeys(speakers, "train")
    places = {turns - 2: "validation", turns - 1: "test"}
    ordered = sorted(speakers)
    return {speaker: places.get(at % turns, "train") for at, speaker in enumerate(ordered)}


def _partition(one: Recording, turns: Mapping[str, str]) -> str:
    corpus = _rule(one.corpus)
    if corpus is None:
        return turns.get(one.speaker, "")
    rule = corpus.partitions
    who = one.session if rule.by == "session" else one.speaker
    if not who:
        return ""
    return "validation" if who in rule.validation else "test" if who in rule.test else "train"


def _rule(name: str) -> Corpus | None:
    """Return the corpus whose lists decide, None where speakers take turns."""
    corpus = known_corpora().get(name)
    return None if corpus is None or corpus.partitions.by == "order" else corpus


def _described(one: Recording, name: str, corpus: Corpus) -> Recording:
    """Add what is known of the corpus to what the files told."""
    language = one.language or corpus.languages[0]
    gender = one.gender or corpus.gender(one.speaker)
    return replace(one, corpus=name, language=language, gender=gender)


def _label(
    read: Sequence[Recording], corpus: Corpus, labels: Mapping[str, str], source: Path
) -> tuple[list[Recording], Counter[str]]:
    """Turn labels into emotions; return what has one, and how often there was none, and why."""
    there = {one.emotion.casefold() for one in read}
    asked = {label.casefold(): emotion.casefold() for label, emotion in labels.items()}
    unused = sorted(set(asked) - there)
    if unused:
        found = ", ".join(sorted({one.emotion for one in read}))
        raise UserError(f"--label {unused[0]}: no recording has that label; there are {found}")
    known = {label.casefold(): emotion for label, emotion in corpus.emotions.items()} | asked
    reasons = {label.casefold(): reason for label, reason in corpus.left_out.items()}
    kept, left_out = [], Counter[str]()
    for one in read:
        label = one.emotion.casefold()
        emotion = known.get(label, OTHER if label in reasons else None)
        if emotion is None:
            raise UserError(
                f"{source}: {one.path.name} has the unknown label {one.emotion!r}: say what it is "
                f"with --label {one.emotion}=EMOTION, or leave it out with ={OTHER}"
            )
        if emotion == OTHER:
            reason = "as you asked" if label in asked else reasons[label]
            left_out[f"{one.emotion} ({reason})"] += 1
        else:
            kept.append(replace(one, emotion=emotion))
    return kept, left_out


def _read_csv(source: Path, columns: Mapping[str, str]) -> list[Recording]:
    """Read a table whose paths are relative to its folder, or to the one above."""
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise UserError(f"--column {unknown[0]}=…: our columns are {', '.join(COLUMNS)}")
    required = (columns.get("path", "path"), columns.get("emotion", "emotion"), *columns.values())
    delimiter = "\t" if source.suffix.lower() == ".tsv" else ","
    file, rows = read_rows(source, required, delimiter)
    theirs = {name: columns.get(name, name) for name in COLUMNS}
    recordings = []
    for number, row in rows:
        where = f"{file}, line {number}"
        known = {ours: row[name] for ours, name in theirs.items() if name in row}
        if not known["path"] or not known["emotion"]:
            raise UserError(f"{where}: path or emotion is empty: fill it in")
        near = (file.parent, file.absolute().parent.parent)
        found = [folder / known["path"] for folder in near if is_file(folder / known["path"])]
        if not found:
            raise UserError(
                f"{where}: no such audio file: {known['path']} "
                f"is neither in {near[0]} nor in {near[1]}"
            )
        recordings.append(make_recording(found[0], known, where))
    return recordings


def _require_once(recordings: Sequence[Recording], by_name: bool) -> None:
    """Check that no recording stands twice: by the name of its file where names are unique."""
    seen: dict[object, Path] = {}
    for one in recordings:
        key = one.path.name if by_name else one.path.resolve()
        if key in seen:
            where = f": {seen[key]} and {one.path}" if seen[key] != one.path else ""
            raise UserError(f"{one.path.name} is there twice{where}: keep one of them")
        seen[key] = one.path


def _require_disjoint(recordings: Sequence[Recording]) -> None:
    """Check partitions that came with the data."""
    first: dict[tuple[str, str], str] = {}
    for one in recordings:
        if one.partition not in PARTITIONS:
            raise UserError(
                f"{one.path.name} is in the partition {one.partition!r}: "
                f"name one of {', '.join(PARTITIONS)}, or leave the column out"
            )
        other = first.setdefault(_person(one), one.partition)
        if one.speaker and other != one.partition:
            raise UserError(
                f"speaker {one.speaker} is in {other} and in {one.partition}: "
                "a speaker belongs in one partition"
            )
