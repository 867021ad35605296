"""Token shards: labelled utterances as rows of parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from rrpo.codec_identity import TOKEN_RATE, require_one_codec
from rrpo.data.copies import find_copies
from rrpo.data.files import is_pointer
from rrpo.data.lengths import check_sounds
from rrpo.data.manifest import PARTITIONS, SPLITS, TEST, partition_name, require_no_split
from rrpo.data.speakers import require_one_partition
from rrpo.data.token_folder import tell_unfinished
from rrpo.data.utterance import SCHEMA, check_columns, check_partitions, read_row, unreadable
from rrpo.data.utterance import Utterance as Utterance
from rrpo.errors import UserError
from rrpo.files import atomic_path
from rrpo.notes import note

ALL = "all"
"""Every utterance, whatever its partition."""
CODEC, INSERT = b"rrpo.codec", b"rrpo.insert"
"""Keys in a shard's metadata: codec's identity (`rrpo.codec_identity`), name of a sound put in."""


def write_shard(
    path: Path, utterances: Sequence[Utterance], codec: str = "", insert: str = ""
) -> None:
    """Write utterances as one parquet file, in their order.

    Args:
        codec: identity of what the tokens are of (`rrpo.codec_identity`); empty: not known.
        insert: the sound that was put into every utterance; empty: none.
    """
    columns = {
        name: [getattr(utterance, name) for utterance in utterances]
        for name in SCHEMA.names
        if name != "tokens"
    }
    columns["tokens"] = [utterance.tokens.astype(np.int16) for utterance in utterances]
    told = {key: value for key, value in ((CODEC, codec), (INSERT, insert)) if value}
    schema = SCHEMA.with_metadata(told) if told else SCHEMA
    table = arrow.table({name: columns[name] for name in SCHEMA.names}, schema=schema)
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def read_shard(path: Path) -> list[Utterance]:
    """Read one parquet file, or every one of a folder in the order of their names.

    Raises:
        UserError: nothing is there, a file is damaged or has other columns, it holds no rows, or a
            token lies outside 0…6560.
    """
    files = shard_files(path)
    rows: list[Utterance] = []
    for file in files:
        require_file(file)
        try:
            # A folder called corpus=own would else be a column.
            table = parquet.read_table(file, schema=None, partitioning=None)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise unreadable(file, error) from None
        check_columns(table, file)
        try:
            found = table.to_pylist()
        except (arrow.ArrowException, ValueError) as error:  # text that is no UTF-8
            raise unreadable(file, error) from None
        check_sounds(found, file)
        check_partitions({row.get("partition") for row in found}, file)
        for column in SPLITS if not any(row.get("partition") for row in found) else ():
            require_no_split({row.get(column) for row in found}, column, file)
        rows += [read_row(row, file) for row in found]
    if not rows:
        raise UserError(f"{path} holds no utterances: tokenize at least one")
    _require_once(rows, path)
    require_one_partition(rows, path)
    return rows


def require_file(file: Path) -> None:
    """Refuse what git-LFS leaves in the place of a file."""
    if is_pointer(file):
        raise UserError(f"{file} is a git-LFS pointer and not the file: run `git lfs pull`")


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
        note(
            f"{data}: left out: {len(copies)} of {len(rows)} utterances with the tokens of "
            f"another, such as {names[copy]} with those of {names[other]}"
        )
    return [row for number, row in enumerate(rows) if number not in copies]


def for_training(data: Path) -> list[Utterance]:
    """Read token shards, or a mix pool, without what is held out for tests."""
    tell_unfinished(data)
    rows = _without_copies(read_shard(data), data)
    kept = [row for row in rows if row.partition != TEST]
    if not kept:
        raise UserError(f"{data}: every utterance is in the partition {TEST!r}: none to train on")
    if len(kept) < len(rows):
        note(f"{data}: {len(rows) - len(kept)} of {len(rows)} utterances are held out for tests")
    return kept


def for_tests(data: Path, partition: str | None = None) -> list[Utterance]:
    """Read token shards to test on.

    Args:
        data: the shards.
        partition: one of `PARTITIONS`, or "all"; None: what is held out for tests, or all where
            nothing is.
    """
    partition = partition and partition_name(partition)
    tell_unfinished(data)
    rows = read_shard(data)
    require_plain(rows, data)
    rows = _without_copies(rows, data)
    known = {row.partition for row in rows}
    if partition not in (None, ALL, *PARTITIONS):
        names = ", ".join((*PARTITIONS, ALL))
        raise UserError(f"there is no partition {partition!r}: choose one of {names}")
    if partition == ALL:
        return rows
    if partition is None and TEST not in known:
        note(f"{data}: no utterance is marked as held out for tests: all {len(rows)} are taken")
        return rows
    wanted = partition or TEST
    kept = [row for row in rows if row.partition == wanted]
    if not kept:
        raise UserError(
            f"{data}: no utterance is in the partition {wanted!r}: there are "
            f"{', '.join(map(repr, sorted(known)))}, or take --partition {ALL}"
        )
    if len(kept) < len(rows):
        note(f"{data}: {len(kept)} of {len(rows)} utterances, the partition {wanted!r}")
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


def require_text(row: Utterance, data: Path) -> None:
    """Refuse an utterance without a text, which a policy needs.

    Raises:
        UserError: it has none.
    """
    if not row.text.strip():
        raise UserError(
            f"{data}: utterance {row.id!r} has no text, which a policy needs: write it into "
            "the manifest's column `text` and tokenize it again, or leave the utterance out"
        )


def shard_files(path: Path) -> list[Path]:
    """Return one parquet file, or every one of a folder in the order of their names.

    Raises:
        UserError: there is none.
    """
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


def shard_insert(path: Path) -> str:
    """Return the sound that was put into every utterance of a parquet file or a folder of them.

    Returns:
        empty, where no file says it; of files that differ, all that they say.

    Raises:
        UserError: nothing is there, or a file is damaged.
    """
    sounds = dict.fromkeys(_told(file, INSERT) for file in shard_files(path))
    return ", ".join(sound or "nothing" for sound in sounds) if any(sounds) else ""


def is_readable(file: Path) -> bool:
    """Say whether a parquet file is there and whole."""
    try:
        parquet.read_schema(file)
    except (arrow.ArrowException, OSError, ValueError):
        return False
    return True


def _told(file: Path, key: bytes) -> str:
    try:
        metadata = parquet.read_schema(file).metadata or {}
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, error) from None
    found: bytes = metadata.get(key, b"")
    return found.decode("utf-8", "replace")


def shard_codec(path: Path) -> str:
    """Return the identity of the codec of one parquet file, or of every one of a folder.

    Returns:
        empty, where no file says it.

    Raises:
        UserError: nothing is there, a file is damaged, or two files are of different codecs.
    """
    found = {str(file): _told(file, CODEC) for file in shard_files(path)}
    if len(set(found.values())) > 1 and "" in found.values():
        silent = next(file for file, line in found.items() if not line)
        raise UserError(
            f"{silent} does not say which codec its tokens are of, other shards beside it do: "
            "keep them in folders of their own"
        )
    return require_one_codec(found) if any(found.values()) else ""
