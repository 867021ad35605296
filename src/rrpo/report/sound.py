"""Sound for a page: FLAC as data URIs, outlines of waveforms and mel spectrograms."""

import base64
import io
import itertools

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from rrpo.audio import SAMPLE_RATE, Audio

BANDS = 96
"""Mel bands of a spectrogram."""
HOP = 160
"""Samples between two columns of a spectrogram: 10 ms."""
WINDOW = 1024
LOWEST, HIGHEST = 50.0, 8000.0
"""Frequency range of a spectrogram in Hz."""
RANGE_DB = 75.0
"""Levels shown, down from the loudest."""

Floats = NDArray[np.float64]


def flac_uri(audio: Audio) -> str:
    """Encode mono audio (N,) at 16 kHz as 16-bit FLAC in a data URI."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(audio, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def outline(audio: Audio, bars: int = 72) -> str:
    """Return an SVG path of the waveform's envelope in a box of `bars` by 24, middle at 12.

    Each bar is as high as the greatest magnitude in its stretch, relative to the whole's.
    """
    magnitude = np.abs(audio)
    edges = np.linspace(0, len(magnitude), bars + 1).astype(int)
    peaks = np.array([magnitude[a:b].max(initial=0.0) for a, b in itertools.pairwise(edges)])
    heights = np.maximum(11.0 * peaks / max(float(peaks.max(initial=0.0)), 1e-6), 0.6)
    return "".join(
        f"M{index + 0.5:.1f} {12 - height:.1f}V{12 + height:.1f}"
        for index, height in enumerate(heights)
    )


def mel_filters() -> Floats:
    """Return triangular mel filters (BANDS, WINDOW // 2 + 1) over the bins of an FFT.

    The mel scale is O'Shaughnessy's, m = 2595 log10(1 + f / 700).
    """
    ends = 2595.0 * np.log10(1.0 + np.array([LOWEST, HIGHEST]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(ends[0], ends[1], BANDS + 2) / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(WINDOW, 1.0 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    # The lowest triangles are narrower than a bin and may miss every one: give them the nearest.
    for band in np.flatnonzero(filters.sum(axis=1) == 0):
        filters[band, np.abs(bins - edges[band + 1]).argmin()] = 1.0
    return np.asarray(filters, dtype=np.float64)


def mel_spectrogram(audio: Audio) -> Floats:
    """Return the mel power spectrogram (BANDS, F) of audio (N,) in dB; F = N // HOP + 1."""
    padded = np.pad(audio.astype(np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    return np.asarray(10.0 * np.log10(mel_filters() @ power.T + 1e-10))


def spectrogram_uri(audio: Audio) -> str:
    """Draw the mel spectrogram of audio (N,), low frequencies below, as a WebP data URI."""
    from matplotlib import colormaps  # takes a while, and most commands draw no spectrogram

    level = mel_spectrogram(audio)
    share = np.clip((level - level.max()) / RANGE_DB + 1.0, 0.0, 1.0)
    colours = colormaps["magma"](share[::-1], bytes=True)[..., :3]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(stream, format="WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
