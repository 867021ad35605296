"""Emotional speech corpora to our manifest: labels, partitions, and what had to be left out."""

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rrpo.data.catalogue import (
    CLASSES,
    OTHER,
    Corpus,
    folded,
    known_corpora,
    labels_asked,
    require_used,
)
from rrpo.data.findings import Findings
from rrpo.data.layouts import READERS
from rrpo.data.manifest import (
    COLUMNS,
    SPLITS,
    Recording,
    rows_to_recordings,
    table_file,
    write_manifest,
)
from rrpo.data.new_folder import new_folder
from rrpo.data.partitions import with_partitions
from rrpo.data.roots import find_roots
from rrpo.data.segments import COLUMNS as SEGMENTS
from rrpo.data.text_table import read_table, separator_of
from rrpo.errors import UserError


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what it did not.

    Attributes:
        recordings: those of the manifest.
        left_out: label and reason → recordings.
        speakers_read: names, of what was left out too.
        findings: what else was left out, and what is to be said.
    """

    recordings: list[Recording]
    left_out: Counter[str]
    speakers_read: set[str]
    findings: Findings


@dataclass(frozen=True)
class TableOptions:
    """How a table of one's own is read: our column → the table's, its separator and encoding."""

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str = ""
    encoding: str = ""


def import_corpus(
    name: str,
    source: Path,
    out: Path,
    labels: Mapping[str, str] | None = None,
    options: TableOptions | None = None,
) -> Imported:
    """Write `manifest.csv` of a corpus; nothing of the corpus is copied.

    Args:
        name: one of `READERS`, or csv.
        source: the folder of the corpus, or of csv the table or its folder.
        labels: label of the corpus → emotion, before those of `corpora.yaml`; "other" leaves out.
        options: of csv alone.

    Raises:
        UserError: it is not that corpus, a label is unknown, a recording stands twice, or nothing
            is left; the message says which and where.
    """
    with new_folder(out):
        return _import(name, source, out, labels or {}, options)


def _import(
    name: str, source: Path, out: Path, labels: Mapping[str, str], options: TableOptions | None
) -> Imported:
    """Import into a folder that is held."""
    corpus = known_corpora()[name]
    found = Findings()
    if name == "csv":
        read = _read_csv(source, options or TableOptions(), labels, found)
    elif options:
        raise UserError("--column, --separator and --encoding are of a csv: leave them out")
    else:
        roots = find_roots(source, name)
        named = [one for root in roots for one in READERS[name](root, corpus, found)]
        if not named and not found.missing:
            raise UserError(
                f"{source} holds no recording of {corpus.title}: expected {corpus.layout}"
            )
        _require_once(named, by_name=name != "casia")
        read = [_described(one, name, corpus) for one in named if found.usable(one.path)]
        if not read:
            raise UserError(f"{source}: no recording can be used: {found.refusal()}")
    speakers = {one.speaker for one in read if one.speaker}
    kept, left_out = _label(read, corpus, labels, source, found)
    if not kept:
        raise UserError(
            f"{source}: all {len(read)} recordings are left out: {next(iter(left_out))}"
        )
    kept = with_partitions(kept, found)
    write_manifest(out, kept)
    return Imported(kept, left_out, speakers, found)


def _described(one: Recording, name: str, corpus: Corpus) -> Recording:
    """Add what is known of the corpus to what the files told."""
    language = one.language or corpus.languages[0]
    gender = one.gender or corpus.gender(one.speaker)
    return replace(one, corpus=name, language=language, gender=gender)


def _label(
    read: Sequence[Recording],
    corpus: Corpus,
    labels: Mapping[str, str],
    source: Path,
    found: Findings,
) -> tuple[list[Recording], Counter[str]]:
    """Turn labels into emotions; return what has one, and how often there was none, and why."""
    asked = labels_asked(labels)
    require_used(asked, {one.emotion for one in read})
    known = {folded(label): emotion for label, emotion in corpus.emotions.items()} | asked
    reasons = {folded(label): reason for label, reason in corpus.left_out.items()}
    _require_known(read, known.keys() | reasons.keys(), source)
    kept, left_out = [], Counter[str]()
    for one in read:
        label = folded(one.emotion)
        named = known.get(label, OTHER)
        if named == OTHER:
            reason = "as you asked" if label in asked else reasons[label]
            left_out[f"{one.emotion} ({reason})"] += 1
            found.leave(one.path, f"it is labelled {one.emotion} ({reason})")
        else:
            kept.append(replace(one, emotion=named))
    return kept, left_out


def _require_known(read: Sequence[Recording], known: Collection[str], source: Path) -> None:
    """Refuse labels that nobody has explained, all of them at once, with options to be copied.

    Raises:
        UserError: there are some.
    """
    first = {one.emotion: one for one in reversed(read) if folded(one.emotion) not in known}
    if not first:
        return
    labels = list(reversed(first))
    options = []
    for label in labels:
        meant = difflib.get_close_matches(folded(label), CLASSES, n=1, cutoff=0.7)
        # "unhappy" is no happy.
        sure = meant and not re.match(r"(un|not|non|no)\b|un", folded(label))
        emotion = meant[0] if sure else "EMOTION"
        options.append(f"--label {shlex.quote(f'{label}={emotion}')}")
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    one = first[labels[0]]
    where = one.place if one.row else f"{source}: {one.path.name}"
    raise UserError(
        f"{where} has the unknown label {labels[0]!r}{more}: say what it is "
        f"with {' '.join(options)}, or leave it out with ={OTHER}"
    )


def _read_csv(
    source: Path, options: TableOptions, labels: Mapping[str, str], found: Findings
) -> list[Recording]:
    """Read a table whose paths are relative to its folder, or to the one above."""
    columns = options.columns
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise UserError(f"--column {unknown[0]}=…: our columns are {', '.join(COLUMNS)}")
    theirs = {name: columns.get(name, name) for name in COLUMNS}
    required = (theirs["path"], theirs["emotion"], *columns.values())
    separator = separator_of(options.separator)
    # A column that the user gives another meaning is no time.
    named = {*map(str.casefold, columns.values())}
    others = [name for name in (*SEGMENTS, *SPLITS) if name not in named]
    table = read_table(
        table_file(source), required, (*theirs.values(), *others), separator, options.encoding
    )
    return rows_to_recordings(table, theirs, found, {folded(label) for label in labels})


def _require_once(recordings: Sequence[Recording], by_name: bool) -> None:
    """Check that no recording stands twice: by the name of its file where names are unique."""
    seen: dict[object, Path] = {}
    for one in recordings:
        key = one.path.stem if by_name else one.path.resolve()
        if key in seen:
            where = f": {seen[key]} and {one.path}" if seen[key] != one.path else ""
            raise UserError(f"{one.path.name} is there twice{where}: keep one of them")
        seen[key] = one.path
