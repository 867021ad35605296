"""Several channels to one, without what their mean would spoil."""

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import Audio
from rrpo.sound.header import DamageError

DEAD = 10.0 ** (-30.0 / 10.0)
"""Energy beside that of the loudest channel, under which another is hiss and crosstalk."""
SAME, LATE = 0.5, 0.7
"""Correlation from which two channels hold the same: at once, and with one of them later."""
LATEST = 0.02
"""Seconds, 7 m of air, that a second microphone may hear later."""
EXCERPT = 30.0
"""Seconds from the middle by which channels are compared."""
OFFSET = 0.01
"""Mean from which a constant is taken out: what old sound cards add to speech is less."""
CERTAIN = 5.0
"""Standard errors from which a mean is no chance but an offset."""
LEAST = 0.1
"""Seconds from which a mean can be told from a wave that is not over."""


def without_offset(channel: Audio, rate: int) -> tuple[Audio, float]:
    """Take a constant out of a channel (N,), where there is one beyond chance and over -40 dB.

    Returns:
        The channel and what was taken out, 0 where nothing was.
    """
    mean = float(channel.mean(dtype=np.float64)) if channel.size else 0.0
    bound = max(OFFSET, CERTAIN * float(channel.std(dtype=np.float64)) / channel.size**0.5)
    if channel.size < LEAST * rate or abs(mean) <= bound:
        return channel, 0.0
    return (channel - np.float64(mean)).astype(np.float32), mean


def to_mono(
    channels: NDArray[np.float32], rate: int, voice: int | None = None
) -> tuple[Audio, list[str]]:
    """Make one channel (N,) of (N, C), each without its offset.

    Channels in which next to nothing is heard are left out. Of the same sound the mean is taken; of
    one that is turned over or comes later, as from a second microphone, the first channel alone.

    Args:
        channels: amplitudes.
        rate: samples per second.
        voice: number of the channel that the voice is in, where that is known.

    Returns:
        The one channel, and what is odd about the others.

    Raises:
        DamageError: channels hold different sounds, such as two people, or a laryngograph.
    """
    freed = [without_offset(channels[:, number], rate) for number in range(channels.shape[1])]
    offset = max((taken for _, taken in freed), key=abs, default=0.0)
    notes = [f"an offset of {offset:.3g} is taken out"] if offset else []
    if len(freed) == 1:
        return freed[0][0], notes
    if voice is not None:
        if voice >= len(freed):
            raise DamageError(f"has {len(freed)} channels, and the voice should be in {voice + 1}")
        notes.append(f"of {len(freed)} channels the voice's is taken, number {voice + 1}")
        return freed[voice][0], notes
    energies = [float(np.mean(np.square(one, dtype=np.float64))) for one, _ in freed]
    heard = [at for at, energy in enumerate(energies) if energy > DEAD * max(energies)]
    if not heard:
        return freed[0][0], notes
    if len(heard) < len(freed):
        notes.append(f"{len(freed) - len(heard)} of {len(freed)} channels are next to silent")
    first = heard[0]
    relations = {_relation(freed[first][0], freed[at][0], rate) for at in heard[1:]}
    if "different" in relations:
        raise DamageError(
            "has channels that hold different sounds, as of two people or a laryngograph: keep "
            "that of the voice alone, as by sox IN OUT remix 1"
        )
    if relations - {"same"}:
        how = "turned over" if "turned over" in relations else "later"
        notes.append(f"a channel is {how}: number {first + 1} of {len(freed)} alone is taken")
        return freed[first][0], notes
    mean = np.stack([freed[at][0] for at in heard]).mean(axis=0, dtype=np.float64)
    return np.asarray(mean, dtype=np.float32), notes


def _relation(one: Audio, other: Audio, rate: int) -> str:
    """Say how two channels (N,) relate: same, later, turned over or different."""
    size = int(EXCERPT * rate)
    start = max(0, (one.size - size) // 2)
    first = one[start : start + size].astype(np.float64)
    second = other[start : start + size].astype(np.float64)
    scale = float(np.sqrt((first @ first) * (second @ second)))
    if scale == 0.0:
        return "different"
    at_once = float(first @ second) / scale
    if at_once <= -SAME:
        return "turned over"
    # Padded, so that the end does not meet the beginning.
    reach = min(int(LATEST * rate), first.size - 1)
    length = 1 << (first.size + reach).bit_length()
    product = np.fft.rfft(first, length) * np.conj(np.fft.rfft(second, length))
    lags = np.fft.irfft(product, length) / scale
    # By its magnitude, for the later one may be turned over as well.
    best = float(np.abs(np.concatenate([lags[: reach + 1], lags[length - reach :]])).max())
    if best >= LATE and best > at_once + 0.1:
        return "later"
    return "same" if at_once >= SAME else "different"
