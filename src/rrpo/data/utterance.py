"""One row of a token shard: its columns, and what is refused of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from rrpo.codec_identity import SPEECH_CODES
from rrpo.data.catalogue import named_emotion
from rrpo.data.encodings import damage
from rrpo.data.manifest import PARTITIONS, partition_name
from rrpo.data.text_table import is_nothing
from rrpo.errors import UserError, shortened

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


def unreadable(file: Path, error: Exception) -> UserError:
    """Return what is said of a file that cannot be read."""
    reason = shortened(str(error)) or type(error).__name__
    return UserError(
        f"{file} is not a readable parquet file ({reason}): copy it again, or make one with "
        "`rrpo tokenize`"
    )


def check_columns(table: arrow.Table, file: Path) -> None:
    """Refuse columns that lack or are of another kind than ours, and values that are missing."""
    needed = [name for name in SCHEMA.names if name not in OPTIONAL]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UserError(f"{file} lacks the columns {', '.join(missing)}: tokenize it again")
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


def check_partitions(found: set[str | None], file: Path) -> None:
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


@cache
def _emotion(label: str) -> str:
    """Return `named_emotion` of a label; a corpus has few of them and many rows of each."""
    return named_emotion(label, "")


def emotion_of(label: str, where: str) -> str:
    """Return `named_emotion` of a label; `where` begins the message of a mistake."""
    try:
        return _emotion(label)
    except UserError:
        return named_emotion(label, where)


def read_row(row: dict[str, object], file: Path) -> Utterance:
    """Return a row as an utterance.

    Args:
        row: a value for each column; `tokens` as anything that makes an array of whole numbers.
        file: where it lies, for the message of a mistake.

    Raises:
        UserError: it has no tokens or one of another codec, or a value of it is refused.
    """
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
            known[name] = emotion_of(str(known[name]), where)
    for name, (low, high) in RANGES.items():
        value = known.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            raise UserError(f"{where} has the {name} {value}: give one from {low:g} to {high:g}")
    return Utterance(tokens=tokens, **known)  # type: ignore[arg-type]
