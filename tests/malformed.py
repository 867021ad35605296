"""Malformed files: bytes of a good file changed at random, and what a reader says of them."""

import random
import warnings
from collections.abc import Callable
from typing import TypeVar

from rrpo.errors import UserError

Result = TypeVar("Result")


def cut(rng: random.Random, data: bytes) -> bytes:
    """Leave out the end."""
    return data[: rng.choice([rng.randrange(64), rng.randrange(len(data)), len(data) - 1])]


def flip(rng: random.Random, data: bytes) -> bytes:
    """Flip up to eight bits, mostly near the ends, where the structure is."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        near = rng.choice([min(600, len(data)), min(3000, len(data)), len(data)])
        place = rng.randrange(near)
        changed[place if rng.random() < 0.5 else len(data) - 1 - place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(rng: random.Random, data: bytes) -> bytes:
    """Write random bytes, after the first ones of a real file or of a pickle."""
    head = rng.choice([b"", data[:8], data[: rng.randrange(300)], b"\x80\x02", b"PK\x03\x04", b"{"])
    return head + rng.randbytes(rng.randrange(400))


def splice(rng: random.Random, data: bytes) -> bytes:
    """Leave out, repeat or move a piece."""
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    second = min(second, first + rng.choice([1, 50, 5000]))
    return data[:first] + data[first:second] * rng.choice([0, 2]) + data[second:]


MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "cut": cut,
    "flip": flip,
    "noise": noise,
    "splice": splice,
}


def taken(read: Callable[[], Result]) -> Result | None:
    """Return what is read, or None where it is refused in one line, which a console can show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except UserError as error:
            said = str(error)
            assert said.strip()
            assert len(said) < 900, said[:2000]
            assert "\x1b" not in said
            return None
