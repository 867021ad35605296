"""Sound for a page: small copies as data URIs, outlines of waveforms and mel spectrograms."""

import base64
import io
import itertools
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.files import atomic_path

BANDS = 80
"""Mel bands of a spectrogram."""
HOP = 160
"""Samples between two columns of a spectrogram: 10 ms."""
WINDOW = 1024
LOWEST, HIGHEST = 50.0, 8000.0
"""Frequency range of a spectrogram in Hz."""
RANGE_DB = 75.0
"""Levels shown, down from the loudest."""
OPUS_LEVEL = 0.928
"""libsndfile's scale from 256 down to 6 kbit/s: 24, enough for speech at 16 kHz."""

Floats = NDArray[np.float64]


def flac_uri(audio: Audio) -> str:
    """Encode mono audio (N,) at 16 kHz as 16-bit FLAC, without loss, in a data URI."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(audio, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", stream.getvalue())


def opus_uri(audio: Audio, path: Path) -> str:
    """Encode mono audio (N,) at 16 kHz as Opus in a data URI.

    Opus takes a tenth of a second each, so a copy is kept beside the sound's own file, `path`, and
    used as long as it is not the older of the two.
    """
    copy = path.with_suffix(".opus")
    if not copy.is_file() or copy.stat().st_mtime < path.stat().st_mtime:
        with atomic_path(copy) as temporary:
            soundfile.write(
                temporary,
                np.clip(audio, -1.0, 1.0),
                SAMPLE_RATE,
                format="OGG",
                subtype="OPUS",
                compression_level=OPUS_LEVEL,
            )
    return data_uri("audio/ogg", copy.read_bytes())


def data_uri(kind: str, content: bytes) -> str:
    """Return content of a media type as a URI that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def outline(audio: Audio, bars: int = 96) -> str:
    """Return an SVG path of the waveform's envelope in a box of `bars` by 24, middle at 12.

    Each bar is as high as the greatest magnitude in its stretch, relative to the whole's.
    """
    magnitude = np.abs(audio)
    edges = np.linspace(0, len(magnitude), bars + 1).astype(int)
    peaks = np.array([magnitude[a:b].max(initial=0.0) for a, b in itertools.pairwise(edges)])
    heights = np.maximum(np.round(11.0 * peaks / max(float(peaks.max(initial=0.0)), 1e-6)), 1)
    return "".join(
        f"M{index} {12 - height:.0f}v{2 * height:.0f}" for index, height in enumerate(heights)
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
    """Draw the mel spectrogram of audio (N,) in grey, low frequencies below, as a WebP data URI.

    The loudest is white: the page's style turns it into ink on a light page.
    """
    level = mel_spectrogram(audio)
    share = np.clip((level - level.max()) / RANGE_DB + 1.0, 0.0, 1.0)
    grey = np.ascontiguousarray(np.round(255.0 * share[::-1] ** 1.3).astype(np.uint8))
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="WEBP", quality=45)
    return data_uri("image/webp", stream.getvalue())
