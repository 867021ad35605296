"""Where a corpus lies: the folder that is named, or those below that hold it."""

from collections.abc import Iterator
from pathlib import Path

from rrpo.data.catalogue import Corpus, known_corpora
from rrpo.data.files import is_sound, visible
from rrpo.data.findings import SHOWN
from rrpo.errors import UserError

DEPTH = 4
"""Levels of folders that are searched for a corpus, the named one included."""


def find_roots(path: Path, name: str) -> list[Path]:
    """Return the folders that hold a corpus: `path`, or those of the first level below that do.

    Raises:
        UserError: there is none; the message says what was expected, what is there, and which
            other corpus that looks like.
    """
    corpus = known_corpora()[name]
    if not path.exists():
        raise UserError(f"nothing at {path}: name the folder of {corpus.title}")
    if not path.is_dir():
        raise UserError(f"{path} is a file: name the folder of {corpus.title}, or import it as csv")
    level = [path]
    for _ in range(DEPTH):
        if roots := [folder for folder in level if _holds(folder, corpus)]:
            return list({folder.resolve(): folder for folder in reversed(roots)}.values())[::-1]
        level = [inner for folder in level for inner in visible(folder) if inner.is_dir()]
    there = [entry.name for entry in visible(path)]
    found = ", ".join(there[:SHOWN]) + (" …" if len(there) > SHOWN else "")
    near = [path, *(inner for inner in visible(path) if inner.is_dir())]
    others = [
        other
        for other, known in known_corpora().items()
        if other != name and any(_holds(folder, known) for folder in near)
    ]
    hint = f": that looks like {others[0]}" if others else ""
    raise UserError(
        f"{path} is not {corpus.title}: expected {corpus.layout}; found {found or 'nothing'}{hint}"
    )


def _holds(folder: Path, corpus: Corpus) -> bool:
    return any(next(_signed(folder, sign), None) is not None for sign in corpus.signs)


def _signed(folder: Path, sign: str) -> Iterator[Path]:
    """Yield what a sign finds; one that ends in .wav finds every sound of that name."""
    if not sign.endswith(".wav"):
        return folder.glob(sign)
    return filter(is_sound, folder.glob(sign.removesuffix(".wav") + ".*"))
