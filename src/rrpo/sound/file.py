"""The one reader of sound files: every command that takes a recording reads it here.

What cannot be read as it was recorded is refused in one line, and what is odd is noted, so that no
half sentence, hum or offset passes for speech.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from rrpo.audio import LOUDEST, LOWEST_RATE, QUIETEST, SAMPLE_RATE, Audio, is_silent
from rrpo.errors import UserError
from rrpo.sound.channels import to_mono
from rrpo.sound.header import (
    Buffer,
    DamageError,
    Whole,
    check_aiff,
    check_au,
    check_caf,
    check_flac,
    check_nist,
    check_w64,
    check_wav,
    name_foreign,
)
from rrpo.sound.stream import check_mp3, check_ogg, is_mp3, tag_size

HIGHEST_RATE = 768_000
"""Samples per second, those of the fastest converters; beyond them a header is damaged."""
LONGEST_VOICE, SHORTEST_VOICE = 30, 0.5
"""Seconds of a recording whose voice is taken over: what CosyVoice takes, and a few syllables."""
BLOCK = 1 << 16
"""Samples decoded at once: a damaged header may say that there are billions."""
HOT = 1.5
"""Peak that is odd; lossy formats go a little beyond full scale."""
FULL = 0.999
"""Magnitude from which a sample is at the end of the scale."""
FAINT = 0.01
"""Peak under which a recording is odd, 40 dB under full scale."""
CLIPPED = 0.005
"""Share of samples at the end of the scale from which a recording is clipped."""
KINDS: tuple[tuple[tuple[bytes, ...], Callable[[Buffer], Whole]], ...] = (
    ((b"RIFF", b"RIFX", b"RF64"), check_wav),
    ((b"riff\x2e\x91\xcf\x11",), check_w64),
    ((b"FORM",), check_aiff),
    ((b".snd", b"dns."), check_au),
    ((b"caff",), check_caf),
    ((b"NIST_1A",), check_nist),
    ((b"fLaC",), check_flac),
    ((b"OggS",), check_ogg),
)


class SilentError(UserError):
    """A recording in which nothing is heard."""


@dataclass(frozen=True)
class Sound:
    """A recording as it is used.

    Attributes:
        samples: amplitudes (N,) float32 of one channel, N at least 1, without a constant offset.
        rate: samples per second of the file, before it was resampled.
        notes: what is odd about the file, each a clause; none of most.
        digest: SHA-256 of the file.
        silent: whether nothing is heard; resampling would make ripples of a constant's ends.
    """

    samples: Audio
    rate: int
    notes: tuple[str, ...]
    digest: str
    silent: bool


def load(path: Path, sample_rate: int | None = SAMPLE_RATE, voice: int | None = None) -> Sound:
    """Read a recording whole, as one channel.

    Args:
        path: a file in one of `rrpo.sound.header.FORMATS`, whatever its name ends in.
        sample_rate: samples per second wanted; None: those of the file.
        voice: number of the channel that the voice is in; None: see `rrpo.sound.channels.to_mono`.

    Raises:
        UserError: it is missing, in no format of sound, cut off, damaged or empty, its rate lies
            under 8000 Hz, a sample is not finite or far beyond full scale, or its channels hold
            different sounds; the message names the file and the way out.
    """
    data = _bytes(path)
    try:
        whole = check(data)
        channels, rate = _decode(whole)
        mono, notes = to_mono(channels, rate, voice)
    except DamageError as error:
        raise UserError(f"{path} {error}") from None
    notes = [*whole.notes, *notes, *_oddities(channels)]
    silent = is_silent(mono)
    if sample_rate is not None and rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
        if mono.size == 0:
            raise UserError(f"{path} is shorter than a sample at {sample_rate} Hz: remove it")
    samples = np.asarray(mono, dtype=np.float32)
    return Sound(samples, rate, tuple(notes), hashlib.sha256(data).hexdigest(), silent)


def load_speech(
    path: Path, sample_rate: int | None = SAMPLE_RATE, voice: int | None = None
) -> Sound:
    """Read a recording in which something is heard; see `load`.

    Raises:
        UserError: see `load`.
        SilentError: nothing is heard in it: silence has tokens, too, but no emotion and no voice.
    """
    sound = load(path, sample_rate, voice)
    if sound.silent:
        raise SilentError(
            f"{path} is silent: but for a constant its peak is under {QUIETEST:g}, record it "
            "again or leave it out"
        )
    return sound


def load_voice(path: Path) -> Sound:
    """Read a recording whose voice is taken over, at the rate it has.

    Raises:
        UserError: see `load_speech`; or it is over 30 s or under 0.5 s long, or under 16 kHz, as
            CosyVoice's package takes none.
    """
    sound = load_speech(path, sample_rate=None)
    seconds = sound.samples.size / sound.rate
    if seconds > LONGEST_VOICE:
        raise UserError(
            f"{path} is {seconds:.1f} s long: a --voice has {LONGEST_VOICE} s at most, cut it"
        )
    if seconds < SHORTEST_VOICE:
        raise UserError(
            f"{path} is {seconds:.2f} s long: a --voice has {SHORTEST_VOICE} s at least, and 3 to "
            "10 s serve best, record it again"
        )
    if sound.rate < SAMPLE_RATE:
        raise UserError(
            f"{path} has a sample rate of {sound.rate} Hz: a --voice needs {SAMPLE_RATE} Hz at "
            "least, record it again"
        )
    return sound


def read(path: Path, sample_rate: int = SAMPLE_RATE) -> Audio:
    """Read a recording, silent or not, as (N,) float32 at `sample_rate`; see `load`."""
    return load(path, sample_rate).samples


def inspect(path: Path) -> tuple[int, list[str]]:
    """Check that a recording is whole by its header alone.

    Returns:
        its samples per second, and what is odd about its header.

    Raises:
        UserError: it is missing, in no format of sound, cut off or empty.
    """
    try:
        with path.open("rb") as stream:
            if not path.stat().st_size:
                raise DamageError("holds no samples: it has 0 bytes, copy it again")
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
                notes = check(data).notes
        return _rate(int(soundfile.info(path).samplerate)), notes
    except DamageError as error:
        raise UserError(f"{path} {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check its name") from None
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        raise UserError(f"{path} is damaged: copy it again") from None


def check(data: Buffer) -> Whole:
    """Check that a sound file is whole, in whatever format it is.

    Raises:
        DamageError: it is not, or it is in none that is read.
    """
    if not len(data):
        raise DamageError("holds no samples: it has 0 bytes, copy it again")
    if data[:3] == b"ID3" and data[tag_size(data) :][:4] == b"fLaC":
        data = data[tag_size(data) :]
    for signs, checked in KINDS:
        if data[:16].startswith(signs):
            if data[:4] in (b"FORM", b"RIFF") and data[8:12] not in (b"WAVE", b"AIFF", b"AIFC"):
                break
            return checked(data)
    if is_mp3(data):
        return check_mp3(data)
    raise name_foreign(data)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"no such audio file: {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check who may read it") from None


def _rate(rate: int) -> int:
    """Check samples per second."""
    if rate < LOWEST_RATE:
        raise DamageError(
            f"has a sample rate of {rate} Hz: speech needs {LOWEST_RATE} Hz at least, record it "
            f"again at {SAMPLE_RATE} Hz or more"
        )
    if rate > HIGHEST_RATE:
        raise DamageError(f"has a sample rate of {rate} Hz, beyond any converter: export it again")
    return rate


def _decode(whole: Whole) -> tuple[NDArray[np.float32], int]:
    """Decode a file that is whole: amplitudes (N, C) float32 and samples per second.

    Raises:
        DamageError: it is not what its header says, or not sound.
    """
    blocks = []
    try:
        with soundfile.SoundFile(io.BytesIO(whole.data)) as file:
            rate, frames = _rate(file.samplerate), file.frames
            while True:
                block = file.read(BLOCK, dtype="float32", always_2d=True)
                blocks.append(block)
                if len(block) < BLOCK:
                    break
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DamageError):
            raise
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise DamageError(f"is damaged and cannot be decoded ({reason}): copy it again") from None
    channels = np.concatenate(blocks)
    said = frames if whole.frames is None else whole.frames
    if len(channels) < said:
        raise DamageError(
            f"is cut off or damaged: {len(channels)} of {said} samples can be decoded, copy it "
            "again"
        )
    if not len(channels) or not said:
        raise DamageError("holds no samples: remove it or record it again")
    channels = channels[:said]
    if not np.isfinite(channels).all():
        raise DamageError("holds NaN or infinite samples: export it again")
    peak = float(np.abs(channels).max())
    if peak > LOUDEST:
        raise DamageError(
            f"has a peak of {peak:.5g} where 1 is full scale: divide its samples, as by 32768, "
            "and export it again"
        )
    _check_samples(channels, whole)
    return channels, rate


def _check_samples(channels: NDArray[np.float32], whole: Whole) -> None:
    """Compare the samples (N, C) of a FLAC with the checksum that was made of them."""
    if whole.md5 is None:
        return
    expected, bits = whole.md5
    numbers = np.rint(channels.astype(np.float64) * 2.0 ** (bits - 1)).astype("<i4")
    packed = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 4)[:, : bits // 8]
    if hashlib.md5(packed.tobytes(), usedforsecurity=False).digest() != expected:
        raise DamageError("is damaged, its samples are not those that were encoded: copy it again")


def _oddities(channels: NDArray[np.float32]) -> list[str]:
    """Say what is odd about samples (N, C)."""
    size = np.abs(channels)
    peak, at_end = float(size.max()), float(np.mean(size >= FULL * max(1.0, float(size.max()))))
    notes = []
    if 0 < peak < FAINT:
        notes.append(
            f"its peak is {-20 * np.log10(peak):.0f} dB under full scale: its samples may be of "
            "another size than its header says"
        )
    if peak > HOT:
        notes.append(f"its peak is {peak:.3g} where 1 is full scale")
    if at_end > CLIPPED:
        notes.append(f"{at_end:.1%} of its samples are at the end of the scale: it is clipped")
    return notes
