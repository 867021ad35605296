"""Rows of token shards without end, in a random order, never all of them in memory.

Each epoch the row groups of all files are put in a new order. As many of them as fill the buffer
are read at a time, their rows shuffled together and given out; then the next. That order is a
function of the seed and the epoch alone, so a place in it is one number, and to go on from a place
takes one buffer. Processes that train together deal the same order out among them, row by row:
each row of an epoch is seen by one of them, once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as arrow
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.data.scan import Scan, keeps, read_group, utterances
from rrpo.data.utterance import Utterance
from rrpo.errors import UserError
from rrpo.processes import process, processes

POSITION = "stream"
"""Key of the rows given out so far, by all processes, among what a checkpoint carries."""
AHEAD = 512
"""Rows that a process takes from a buffer at once; by batches of 16 it costs twice the time."""
Row = TypeVar("Row")
Other = TypeVar("Other")


@dataclass(frozen=True)
class _Epoch:
    """The order of an epoch.

    Attributes:
        groups: (G,) the row groups in their order.
        bounds: (W + 1,) where the buffers begin among them.
        starts: (W + 1,) the rows before each buffer.
    """

    groups: NDArray[np.int64]
    bounds: NDArray[np.int64]
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class _Buffer:
    """Rows of some row groups: a table of them, and the order in which they are given out."""

    table: arrow.Table
    order: NDArray[np.int64]


class Shards:
    """Rows of token shards by their place in an order without end.

    Attributes:
        scan: what is known of the shards.
        carried: holds the position, as a checkpoint does (`rrpo.objective.Objective`).
        rows: of an epoch.
    """

    def __init__(self, scan: Scan, buffer: int, seed: int) -> None:
        """Begin at the first row.

        Args:
            buffer: rows to be shuffled together; whole row groups are read, so they may be more,
                and two buffers are in memory.
            seed: of the order.
        """
        self.scan, self.buffer, self.seed = scan, buffer, seed
        self.kept = np.array(scan.kept, dtype=np.int64)
        self.rows = int(self.kept.sum())
        self.carried: dict[str, Tensor] = {}
        self._ready: dict[int, Utterance] = {}
        self._epochs: dict[int, _Epoch] = {}
        self._buffers: dict[tuple[int, int], _Buffer] = {}

    def take(self, count: int) -> list[int]:
        """Give out the next rows of this process; return their places.

        Every process is to take as many, as it does where each takes the same steps.
        """
        rank, others = process(), processes()
        first = int(self.carried.get(POSITION, torch.tensor(0)))
        self.carried[POSITION] = torch.tensor(first + count * others)
        ahead = max(count, min(AHEAD, self.buffer // others))
        places = [first + rank + number * others for number in range(ahead)]
        taken = places[:count]
        if not self._ready.keys() >= set(taken):
            self._ready = dict(zip(places, self._read(places), strict=True))
        return taken

    def __getitem__(self, place: int) -> Utterance:
        """Return the row at a place; those taken last are in memory."""
        ready = self._ready.get(place)
        return self._read([place])[0] if ready is None else ready

    def _read(self, places: Sequence[int]) -> list[Utterance]:
        """Read rows by their places; those of one buffer that follow each other at once."""
        where = [self._within(place) for place in places]
        found: list[Utterance] = []
        for buffer, members in groupby(where, key=lambda one: one[:2]):
            held = self._buffer(*buffer)
            rows = held.order[[row for _, _, row in members]]
            found += utterances(held.table, rows, self.scan.path)
        return found

    def _within(self, place: int) -> tuple[int, int, int]:
        """Return the epoch of a place, the buffer in it, and the row in that."""
        number, row = divmod(place, self.rows)
        starts = self._epoch(number).starts
        buffer = int(np.searchsorted(starts, row, side="right")) - 1
        return number, buffer, row - int(starts[buffer])

    def _epoch(self, number: int) -> _Epoch:
        """Return the order of an epoch; two are kept, as a batch may lie in two."""
        if number not in self._epochs:
            rng = np.random.default_rng([self.seed, number])
            # A group without a row to train on is not read.
            groups = rng.permutation(np.flatnonzero(self.kept))
            before = np.concatenate([[0], np.cumsum(self.kept[groups])])
            bounds = [0]
            while before[bounds[-1]] < self.rows:
                full = np.searchsorted(before, before[bounds[-1]] + self.buffer)
                bounds.append(min(int(full), groups.size))
            made = _Epoch(groups, np.array(bounds), before[bounds])
            self._epochs = {**dict([*self._epochs.items()][-1:]), number: made}
        return self._epochs[number]

    def _buffer(self, epoch: int, number: int) -> _Buffer:
        """Read a buffer; two are kept, as a batch may lie in two."""
        if (epoch, number) not in self._buffers:
            self._buffers = dict([*self._buffers.items()][-1:])  # before there is a third
            plan = self._epoch(epoch)
            chosen = plan.groups[plan.bounds[number] : plan.bounds[number + 1]]
            tables = [self._group(int(group)) for group in chosen]
            table = arrow.concat_tables(tables).combine_chunks()
            rng = np.random.default_rng([self.seed, epoch, number])
            self._buffers[epoch, number] = _Buffer(table, rng.permutation(table.num_rows))
        return self._buffers[epoch, number]

    def _group(self, group: int) -> arrow.Table:
        """Read the rows of a row group that are trained on."""
        file, number = self.scan.groups[group]
        table = read_group(file, number)
        table = table.filter(arrow.array(keeps(table, self.scan.choice)[0]))
        if table.num_rows != self.kept[group]:
            raise UserError(
                f"{file} is not what it was when the run began: put it back, or begin another run"
            )
        return table


class Streamed(Sequence[Row], Generic[Row]):
    """Rows of shards as what an objective trains on, such as prompts.

    What `take` gives out are indices for `[]`, as `rrpo.policy.layout.choose` returns them for rows
    in memory. Several of the same shards, such as prompts and their recordings, share the place.
    """

    def __init__(self, shards: Shards, make: Callable[[Utterance], Row]) -> None:
        """Make each row by `make` when it is asked for."""
        self.shards, self.make = shards, make

    def __len__(self) -> int:
        """Return the rows of an epoch."""
        return self.shards.rows

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Return the row at a place in the order without end; of a slice those of one epoch."""
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        return self.make(self.shards[index])

    def __iter__(self) -> Iterator[Row]:
        """Return the rows of the first epoch, one after the other."""
        return (self[place] for place in range(len(self)))

    def take(self, count: int) -> list[int]:
        """Give out the next rows; see `Shards.take`."""
        return self.shards.take(count)

    def map(self, make: Callable[[Row], Other]) -> "Streamed[Other]":
        """Return something else of the same rows."""
        return Streamed(self.shards, lambda row: make(self.make(row)))

    def first(self) -> list[Row]:
        """Return rows among which every emotion and every speaker is."""
        return [self.make(row) for row in self.shards.scan.first]

    def held_out(self) -> list[Row]:
        """Return the rows that are kept out of the training."""
        return [self.make(row) for row in self.shards.scan.held_out]


def carried_by(rows: Sequence[Any]) -> dict[str, Tensor]:
    """Return what a checkpoint is to carry for the rows an objective draws from: a stream's place.

    Returns:
        the dictionary that the stream itself uses; an empty one for rows in memory.
    """
    return rows.shards.carried if isinstance(rows, Streamed) else {}
