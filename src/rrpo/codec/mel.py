"""Whisper's log-mel spectrogram, which CosyVoice's speech tokenizer takes as well."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio

WINDOW, HOP = 400, 160


@functools.cache
def _filters(bands: int) -> Tensor:
    """Return Whisper's mel filters (bands, 201): Slaney's scale and norm, as librosa has them."""
    import librosa

    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=bands))


def log_mel(audio: Audio, bands: int) -> NDArray[np.float32]:
    """Return Whisper's log-mel spectrogram (bands, N // 160) of audio (N,) at 16 kHz."""
    wave = torch.from_numpy(np.asarray(audio, dtype=np.float32))
    spectrum = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    power = spectrum[:, :-1].abs().square()
    log = (_filters(bands) @ power).clamp(min=1e-10).log10()
    return np.asarray((torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)
