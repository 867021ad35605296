"""Mono audio at the rate the package works in; files are read by `rrpo.sound.file`."""

import math
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from rrpo.errors import UserError
from rrpo.files import atomic_path

SAMPLE_RATE = 16_000
"""Samples per second of every audio array in the package."""

LOWEST_RATE = 8_000
"""Samples per second that a recording needs at least, those of a telephone: of fewer the second
formants of many vowels are missing, and no upsampling brings them back."""
QUIETEST = 1e-3
"""Peak, 60 dB below an amplitude of 1, under which a recording is silent as a whole."""
LOUDEST = 8.0
"""Peak, 18 dB above full scale, over which samples are not amplitudes but, say, whole numbers."""

Audio = NDArray[np.float32]


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


def checked(audio: ArrayLike) -> Audio:
    """Return audio that a codec can take: (N,) float32, N at least 1.

    Raises:
        UserError: it is empty or not one channel, or a sample is not finite or over `LOUDEST`.
    """
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or samples.size == 0:
        raise UserError(f"audio of shape {samples.shape} cannot be used: give mono samples")
    if not np.isfinite(samples).all():
        raise UserError("audio with NaN or infinite samples cannot be used: record it again")
    peak = float(np.abs(samples).max())
    if peak > LOUDEST:
        raise UserError(
            f"audio with a peak of {peak:.5g} cannot be used, for 1 is full scale: divide its "
            "samples, as by 32768"
        )
    return samples


def to_peak(audio: Audio, peak: float = 0.7) -> Audio:
    """Scale audio (N,) so that its greatest sample is `peak`; silence stays silence.

    Artifacts of a known peak are put into speech of 0.7 wherever they are put into speech.

    Examples:
        >>> to_peak(np.array([0.1, -0.2], dtype=np.float32)).tolist()
        [0.3499999940395355, -0.699999988079071]
    """
    return np.asarray(peak * audio / max(float(np.abs(audio).max()), 1e-9), dtype=np.float32)


def is_silent(audio: ArrayLike) -> bool:
    """Tell whether audio (N,) is silent: no sample is 0.001 away from their mean.

    A constant is silent, however large it is.

    Examples:
        >>> is_silent([0.0, -9e-4]), is_silent([0.0, -2e-3]), is_silent([0.2, 0.2]), is_silent([])
        (True, False, True, True)
    """
    samples = np.asarray(audio, dtype=np.float64)
    if not samples.size:
        return True
    return float(np.abs(samples - samples.mean()).max()) < QUIETEST


def energy(audio: Audio) -> float:
    """Return the mean square of audio (N,) in dB below an amplitude of 1; at least -100.

    Examples:
        >>> round(energy(np.full(8, 0.1, dtype=np.float32)))
        -20
    """
    square = float(np.mean(np.square(audio, dtype=np.float64))) if audio.size else 0.0
    return 10.0 * math.log10(max(square, 1e-10))
