"""What is drawn of pairs so far, kept in their folder: a drawing that was ended goes on from there.

Each process adds a line of JSON to a file of its own whenever some prompts are done: the pairs that
they gave, and the state of its random generator after them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrpo.files import write_text, writing
from rrpo.notes import note
from rrpo.processes import process

PARTS = "drawn-*.jsonl"


class DrawnPair(NamedTuple):
    """What was said to a prompt, by its place among those asked: the better and the worse (T,)."""

    place: int
    chosen: Tensor
    rejected: Tensor


class Drawing:
    """The pairs that this process has drawn.

    Attributes:
        pairs: of the prompts that are done, in their order.
        done: how many prompts are done.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], generator: torch.Generator) -> None:
        """Go on from what is kept in a folder, if it is of the same plan, and set the generator.

        Args:
            plan: what decides the draws, as JSON can hold it.
            generator: of the draws.

        Raises:
            UserError: the folder cannot be written.
        """
        self.folder, self.generator = folder, generator
        self.path = folder / PARTS.replace("*", str(process()))
        self.pairs: list[DrawnPair] = []
        self.done = 0
        first = _line(plan)
        lines = _whole_lines(self.path)
        kept = lines if lines[:1] == [first] else [first]
        for line in kept[1:]:
            self._restore(json.loads(line))
        if self.done:
            note(f"{self.done} prompts were drawn for before: going on after them")
        write_text(self.path, "".join(kept))

    def _restore(self, part: Mapping[str, Any]) -> None:
        self.done = part["done"]
        for place, *said in part["pairs"]:
            self.pairs.append(DrawnPair(place, *(torch.tensor(one) for one in said)))
        self.generator.set_state(torch.tensor(list(bytes.fromhex(part["generator"]))).byte())

    def add(self, done: int, pairs: Sequence[DrawnPair]) -> None:
        """Keep the pairs of the prompts up to `done`.

        Raises:
            UserError: the folder cannot be written.
        """
        state = bytes(self.generator.get_state().tolist()).hex()
        rows = [(one.place, one.chosen.tolist(), one.rejected.tolist()) for one in pairs]
        part = {"done": done, "generator": state, "pairs": rows}
        with writing(self.folder), self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(part))
        self.pairs += pairs
        self.done = done


def forget(folder: Path) -> None:
    """Remove what every process has kept in a folder."""
    with writing(folder):
        for path in folder.glob(PARTS):
            path.unlink()


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True) + "\n"


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file without the last one where a kill has cut it."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("}\n")]
