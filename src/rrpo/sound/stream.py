"""Whether an Ogg or an MP3 is whole: neither says so at once, so their parts are counted."""

import zlib
from dataclasses import dataclass

from rrpo.sound.header import Buffer, DamageError, Whole, number

REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Version of MPEG audio, as its two bits say, to samples per second."""
BITRATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Whether it is MPEG-1 to kilobits per second of layer III."""
LEADING = 4096
"""Bytes before the first frame of an MP3 in which one is looked for."""


def check_ogg(data: Buffer) -> Whole:
    """Check that an Ogg has every page, each as it was written, of one stream, to its last.

    Raises:
        DamageError: it has not.
    """
    start, follows, stream, last = 0, 0, None, False
    while start < len(data):
        if data[start : start + 4] != b"OggS":
            if last:
                break
            raise DamageError(f"is damaged at byte {start}: copy it again")
        count = number(data, start + 26, 1, "little")
        sizes = bytes(data[start + 27 : start + 27 + count])
        end = start + 27 + count + sum(sizes)
        if end > len(data) or len(sizes) < count:
            raise DamageError(f"is cut off within its page {follows}: copy it again")
        page = bytes(data[start:end])
        if _checksum(page[:22] + bytes(4) + page[26:]) != number(page, 22, 4, "little"):
            raise DamageError(
                f"is damaged, its page {follows} is not as it was written: copy it again"
            )
        own = number(page, 14, 4, "little")
        if last or stream not in (None, own):
            raise DamageError("holds more than one stream: take them apart")
        if number(page, 18, 4, "little") != follows:
            raise DamageError(f"is damaged, its page {follows} is missing: copy it again")
        stream, follows, last = own, follows + 1, bool(page[5] & 4)
        start = end
    if not last:
        raise DamageError(f"is cut off after its page {follows - 1}: copy it again")
    return Whole(data)


def _checksum(page: bytes) -> int:
    """Return Ogg's checksum: zlib's with bits the other way round, and begun with zeros."""
    value = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "big").translate(REVERSED), "little")


@dataclass(frozen=True)
class Frame:
    """One frame of an MP3: where it begins, its bytes, and the name of what must stay the same."""

    start: int
    size: int
    side: int
    same: tuple[int, int]


def tag_size(data: Buffer) -> int:
    """Return the bytes of an ID3 tag at the beginning, 0 where there is none."""
    if data[:3] != b"ID3":
        return 0
    size = 0
    for byte in bytes(data[6:10]):
        size = size << 7 | byte & 127
    return 10 + size


def is_mp3(data: Buffer) -> bool:
    """Say whether two frames follow one another, or one ends the file, near its beginning."""
    return _first(data, tag_size(data)) is not None


def _frame(data: Buffer, start: int) -> Frame | None:
    """Read the header of a frame of layer III; None where there is none."""
    head = bytes(data[start : start + 4])
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or (head[1] >> 3 & 3) == 1:
        return None
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if bits in (0, 15) or rate == 3:
        return None
    one = version == 3
    speed = BITRATES[one][bits] * 1000
    size = (144 if one else 72) * speed // RATES[version][rate] + (head[2] >> 1 & 1)
    side = (17 if mono else 32) if one else (9 if mono else 17)
    return Frame(start, size, side, (version, rate))


def _first(data: Buffer, start: int) -> Frame | None:
    for place in range(start, min(start + LEADING, len(data) - 3)):
        if data[place] != 0xFF:
            continue
        frame = _frame(data, place)
        if frame is None:
            continue
        after = frame.start + frame.size
        follower = _frame(data, after)
        # One frame alone may be a chance: four bytes among many.
        if (follower and follower.same == frame.same) or (place == start and after >= len(data)):
            return frame
    return None


def check_mp3(data: Buffer) -> Whole:
    """Count the frames of an MP3, and compare with the count in its first one, if there is one.

    Without that count decoders guess the length by the first frame's bit rate, and stop there: such
    a frame is put in front.

    Raises:
        DamageError: a frame is missing, cut off or damaged.
    """
    frame = _first(data, tag_size(data))
    assert frame is not None  # see `is_mp3`
    first = frame
    frames: list[Frame] = []
    told: list[int] = []
    while frame is not None:
        if frame.same != first.same:
            raise DamageError("changes its sample rate on the way: turn it into wav or flac")
        if frame.start + frame.size > len(data):
            raise DamageError(f"is cut off within its frame {len(frames)}: copy it again")
        name = frame.start + 4 + frame.side
        if data[name : name + 4] in (b"Xing", b"Info"):
            told.append(name)
        elif data[frame.start + 36 : frame.start + 40] != b"VBRI":  # another kind of count
            frames.append(frame)
        end = frame.start + frame.size
        frame = _frame(data, end)
    _check_tail(data, end, len(frames))
    if not frames:
        raise DamageError("holds no samples: remove it or record it again")
    counts = [number(data, name + 8, 4, "big") for name in told if data[name + 7] & 1]
    size = end - first.start
    spoken = number(data, told[0] + 12, 4, "big") if counts and data[told[0] + 7] & 2 else size
    if counts == [len(frames)] and abs(spoken - size) <= size // 100:
        return Whole(data)
    # Some encoders count the frame that counts, too, but its bytes in any case.
    lacking = counts[0] - len(frames) if len(counts) == 1 else 0
    if lacking > 1 or (lacking and spoken > size):
        raise DamageError(
            f"is cut off: {max(lacking, 1)} of {counts[0]} frames are missing, copy it again"
        )
    wrong = lacking < 0 or len(counts) > 1
    notes = [f"its header counts {counts[0]} frames, and there are {len(frames)}"] if wrong else []
    return Whole(_counted(data, frames), notes=notes)


def _check_tail(data: Buffer, end: int, frames: int) -> None:
    """Check that behind the last frame there are only tags, or zeros."""
    tail = bytes(data[end : end + 8])
    known = (b"TAG", b"APETAGEX", b"LYRICS", b"ID3")
    if end < len(data) and not tail.startswith(known) and bytes(data[end:]).strip(b"\0"):
        raise DamageError(f"is damaged or cut off after its frame {frames - 1}: copy it again")


def _counted(data: Buffer, frames: list[Frame]) -> bytes:
    """Return the frames behind one that counts them."""
    first = frames[0]
    head = bytearray(data[first.start : first.start + 4])
    head[1] |= 1  # no checksum follows
    sound = b"".join(data[one.start : one.start + one.size] for one in frames)
    body = bytearray(first.size)
    body[:4] = head
    place = 4 + first.side
    body[place : place + 8] = b"Xing" + (1).to_bytes(4, "big")
    body[place + 8 : place + 12] = len(frames).to_bytes(4, "big")
    return bytes(body) + sound
