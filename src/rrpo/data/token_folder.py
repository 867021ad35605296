"""The folder that `rrpo tokenize` writes: its plan, and which of its shards are there."""

from contextlib import suppress
from itertools import count
from pathlib import Path

from rrpo.data.findings import first
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.notes import note

KINDS = ("tokens", "mixes", "inserted")
"""Folders of what is made."""
PLAN = "tokenize.json"
"""What the folder is made from; with the number of recordings, and of those of a shard."""


def require_own(out: Path) -> None:
    """Refuse shards that `rrpo tokenize` has not made, such as those of an import.

    They would be mixed with what it makes. One shard may be there of which nothing is noted: the
    next, where a call was cut off.

    Raises:
        UserError: there are some.
    """
    noted = {file.stem for file in (out / "shards").glob("*.json")}
    if (out / PLAN).is_file():
        noted.add(next(name for name in map("{:05d}".format, count()) if name not in noted))
    for kind in KINDS:
        files = sorted((out / kind).glob("*.parquet"))
        if strange := [file.name for file in files if file.stem not in noted]:
            raise UserError(
                f"{out / kind} holds shards that `rrpo tokenize` has not made there "
                f"({first(strange)}): choose another --out, or remove {out / kind}"
            )


def one_insert(plan: Path, asked: str | None) -> str | None:
    """Return the sound to be inserted: what is asked for, or else that of the call before.

    Raises:
        UserError: they differ.
    """
    known: str | None = read_json(plan).get("insert")
    if None not in (known, asked) and known != asked:
        raise UserError(
            f"{plan.parent} holds tokens with {known} inserted: choose another --out or remove it"
        )
    return asked or known


def tell_unfinished(data: Path) -> None:
    """Say of a folder of shards how many recordings are in them, where some are still to come."""
    folder = data.absolute()
    if not data.is_dir() or folder.name not in KINDS or not (folder.parent / PLAN).is_file():
        return
    with suppress(UserError, AttributeError, KeyError, TypeError, ValueError):
        # Of folders that say less, or are damaged, nothing is told.
        plan = read_json(folder.parent / PLAN)
        total, size = int(plan["count"]), int(plan["size"])
        made = 0
        for file in (folder.parent / "shards").glob("*.json"):
            shard = read_json(file)
            if folder.name != "inserted" or shard["inserted"] or not shard["tokens"]:
                made += max(0, min(size, total - int(file.stem) * size))
        if made < total:
            note(
                f"{data}: {made} of {total} recordings are tokenized: call `rrpo tokenize` again "
                "to finish"
            )
