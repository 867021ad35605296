"""Sounds that tests write in every format, whole and damaged."""

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
FORMATS = {
    "wav": ("WAV", None),
    "wavex": ("WAVEX", None),
    "flac": ("FLAC", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", None),
    "aiff": ("AIFF", None),
    "w64": ("W64", None),
    "rf64": ("RF64", None),
    "au": ("AU", None),
    "caf": ("CAF", None),
    "sph": ("NIST", None),
    "float": ("WAV", "FLOAT"),
    "adpcm": ("WAV", "MS_ADPCM"),
    "gsm": ("WAV", "GSM610"),
}


def voice(seconds: float = 0.5, seed: int = 0) -> NDArray[np.float32]:
    """Return a buzz (N,) at 16 kHz that falls in pitch, with a little noise: no person's voice."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 - 30 * time / seconds) / RATE
    harmonics = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20))
    sound = 0.1 * harmonics + 0.002 * rng.standard_normal(time.size)
    return sound.astype(np.float32)


def encoded(kind: str, sound: NDArray[np.float32], rate: int = RATE) -> bytes:
    """Return the bytes of a sound (N,) or (N, C) in one of `FORMATS`."""
    form, subtype = FORMATS[kind]
    stream = io.BytesIO()
    soundfile.write(stream, sound, rate, format=form, subtype=subtype)
    return stream.getvalue()


def written(path: Path, data: bytes) -> Path:
    """Write bytes to a file and return its path."""
    path.unlink(missing_ok=True)  # some file systems write an old file's place at once: slow
    path.write_bytes(data)
    return path
