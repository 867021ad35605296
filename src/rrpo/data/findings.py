"""What an import leaves out of what it was given, and what else is to be said of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrpo.data.encodings import read_text
from rrpo.data.files import is_file, is_pointer, require_nameable
from rrpo.data.text_table import lines, notes_of

SHOWN = 4
"""Names of files, or of speakers, that a message shows."""
COPY = "copy them again"
PULL = "run `git lfs pull` in their folder"


@dataclass(frozen=True)
class LeftOut:
    """A recording that is left out: its file, or its name where there is none, and why."""

    name: str
    why: str


@dataclass
class Findings:
    """What was found besides the recordings that can be used.

    Attributes:
        missing: recordings that are named and not there.
        empty: files of 0 bytes.
        pointers: what git-LFS left in the place of sounds.
        left_out: all of these, and what is left out for another reason, one by one.
        notes: lines to be said as they are.
        unclassed: labels that say that there is no class, with how many were left out for them.
        cure: what to do about those that are missing.
    """

    missing: list[str] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    pointers: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unclassed: Counter[str] = field(default_factory=Counter)
    cure: str = COPY

    def usable(self, path: Path, name: str = "") -> bool:
        """Say whether a recording can be used; note what cannot.

        Args:
            name: what a message calls it, such as the row that names it; default: its path.

        Raises:
            UserError: its name cannot be written into a table.
        """
        if not is_file(path):
            self.lack(name or str(path), path)
        elif path.stat().st_size == 0:
            self.empty.append(path)
            self.leave(path, f"it has 0 bytes: {COPY}")
        elif is_pointer(path):
            self.pointers.append(path)
            self.leave(path, f"it is a git-LFS pointer and no sound: {PULL}")
        else:
            require_nameable(path.absolute())
            return True
        return False

    def lack(self, name: str, path: Path | None = None) -> None:
        """Note a recording that is named and not there; `path` is where it should be."""
        self.missing.append(name)
        self.leave(path or name, f"it is not there ({name}): {self.cure}")

    def leave(self, path: Path | str, why: str) -> None:
        """Note that a recording is left out."""
        self.left_out.append(LeftOut(str(path), why))

    def leave_unclassed(self, path: Path | str, label: str) -> None:
        """Note that a recording is left out as its label says that it is in no class."""
        self.leave(path, f"it is labelled {label} (no class)")
        self.unclassed[label] += 1

    def add(self, other: "Findings") -> None:
        """Take in what was found elsewhere."""
        self.missing += other.missing
        self.empty += other.empty
        self.pointers += other.pointers
        self.left_out += other.left_out
        self.notes += other.notes
        self.unclassed += other.unclassed

    def refusal(self) -> str:
        """Return what is wrong where nothing can be used."""
        if self.missing:
            return f"no such audio file: {first(self.missing)}: {self.cure}"
        return self.lines()[0]

    def lines(self) -> list[str]:
        """Return a line for each kind of what was left out, and the notes."""
        said = []
        for names, what, cure in (
            (self.missing, "not there", self.cure),
            ([one.name for one in self.empty], "of 0 bytes", COPY),
            (
                [one.name for one in self.pointers],
                "that are git-LFS pointers and no sounds",
                PULL,
            ),
        ):
            if names:
                said.append(f"left out: {len(names)} {what} ({first(names)}): {cure}")
        for label, count in self.unclassed.items():
            said.append(f"left out: {count} labelled {label} (no class)")
        return [*said, *dict.fromkeys(self.notes)]


def first(names: Sequence[str] | Iterable[str]) -> str:
    """Name the first of some, and count the others.

    Examples:
        >>> first("abcdef"), first("ab")
        ('a, b, c, d and 2 more', 'a, b')
    """
    names = list(names)
    others = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + others


def read_lines(file: Path, found: Findings, likely: str = "") -> list[str]:
    """Return the lines of a text of a corpus, none where there is no such file.

    Args:
        likely: what such files are written in where they are not Unicode.
    """
    if not is_file(file):
        return []
    text = read_text(file, likely=likely)
    found.notes += notes_of(file, text)
    return lines(text.content)
