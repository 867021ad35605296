"""One look at every row of token shards that are to be streamed, in bounded memory.

It says how many rows of each row group are trained on, and refuses what would end a training hours
later. In memory are one row group and, for a moment of it, its texts; of all rows there stay a
number for each row group, the partition of each speaker, one row for each emotion, and the rows
that are held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from rrpo.codec_identity import SPEECH_CODES
from rrpo.data.copies import spelt_alike
from rrpo.data.encodings import damage
from rrpo.data.manifest import PARTITIONS, SPLITS, TEST, partition_name, require_no_split
from rrpo.data.shards import require_file, require_plain, require_text, shard_files
from rrpo.data.speakers import Person, person
from rrpo.data.text_table import is_nothing
from rrpo.data.utterance import (
    NULLABLE,
    RANGES,
    SCHEMA,
    Utterance,
    check_columns,
    check_partitions,
    emotion_of,
    read_row,
    unreadable,
)
from rrpo.errors import UserError
from rrpo.progress import Progress

MOST_HELD_OUT = 1000
"""Rows that are kept in memory to measure a held-out loss on."""
PLACES = 2**64


@dataclass(frozen=True)
class Choice:
    """Which rows are trained on.

    Attributes:
        text: whether every row needs a text, as for a policy.
        held_out: share of the texts that is kept out of the training.
        seed: of the choice of those texts.
    """

    text: bool = True
    held_out: float = 0.0
    seed: int = 0


@dataclass
class Scan:
    """What is known of the rows of token shards.

    Attributes:
        path: a parquet file or a folder of them.
        choice: which rows are trained on.
        groups: a file and the number of a row group in it, G of them.
        kept: how many rows of each group are trained on.
        total: all rows.
        tests: those that are held out for tests.
        largest: rows of the largest group.
        first: rows among which every emotion and every speaker is.
        emotions, speakers: those that were seen, as the rows spell them.
        held_out: rows whose texts are not trained on, at most `MOST_HELD_OUT`.
        partitions: that of each speaker.
    """

    path: Path
    choice: Choice
    groups: list[tuple[Path, int]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    total: int = 0
    tests: int = 0
    largest: int = 0
    first: list[Utterance] = field(default_factory=list)
    emotions: set[str] = field(default_factory=set)
    speakers: set[str] = field(default_factory=set)
    held_out: list[Utterance] = field(default_factory=list)
    partitions: dict[Person, str] = field(default_factory=dict)


def scan(path: Path, choice: Choice) -> Scan:
    """Look at every row of a parquet file or of a folder of them.

    The share of texts that is held out is lowered where it would be more than `MOST_HELD_OUT` rows.

    Raises:
        UserError: what `read_shard` refuses but for rows that stand twice, a row that is mixed with
            another, nothing is left to train on, or no text was held out where one should be.
    """
    files = shard_files(path)
    for file in files:
        require_file(file)
    total = sum(_open(file).metadata.num_rows for file in files)
    if not total:
        raise UserError(f"{path} holds no utterances: tokenize at least one")
    choice = replace(choice, held_out=min(choice.held_out, MOST_HELD_OUT / total))
    found = Scan(path, choice)
    with Progress("read shards", total) as progress:
        for file in files:
            _scan_file(file, found)
            progress.update(found.total)
    if not sum(found.kept):
        raise UserError(_nothing_left(found))
    if choice.held_out and not found.held_out:
        raise UserError(
            f"{path}: of its texts none was held out: raise held_out, or leave `stream` out, as "
            "there are too few texts to need it"
        )
    return found


def _nothing_left(found: Scan) -> str:
    """Say why no row is trained on."""
    held = found.total - found.tests
    if not held:
        return f"{found.path}: every utterance is in the partition {TEST!r}: none to train on"
    return (
        f"{found.path}: of {found.total:,} utterances none is left to train on: {found.tests:,} in "
        f"the partition {TEST!r}, {held:,} whose texts held_out={found.choice.held_out:g} keeps "
        "out: lower held_out, or leave `stream` out"
    )


def file_of(path: Path, row: Utterance) -> Path:
    """Return the file that holds a row, for a message; the folder itself where none is found."""
    for file in shard_files(path):
        with _open(file) as opened:
            names = [name for name in opened.schema_arrow.names if name in ("id", "text")]
            for number in range(opened.num_row_groups):
                table = _read(opened, number, names, file)
                same = table["id"].to_numpy() == row.id
                if row.text and "text" in names:  # two files may use the same ids
                    same &= table["text"].to_numpy() == row.text
                if same.any():
                    return file
    return path


def _open(file: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, error) from None


def _scan_file(file: Path, found: Scan) -> None:
    """Look at the rows of one file."""
    partitions: set[str | None] = set()
    splits: dict[str, set[object]] = {}
    with _open(file) as opened:
        names = [name for name in opened.schema_arrow.names if name in (*SCHEMA.names, *SPLITS)]
        for number in range(opened.num_row_groups):
            table = _read(opened, number, names, file)
            check_columns(table, file)
            _check_rows(table, file, found.choice)
            if "partition" in table.column_names:
                partitions |= set(table["partition"].unique().to_pylist())
            for column in set(SPLITS) & set(table.column_names):
                seen = splits.setdefault(column, set())
                if len(seen) <= len(PARTITIONS):  # more names are no partitions
                    seen |= set(table[column].unique().to_pylist())
            _count(as_ours(table), file, number, found)
    check_partitions(partitions, file)
    for column, seen in splits.items() if not any(partitions) else ():
        require_no_split(seen, column, file)


def require_partitions_read(file: Path) -> None:
    """Refuse a parquet file with partitions in another column than `partition`.

    Raises:
        UserError: there are, or it is no parquet file.
    """
    with _open(file) as opened:
        names = opened.schema_arrow.names
        for column in set(SPLITS) & set(names) if "partition" not in names else ():
            seen = opened.read([column])[column].unique().to_pylist()
            require_no_split(set(map(str, filter(None, seen))), column, file)


def _read(
    opened: parquet.ParquetFile, number: int, names: Sequence[str], file: Path
) -> arrow.Table:
    try:
        table = opened.read_row_group(number, columns=list(names))
        table.validate(full=True)  # text that is no UTF-8, too
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, error) from None
    twice = [name for name in names if table.column_names.count(name) > 1]
    if twice:
        raise UserError(f"{file} has the column {twice[0]} twice: remove one")
    return table


def read_group(file: Path, number: int) -> arrow.Table:
    """Read one row group as a table of our columns.

    Raises:
        UserError: it cannot be read, or is not what it was when it was scanned.
    """
    with _open(file) as opened:
        names = [name for name in opened.schema_arrow.names if name in SCHEMA.names]
        if number >= opened.num_row_groups:
            raise UserError(f"{file} has been changed since the run began: put it back")
        table = _read(opened, number, names, file)
    check_columns(table, file)
    try:
        return as_ours(table)
    except (arrow.ArrowException, ValueError) as error:
        raise unreadable(file, error) from None


def as_ours(table: arrow.Table) -> arrow.Table:
    """Return a table with all of our columns and kinds; what is missing is empty."""
    columns = {}
    for one in SCHEMA:
        if one.name in table.column_names:
            columns[one.name] = table[one.name].cast(one.type)
        else:
            empty = None if one.name in NULLABLE else ""
            columns[one.name] = arrow.array([empty] * table.num_rows, one.type)
    return arrow.table(columns, schema=SCHEMA)


def keeps(table: arrow.Table, choice: Choice) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows (N,) of a table are trained on, and which are held out by their text."""
    names = table["partition"].unique().to_pylist()
    tests = arrow.array([name for name in names if partition_name(name) == TEST], arrow.string())
    free = ~compute.is_in(table["partition"], tests).to_numpy(zero_copy_only=False)
    if not choice.held_out:
        return free, np.zeros_like(free)
    bound, key = int(choice.held_out * PLACES), choice.seed.to_bytes(8, "little")
    places = [_place(text, key) for text in table["text"].to_pylist()]
    held = np.array([place < bound for place in places], dtype=bool)
    return free & ~held, free & held


def _place(text: str, key: bytes) -> int:
    """Return a number below `PLACES` that is a text's own, and that of all its spellings."""
    plain = spelt_alike(text).encode()
    return int.from_bytes(blake2b(plain, digest_size=8, key=key).digest(), "little")


def _count(table: arrow.Table, file: Path, number: int, found: Scan) -> None:
    """Add a row group, all of whose rows are good, to what is known."""
    free, held = keeps(table, found.choice)
    found.groups.append((file, number))
    found.kept.append(int(free.sum()))
    found.total += table.num_rows
    found.largest = max(found.largest, table.num_rows)
    found.tests += table.num_rows - int(free.sum()) - int(held.sum())
    room = MOST_HELD_OUT - len(found.held_out)
    found.held_out += utterances(table, np.flatnonzero(held)[:room], file)
    kept = table.filter(arrow.array(free))
    new: set[int] = set()
    for column, seen in (("emotion", found.emotions), ("speaker", found.speakers)):
        names = [name for name in kept[column].unique().to_pylist() if name not in seen]
        new |= {compute.index(kept[column], name).as_py() for name in names}
        seen.update(names)
    found.first += utterances(kept, np.array(sorted(new), np.int64), file)
    _require_one_partition(table, file, found)


def _require_one_partition(table: arrow.Table, file: Path, found: Scan) -> None:
    """Refuse a speaker who is in two partitions, as `require_one_partition` of rows in memory."""
    names = ["corpus", "speaker", "partition"]
    if not any(table["partition"].unique().to_pylist()):
        return
    for row in table.select(names).group_by(names).aggregate([]).to_pylist():
        if is_nothing(row["speaker"]) or is_nothing(row["partition"]):
            continue
        partition = partition_name(row["partition"])
        other = found.partitions.setdefault(person(row["corpus"], row["speaker"]), partition)
        if other != partition:
            raise UserError(
                f"{file}: the speaker {row['speaker']} is in {other} and in {partition}: a speaker "
                "belongs in one partition, correct the manifest and tokenize it again"
            )


def _check_rows(table: arrow.Table, file: Path, choice: Choice) -> None:
    """Refuse the first bad row of a table; they are read one by one only where there is one."""
    if not _suspicious(table, choice):
        return
    for row in table.select([one for one in SCHEMA.names if one in table.column_names]).to_pylist():
        read = read_row(row, file)
        require_plain([read], file)
        if choice.text:
            require_text(read, file)


def _suspicious(table: arrow.Table, choice: Choice) -> bool:
    """Say whether any row of a table may be one that `read_row` refuses."""
    tokens = table["tokens"].combine_chunks()
    ids = compute.min_max(tokens.flatten()).as_py()
    least = compute.min(compute.list_value_length(tokens)).as_py()
    if not least or ids["min"] < 0 or ids["max"] >= SPEECH_CODES:
        return True
    for name, (low, high) in RANGES.items():
        if name not in table.column_names:
            continue
        values = table[name].drop_null().to_numpy()
        # NaN is neither.
        if not ((values >= low) & (values <= high)).all():
            return True
    if table["partner_emotion"].null_count < table.num_rows:
        return True
    try:
        for label in table["emotion"].unique().to_pylist():
            emotion_of(label, "")
    except UserError:
        return True
    texts = table["text"].to_pylist()
    return any(damage(text) or (choice.text and is_nothing(text)) for text in texts)


def utterances(table: arrow.Table, rows: NDArray[np.int64], file: Path) -> list[Utterance]:
    """Return rows (n,) of a table of our columns as utterances, in that order."""
    taken = table.take(arrow.array(rows))
    columns = {name: taken[name].to_pylist() for name in SCHEMA.names if name != "tokens"}
    lists = taken["tokens"].combine_chunks()
    ids, ends = lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy())
    columns["tokens"] = np.split(ids, ends[:-1]) if len(rows) else []
    return [
        read_row(dict(zip(columns, values, strict=True)), file)
        for values in zip(*columns.values(), strict=True)
    ]
