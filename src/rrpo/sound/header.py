"""Whether a sound file is whole, by what its own header says; nothing is decoded.

Decoders make the best of a damaged file: half of an AIFF is half a sentence, and no error. So only
formats are read whose header tells how long the sound is, or whose parts can be counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from typing import Literal

Buffer = bytes | mmap
Order = Literal["little", "big"]

FORMATS = "wav, flac, ogg, opus, mp3, aiff, au, caf, w64, rf64 or NIST sphere"
ENDLESS = 0x7FFF0000
"""Bytes from which a length in 32 bits stands for "not known": streams are begun so."""
PLAIN = (1, 3, 6, 7, 0xFFFE)
"""Tags of WAV whose samples have a fixed size: PCM, float, A-law, µ-law, and by a longer header."""
PACKED = (2, 0x11, 0x31)
"""Tags of WAV that fill up a last block, so that only the chunk `fact` knows the length."""
FOREIGN = {
    (0, b"version https://git-lfs"): "a pointer of Git LFS and not the sound: run git lfs pull",
    (4, b"ftyp"): "MPEG-4",
    (0, b"\x1a\x45\xdf\xa3"): "Matroska or WebM",
    (0, b"\x30\x26\xb2\x75"): "Windows Media",
    (0, b"#!AMR"): "AMR",
    (0, b"PK\x03\x04"): "a zip archive",
    (0, b"\x1f\x8b"): "a gzip archive",
}


class DamageError(ValueError):
    """What is wrong with a sound, as the rest of a sentence that begins with the file's name."""


@dataclass
class Whole:
    """A sound file that is whole, ready to be decoded.

    Attributes:
        data: its bytes; a length that was not known when they were written is put in.
        frames: samples of a channel by the header, where that is exact; else None.
        notes: what is odd about it.
        md5: of a FLAC, of its samples, and bits of one sample; None where there is none.
    """

    data: Buffer
    frames: int | None = None
    notes: list[str] = field(default_factory=list)
    md5: tuple[bytes, int] | None = None


def number(data: Buffer, start: int, size: int, order: Order) -> int:
    """Return an unsigned number of `size` bytes.

    Raises:
        DamageError: the file ends before.
    """
    piece = data[start : start + size]
    if len(piece) < size:
        raise DamageError("is cut off within its header: copy it again")
    return int.from_bytes(piece, order)


def require(data: Buffer, end: int, slack: int = 0) -> None:
    """Check that a file reaches to `end`, but for fewer than `slack` bytes.

    Raises:
        DamageError: it does not.
    """
    if end - len(data) >= max(slack, 1):
        raise DamageError(f"is cut off: {end - len(data)} bytes are missing, copy it again")


def name_foreign(data: Buffer) -> DamageError:
    """Say what a file is that cannot be read."""
    for (place, sign), name in FOREIGN.items():
        if data[place : place + len(sign)] == sign:
            if ":" in name:
                return DamageError(f"is {name}")
            return DamageError(f"is {name}, which is not read here: turn it into wav or flac")
    head = bytes(data[:4096])
    if not head.strip(b"\0"):
        return DamageError("is no sound, it begins with zeros alone: copy it again")
    if head.lstrip()[:1] in (b"<", b"{") or (head.isascii() and _is_text(head)):
        return DamageError("holds text and no sound: download it again")
    return DamageError(f"is in no known format of sound: give {FORMATS}")


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)


def _chunks(data: Buffer, order: Order) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, beginning and size of the chunks of a RIFF or an AIFF."""
    start = 12
    while start + 8 <= len(data):
        size = number(data, start + 4, 4, order)
        yield bytes(data[start : start + 4]), start + 8, size
        start += 8 + size + size % 2


def check_wav(data: Buffer) -> Whole:
    """Check a WAV, RIFX or RF64; one that was streamed reaches to the end of the file."""
    order: Order = "big" if data[:4] == b"RIFX" else "little"
    long_size, frames, align, packed = None, None, 1, False
    notes: list[str] = []
    for chunk in _chunks(data, order):
        name, begin, size = chunk
        if name == b"ds64":
            long_size = number(data, begin + 8, 8, order)
        elif name == b"fmt ":
            align, packed, notes = _check_wav_format(data, begin, order)
        elif name == b"fact" and packed:
            frames = number(data, begin, 4, order)
        elif name == b"data":
            break
    else:
        raise DamageError("is cut off before its sound begins: copy it again")
    whole = Whole(data, frames, notes)
    if data[:4] == b"RF64" and size == 0xFFFFFFFF and long_size is not None:
        size = long_size
    riff = number(data, 4, 4, order)
    left = len(data) - begin
    unwritten = size == 0 and left > 0 and (riff + 8 <= begin or riff >= ENDLESS)
    if unwritten or (size >= ENDLESS and size > left and data[:4] != b"RF64"):
        whole.notes.append("its header does not say how long it is: it may be cut off")
        if unwritten:
            sized = left.to_bytes(4, order)
            whole.data = b"".join((data[: begin - 4], sized, data[begin:]))
        return whole
    # Some programs count the header, too.
    if size not in (len(data), len(data) - 8):
        require(data, begin + size, align)
        if begin + size > len(data):
            whole.notes.append("its last sample is not whole and left out")
    end = begin + size + size % 2
    if data[end : end + 4] in (b"RIFF", b"RIFX", b"RF64"):
        raise DamageError("holds a second file behind the first: cut them apart")
    return whole


def _check_wav_format(data: Buffer, begin: int, order: Order) -> tuple[int, bool, list[str]]:
    """Return bytes of a sample of all channels, whether blocks are packed, and what is odd."""
    tag, channels = number(data, begin, 2, order), number(data, begin + 2, 2, order)
    rate, speed = number(data, begin + 4, 4, order), number(data, begin + 8, 4, order)
    align, bits = number(data, begin + 12, 2, order), number(data, begin + 14, 2, order)
    if tag not in PLAIN:
        return 1, tag in PACKED, []  # a block is many samples: none may be missing
    if align != channels * ((bits + 7) // 8) or not align:
        raise DamageError(
            f"contradicts itself: its header says {channels} channels of {bits} bits, and {align} "
            "bytes for a sample of all; export it again"
        )
    odd = f"its header says {rate} Hz, and {speed} bytes a second where {rate * align} are right"
    return align, False, [odd] if speed != rate * align else []


def check_w64(data: Buffer) -> Whole:
    """Check a Sony Wave64: chunks of 16 bytes' name and 8 bytes' size, which counts both."""
    start = 40
    while start + 24 <= len(data):
        size = number(data, start + 16, 8, "little")
        if data[start : start + 4] == b"data":
            require(data, start + size)
            return Whole(data)
        start += max(24, size + -size % 8)
    raise DamageError("is cut off before its sound begins: copy it again")


def check_aiff(data: Buffer) -> Whole:
    """Check an AIFF or AIFC."""
    needed = 0
    for name, begin, size in _chunks(data, "big"):
        if name == b"COMM" and data[8:12] == b"AIFF":
            channels, frames = number(data, begin, 2, "big"), number(data, begin + 2, 4, "big")
            needed = frames * channels * ((number(data, begin + 6, 2, "big") + 7) // 8)
        elif name == b"SSND":
            require(data, begin + size)
            require(data, begin + 8 + needed)
            return Whole(data)
    raise DamageError("is cut off before its sound begins: copy it again")


def check_au(data: Buffer) -> Whole:
    """Check an AU of either byte order; a length of all ones, or none, is one not known."""
    order: Order = "big" if data[:4] == b".snd" else "little"
    begin, size = number(data, 4, 4, order), number(data, 8, 4, order)
    if size == 0xFFFFFFFF or (size == 0 and len(data) > begin):
        note = "its header does not say how long it is: it may be cut off"
        return Whole(b"".join((data[:8], b"\xff" * 4, data[12:])), notes=[note])
    require(data, begin + size)
    return Whole(data)


def check_caf(data: Buffer) -> Whole:
    """Check a Core Audio file; of a stream the last chunk is the sound, of unknown length."""
    start = 8
    while start + 12 <= len(data):
        size = number(data, start + 4, 8, "big")
        if data[start : start + 4] == b"data" and size == 2**64 - 1:
            return Whole(data, notes=["its header does not say how long it is: it may be cut off"])
        require(data, start + 12 + size)
        if data[start : start + 4] == b"data":
            return Whole(data)
        start += 12 + size
    raise DamageError("is cut off before its sound begins: copy it again")


def check_nist(data: Buffer) -> Whole:
    """Check a NIST SPHERE: lines of text, then the samples."""
    lines = bytes(data[:4096]).split(b"\n")
    said = {line.split()[0]: line.split()[-1] for line in lines if len(line.split()) == 3}
    try:
        begin = int(lines[1])
        count = int(said[b"sample_count"]) * int(said.get(b"channel_count", b"1"))
        size = count * int(said[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError):
        raise DamageError("does not say how long it is: turn it into wav or flac") from None
    require(data, begin + size)
    return Whole(data)


def check_flac(data: Buffer) -> Whole:
    """Read what a FLAC says of its length, and the checksum of its samples."""
    said = number(data, 18, 8, "big")
    bits, frames = (said >> 36 & 31) + 1, said & 0xFFFFFFFFF
    md5 = bytes(data[26:42])
    note = "its header does not say how long it is: it may be cut off"
    return Whole(
        data,
        frames or None,
        [] if frames else [note],
        (md5, bits) if md5.strip(b"\0") and bits in (16, 24) else None,
    )
