"""Mel spectrograms: Whisper's, which CosyVoice's speech tokenizer takes too, and its filters."""

import functools

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio

WINDOW, HOP = 400, 160


@functools.cache
def filters(window: int, bands: int) -> NDArray[np.float32]:
    """Return mel filters (bands, window // 2 + 1) from 0 to 8 kHz: Slaney's scale and norm.

    They are librosa's default, digit by digit; it brings a compiler along. The scale is
    3 f / 200 up to 1 kHz and logarithmic above; each triangle has an area of 1 in Hz.
    """
    step = np.log(6.4) / 27.0
    top = 15.0 + np.log(SAMPLE_RATE / 2 / 1000.0) / step
    mels = np.linspace(0.0, top, bands + 2)
    edges = 200.0 / 3 * mels
    edges[mels >= 15.0] = 1000.0 * np.exp(step * (mels[mels >= 15.0] - 15.0))
    ramps = edges[:, None] - np.fft.rfftfreq(window, 1.0 / SAMPLE_RATE)
    widths = np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    weights = triangles.astype(np.float32)
    weights *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return weights


def log_mel(audio: Audio, bands: int) -> NDArray[np.float32]:
    """Return Whisper's log-mel spectrogram (bands, N // 160) of audio (N,) at 16 kHz."""
    import torch  # where only the filters are needed, it is not waited for

    wave = torch.from_numpy(np.asarray(audio, dtype=np.float32))
    spectrum = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    power = spectrum[:, :-1].abs().square()
    log = (torch.from_numpy(filters(WINDOW, bands)) @ power).clamp(min=1e-10).log10()
    return np.asarray((torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)
