"""Weights out of a CTranslate2 model file, the form in which Whisper ships in packages."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrpo.errors import UserError

VERSION = 6
"""Of the file format; its layout has been the same since version 4."""
TYPES: tuple[type[Any], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)


def read_weights(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `model.bin` by name, as they are stored.

    The file holds a version, the name of the architecture and its revision, and then for each array
    its name, its shape, its type, its size and its numbers, all little-endian.

    Args:
        data: the file.
        name: where it comes from, for messages.

    Raises:
        UserError: it is no such file, of another version, or cut off.
    """
    at = 0

    def number(kind: str) -> int:
        nonlocal at
        value: int = struct.unpack_from(f"<{kind}", data, at)[0]
        at += struct.calcsize(f"<{kind}")
        return value

    def text() -> str:
        nonlocal at
        size = number("H")
        value = data[at : at + size].rstrip(b"\0").decode("utf-8")
        at += size
        return value

    try:
        version = number("I")
        if not 4 <= version <= VERSION:
            raise UserError(f"{name} is no CTranslate2 model of version 4 to {VERSION}")
        text()  # the architecture
        number("I")  # its revision
        arrays = {}
        for _ in range(number("I")):
            key = text()
            shape = [number("I") for _ in range(number("B"))]
            kind = TYPES[number("B")]
            size = number("I")
            count = size // np.dtype(kind).itemsize
            arrays[key] = np.frombuffer(data, kind, count, at).reshape(shape)
            at += size
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise UserError(f"{name} is cut off or damaged ({error}): install it again") from None
    return arrays
