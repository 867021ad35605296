"""Reading and writing mono audio at the rate the package works in."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from rrpo.checkpoint import atomic_path
from rrpo.errors import UserError

SAMPLE_RATE = 16_000
"""Samples per second of every audio array in the package."""

LOWEST_RATE = 8_000
"""Samples per second that a recording needs at least, those of a telephone: of fewer the second
formants of many vowels are missing, and no upsampling brings them back."""
QUIETEST = 1e-3
"""Peak, 60 dB below an amplitude of 1, under which a recording is silent as a whole."""

Audio = NDArray[np.float32]


def read(path: Path, sample_rate: int = SAMPLE_RATE) -> Audio:
    """Read an audio file as mono float32 (N,) at `sample_rate`.

    Channels are averaged, other rates are resampled.

    Raises:
        UserError: the file is missing, not audio, cut off or empty, its rate lies under 8000 Hz, or
            a value is not finite.
    """
    if not path.is_file():
        raise UserError(f"no such audio file: {path}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise UserError(f"cannot read {path} as audio ({error}): give a wav or flac file") from None
    if rate < LOWEST_RATE:
        raise UserError(
            f"{path} has a sample rate of {rate} Hz: speech needs {LOWEST_RATE} Hz at least, "
            f"record it again at {SAMPLE_RATE} Hz or more"
        )
    if lacking := _lacking(path):
        raise UserError(f"{path} is cut off: {lacking} bytes are missing, copy it again")
    if samples.shape[0] == 0:
        raise UserError(f"{path} holds no samples: remove it or record it again")
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError(f"{path} holds NaN or infinite samples: export it again")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
        if mono.size == 0:
            raise UserError(f"{path} is shorter than a sample at {sample_rate} Hz: remove it")
    return np.asarray(mono, dtype=np.float32)


def count_narrow(paths: Iterable[Path]) -> int:
    """Return how many files have a rate under 16 kHz: above half of it they are empty.

    Only headers are read; what cannot be read does not count.
    """
    narrow = 0
    for path in paths:
        try:
            narrow += soundfile.info(path).samplerate < SAMPLE_RATE
        except (soundfile.LibsndfileError, RuntimeError, TypeError):
            continue
    return narrow


def _lacking(path: Path) -> int:
    """Return how many bytes of a wav file are missing by what its header says; 0 for others.

    A stream that was written before its length was known says 0 or nearly 4 GB, and some programs
    count a few bytes too many.
    """
    with path.open("rb") as stream:
        header = stream.read(8)
    if header[:4] != b"RIFF" or len(header) < 8:
        return 0
    said = int.from_bytes(header[4:], "little") + 8
    missing = said - path.stat().st_size
    return missing if missing > 1024 and said < 2**31 - 65536 else 0


def write(path: Path, audio: Audio, sample_rate: int = SAMPLE_RATE) -> None:
    """Write mono audio (N,) as 16-bit PCM, clipped to [-1, 1]; the format follows the suffix."""
    with atomic_path(path) as temporary:
        try:
            soundfile.write(
                temporary,
                np.clip(audio, -1.0, 1.0),
                sample_rate,
                subtype="PCM_16",
                format=path.suffix.lstrip(".").upper() or "WAV",
            )
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"cannot write {path} ({error}): free space or choose another"
            ) from None


def to_peak(audio: Audio, peak: float = 0.7) -> Audio:
    """Scale audio (N,) so that its greatest sample is `peak`; silence stays silence.

    Artifacts of a known peak are put into speech of 0.7 wherever they are put into speech.

    Examples:
        >>> to_peak(np.array([0.1, -0.2], dtype=np.float32)).tolist()
        [0.3499999940395355, -0.699999988079071]
    """
    return np.asarray(peak * audio / max(float(np.abs(audio).max()), 1e-9), dtype=np.float32)


def is_silent(audio: ArrayLike) -> bool:
    """Tell whether nothing is heard in audio (N,): no sample reaches a magnitude of 0.001.

    Examples:
        >>> is_silent([0.0, -9e-4]), is_silent([0.0, -2e-3]), is_silent([])
        (True, False, True)
    """
    return float(np.abs(np.asarray(audio)).max(initial=0.0)) < QUIETEST


def energy(audio: Audio) -> float:
    """Return the mean square of audio (N,) in dB below an amplitude of 1; at least -100.

    Examples:
        >>> round(energy(np.full(8, 0.1, dtype=np.float32)))
        -20
    """
    square = float(np.mean(np.square(audio, dtype=np.float64))) if audio.size else 0.0
    return 10.0 * math.log10(max(square, 1e-10))
