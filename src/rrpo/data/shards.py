"""Token shards: labelled utterances as rows of parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from rrpo.checkpoint import atomic_path
from rrpo.data.catalogue import named_emotion
from rrpo.data.copies import find_copies
from rrpo.data.encodings import damage
from rrpo.data.files import is_pointer
from rrpo.data.lengths import check_sounds
from rrpo.data.manifest import PARTITIONS, SPLITS, TEST, partition_name, require_no_split
from rrpo.data.speakers import require_one_partition
from rrpo.data.text_table import is_nothing
from rrpo.errors import UserError, shortened
from rrpo.tokens import SPEECH_CODES, TOKEN_RATE, require_one_codec

SCHEMA = arrow.schema(
    [
        ("id", arrow.string()),
        ("text", arrow.string()),
        ("emotion", arrow.string()),
        ("speaker", arrow.string()),
        ("language", arrow.string()),
        ("intensity", arrow.float32()),
        ("tokens", arrow.list_(arrow.int16())),
        ("partner_emotion", arrow.string()),
        ("partner_weight", arrow.float32()),
        ("corpus", arrow.string()),
        ("partition", arrow.string()),
        ("energy", arrow.float32()),
    ]
)
OPTIONAL = ("corpus", "partition", "energy")
"""Columns that shards of before do not have; they read as empty."""
ALL = "all"
"""Every utterance, whatever its partition."""
NULLABLE = ("intensity", "partner_emotion", "energy")
"""Columns in which a value may be missing."""

RANGES = {"intensity": (0.0, 1.0), "partner_weight": (0.0, 1.0), "energy": (-1000.0, 1000.0)}
"""Numbers of an utterance and where they lie; energy is in dB."""


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance as speech tokens.

    A row of a mix pool also names the emotion of the partner that was mixed in and its weight
    (lambda of energy-adaptive mixup); in any other row they are None and 0. `energy` is that of the
    recording in dB (`rrpo.audio.energy`), None where it is not known.
    """

    id: str
    text: str
    emotion: str
    tokens: NDArray[np.int64]
    speaker: str = ""
    language: str = ""
    intensity: float | None = None
    partner_emotion: str | None = None
    partner_weight: float = 0.0
    corpus: str = ""
    partition: str = ""
    energy: float | None = None


CODEC = b"rrpo.codec"
"""Key of the codec's identity (`rrpo.tokens`) in a shard's metadata."""


def write_shard(path: Path, utterances: Sequence[Utterance], codec: str = "") -> None:
    """Write utterances as one parquet file, in their order.

    Args:
        codec: identity of what the tokens are of (`rrpo.tokens`); empty where it is not known.
    """
    columns = {
        name: [getattr(utterance, name) for utterance in utterances]
        for name in SCHEMA.names
        if name != "tokens"
    }
    columns["tokens"] = [utterance.tokens.astype(np.int16) for utterance in utterances]
    schema = SCHEMA.with_metadata({CODEC: codec}) if codec else SCHEMA
    table = arrow.table({name: columns[name] for name in SCHEMA.names}, schema=schema)
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def read_shard(path: Path) -> list[Utterance]:
    """Read one parquet file, or every one of a folder in the order of their names.

    Raises:
        UserError: nothing is there, a file is damaged or has other columns, it holds no rows, or a
            token lies outside 0…6560.
    """
    files = _files(path)
    rows: list[Utterance] = []
    for file in files:
        if is_pointer(file):
            raise UserError(f"{file} is a git-LFS pointer and not the file: run `git lfs pull`")
        try:
            # A folder called corpus=own would else be a column.
            table = parquet.read_table(file, schema=None, partitioning=None)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise _unreadable(file, error) from None
        needed = [name for name in SCHEMA.names if name not in OPTIONAL]
        missing = [name for name in needed if name not in table.column_names]
        if missing:
            raise UserError(f"{file} lacks the columns {', '.join(missing)}: tokenize it again")
        _check_columns(table, file)
        try:
            found = table.to_pylist()
        except (arrow.ArrowException, ValueError) as error:  # text that is no UTF-8
            raise _unreadable(file, error) from None
        check_sounds(found, file)
        _check_partitions({row.get("partition") for row in found}, file)
        for column in SPLITS if not any(row.get("partition") for row in found) else ():
            require_no_split({row.get(column) for row in found}, column, file)
        rows += [_utterance(row, file) for row in found]
    if not rows:
        raise UserError(f"{path} holds no utterances: tokenize at least one")
    _require_once(rows, path)
    require_one_partition(rows, path)
    return rows


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = shortened(str(error)) or type(error).__name__
    return UserError(
        f"{file} is not a readable parquet file ({reason}): copy it again, or make one with "
        "`rrpo tokenize`"
    )


def _require_once(rows: Sequence[Utterance], path: Path) -> None:
    """Refuse an utterance that stands twice, as in the copy of a file: it would count twice.

    Ids alone do not tell, as those of two corpora may be the same.
    """
    seen = set()
    for row in rows:
        key = (row.id, row.text, row.emotion, row.partner_emotion, row.tokens.tobytes())
        if key in seen:
            raise UserError(
                f"{path}: the utterance {row.id!r} stands twice, with the same tokens: remove the "
                "second file or row"
            )
        seen.add(key)


def _without_copies(rows: Sequence[Utterance], data: Path) -> list[Utterance]:
    """Leave out, and count, utterances with the tokens of another: they would count twice.

    Under a second two sounds may have the same tokens, and mixes have them with several partners.

    Raises:
        UserError: two of them have other emotions or texts, or one alone is held out for tests.
    """
    plain = [row.partner_emotion is None and row.tokens.size >= TOKEN_RATE for row in rows]
    contents = [row.tokens.tobytes() if one else None for row, one in zip(rows, plain, strict=True)]
    names = [repr(row.id) for row in rows]
    try:
        copies = find_copies(rows, contents, names, "of the same tokens")
    except UserError as error:
        raise UserError(f"{data}: the utterances {error}") from None
    if copies:
        copy, other = next(iter(copies.items()))
        print(
            f"{data}: left out: {len(copies)} of {len(rows)} utterances with the tokens of "
            f"another, such as {names[copy]} with those of {names[other]}"
        )
    return [row for number, row in enumerate(rows) if number not in copies]


def for_training(data: Path) -> list[Utterance]:
    """Read token shards, or a mix pool, without what is held out for tests."""
    rows = _without_copies(read_shard(data), data)
    kept = [row for row in rows if row.partition != TEST]
    if not kept:
        raise UserError(f"{data}: every utterance is in the partition {TEST!r}: none to train on")
    if len(kept) < len(rows):
        print(f"{data}: {len(rows) - len(kept)} of {len(rows)} utterances are held out for tests")
    return kept


def for_tests(data: Path, partition: str | None = None) -> list[Utterance]:
    """Read token shards to test on.

    Args:
        data: the shards.
        partition: one of `PARTITIONS`, or "all"; None: what is held out for tests, or all where
            nothing is.
    """
    partition = partition and partition_name(partition)
    rows = read_shard(data)
    require_plain(rows, data)
    rows = _without_copies(rows, data)
    known = {row.partition for row in rows}
    if partition not in (None, ALL, *PARTITIONS):
        names = ", ".join((*PARTITIONS, ALL))
        raise UserError(f"there is no partition {partition!r}: choose one of {names}")
    if partition == ALL or (partition is None and TEST not in known):
        return rows
    wanted = partition or TEST
    kept = [row for row in rows if row.partition == wanted]
    if not kept:
        raise UserError(
            f"{data}: no utterance is in the partition {wanted!r}: there are "
            f"{', '.join(map(repr, sorted(known)))}, or take --partition {ALL}"
        )
    if len(kept) < len(rows):
        print(f"{data}: {len(kept)} of {len(rows)} utterances, the partition {wanted!r}")
    return kept


def require_plain(rows: Sequence[Utterance], data: Path) -> None:
    """Refuse mixes of two utterances: they are neither an emotion nor a text.

    Raises:
        UserError: one is.
    """
    for row in rows:
        if row.partner_emotion is not None:
            raise UserError(
                f"{data}: utterance {row.id!r} is mixed with another: name the folder `tokens` "
                "beside `mixes`"
            )


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files and (path / "tokens").is_dir():
        raise UserError(f"no token shard at {path}: name {path / 'tokens'}, where they are")
    if not files and any(path.glob("*.arrow")):
        raise UserError(
            f"{path} holds .arrow files of Hugging Face's datasets: write parquet, as "
            "Dataset.to_parquet does, with the columns of `rrpo tokenize`"
        )
    if not files or not files[0].is_file():
        raise UserError(f"no token shard at {path}: make one with `rrpo tokenize`")
    return files


def shard_codec(path: Path) -> str:
    """Return the identity of the codec of one parquet file, or of every one of a folder.

    Returns:
        empty, where no file says it.

    Raises:
        UserError: nothing is there, a file is damaged, or two files are of different codecs.
    """
    found: dict[str, str] = {}
    for file in _files(path):
        try:
            metadata = parquet.read_schema(file).metadata or {}
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise _unreadable(file, error) from None
        found[str(file)] = metadata.get(CODEC, b"").decode("utf-8", "replace")
    if len(set(found.values())) > 1 and "" in found.values():
        silent = next(file for file, line in found.items() if not line)
        raise UserError(
            f"{silent} does not say which codec its tokens are of, other shards beside it do: "
            "keep them in folders of their own"
        )
    return require_one_codec(found) if any(found.values()) else ""


def _check_columns(table: arrow.Table, file: Path) -> None:
    """Refuse columns of another kind than ours, and values that are missing."""
    for field in SCHEMA:
        if field.name not in table.column_names:
            continue
        column = table.column(field.name)
        if not _fits(column.type, field):
            raise UserError(
                f"{file}: the column {field.name} holds {column.type} and not {field.type}: "
                "tokenize it again"
            )
        inner = column.combine_chunks().flatten() if field.name == "tokens" else column
        if field.name not in NULLABLE and column.null_count + inner.null_count:
            raise UserError(f"{file}: a value is missing in the column {field.name}: fill it in")


def _check_partitions(found: set[str | None], file: Path) -> None:
    """Refuse a partition by another name: what is held out by a wrong one would be trained on."""
    wrong = sorted(one for one in found if one and partition_name(one) not in PARTITIONS)
    if wrong:
        raise UserError(
            f"{file}: the partition {wrong[0]!r} is none of {', '.join(PARTITIONS)}: "
            "correct the manifest and tokenize it again"
        )


def _fits(found: arrow.DataType, field: arrow.Field) -> bool:
    """Return whether a column can be read as ours; wider numbers can."""
    kinds = arrow.types
    if kinds.is_null(found):
        return field.name in NULLABLE
    if kinds.is_string(field.type):
        return bool(kinds.is_string(found) or kinds.is_large_string(found))
    if kinds.is_list(field.type):
        is_list = kinds.is_list(found) or kinds.is_large_list(found)
        return bool(is_list and kinds.is_integer(found.value_type))
    return bool(kinds.is_floating(found) or kinds.is_integer(found))


def _utterance(row: dict[str, object], file: Path) -> Utterance:
    where = f"{file}: utterance {row['id']!r}"
    try:
        tokens = np.asarray(row.pop("tokens"), dtype=np.int64)
    except OverflowError:
        tokens = np.array([-1])
    if tokens.size == 0:
        raise UserError(f"{where} has no tokens: remove it")
    if tokens.min() < 0 or tokens.max() >= SPEECH_CODES:
        raise UserError(
            f"{where} has a token outside 0…{SPEECH_CODES - 1}: it is of a codec with another "
            "vocabulary"
        )
    known = {name: row[name] for name in SCHEMA.names if name in row}
    if harm := damage(str(known["text"])):
        raise UserError(f"{where}: its text {str(known['text'])[:40]!r} {harm}: repair it")
    for name, value in known.items():
        if isinstance(value, str) and name != "id" and is_nothing(value):
            known[name] = None if name == "partner_emotion" else ""
    if isinstance(said := known.get("partition"), str):
        known["partition"] = partition_name(said)
    for name in ("emotion", "partner_emotion"):
        if known[name] is not None:
            known[name] = named_emotion(str(known[name]), where)
    for name, (low, high) in RANGES.items():
        value = known.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            raise UserError(f"{where} has the {name} {value}: give one from {low:g} to {high:g}")
    return Utterance(tokens=tokens, **known)  # type: ignore[arg-type]
