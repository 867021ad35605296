"""What the codec's encoder hears: log-mel, pitch and transient features of audio, in torch.

One frame lasts 10 ms and is centred on its own middle, so the four frames of a speech token lie
evenly inside its 40 ms.
"""

import math
from functools import cache

import torch
from torch import Tensor

from rrpo.audio import SAMPLE_RATE

HOP = 160
"""Samples per feature frame, 10 ms."""
MEL_BANDS = 80
LAGS = 64
SUBFRAMES = 8
"""Transient energies per frame, one every 1.25 ms."""
FEATURES = MEL_BANDS + LAGS + SUBFRAMES + 3

_MEL_WINDOW = 400
_MEL_FFT = 512
_PITCH_WINDOW = 800
_PITCH_FFT = 1024
_PITCH_BINS = 64
"""Spectral bins below 1 kHz: enough harmonics to find the period, too few for narrow peaks that
would fall between two lags."""
_FLOOR = 1e-8
_HIGH_PASS = (0.0625, -0.25, 0.375, -0.25, 0.0625)
"""Binomial fourth difference: 0 at DC, 1 at the Nyquist frequency, -12 dB at half of it."""
_LOW_TAPS = 641
_LOW_CUTOFF = 120.0


def hertz_to_mel(frequency: Tensor) -> Tensor:
    """Map Hz to mel by 2595 log10(1 + f / 700) (O'Shaughnessy)."""
    return 2595.0 * torch.log10(1.0 + frequency / 700.0)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """Invert `hertz_to_mel`."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def triangles(bands: int, bins: int, low: float = 0.0, high: float = SAMPLE_RATE / 2) -> Tensor:
    """Return mel-spaced triangular weights (bins, bands), each band summing to one.

    Args:
        bands: how many; their centres are evenly spaced in mel.
        bins: spectral bins, evenly spaced from 0 Hz to the Nyquist frequency.
        low: lower edge of the first triangle, Hz.
        high: upper edge of the last triangle, Hz.
    """
    limits = hertz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    edges = mel_to_hertz(torch.linspace(float(limits[0]), float(limits[1]), bands + 2))
    edges = edges.to(torch.float64)
    frequency = torch.linspace(0.0, SAMPLE_RATE / 2, bins, dtype=torch.float64)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0.0)
    # A band narrower than a bin may miss every bin: it then reads the nearest one.
    nearest = (frequency - edges[1:-1]).abs().argmin(dim=0)
    empty = weights.sum(dim=0) < 1e-3
    weights[nearest[empty], torch.nonzero(empty)[:, 0]] = 1.0
    return (weights / weights.sum(dim=0)).to(torch.float32)


@cache
def _mel_filters(device: torch.device) -> Tensor:
    return triangles(MEL_BANDS, _MEL_FFT // 2 + 1).to(device)


def pitch_grid() -> Tensor:
    """Fundamental frequencies (LAGS,) float64 in Hz whose periods are looked for, 600 to 60."""
    return torch.logspace(math.log10(600.0), math.log10(60.0), LAGS, dtype=torch.float64)


@cache
def _lag_cosines(device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines (bins, 1 + LAGS) that turn power into autocorrelation, and the window's own (LAGS,).

    Lag 0 comes first; the others are those of `pitch_grid`.
    """
    lags = torch.cat([torch.zeros(1, dtype=torch.float64), SAMPLE_RATE / pitch_grid()])
    bins = torch.arange(_PITCH_BINS, dtype=torch.float64)
    cosines = torch.cos(2.0 * torch.pi / _PITCH_FFT * bins[:, None] * lags)
    # A raised-cosine roll-off keeps the low-passed autocorrelation free of ringing.
    cosines *= torch.cos(0.5 * torch.pi * bins / _PITCH_BINS)[:, None] ** 2
    window = torch.hann_window(_PITCH_WINDOW, dtype=torch.float64)
    power = torch.fft.rfft(window, 4 * _PITCH_FFT).abs() ** 2
    # A one-sided sum stands for both halves of the spectrum, which share the bin at 0 Hz.
    cosines[0] *= 0.5
    power[0] *= 0.5
    grid = torch.arange(power.shape[0], dtype=torch.float64)
    own = torch.cos(torch.pi / (2 * _PITCH_FFT) * lags[:, None] * grid) @ power
    return cosines.to(torch.float32).to(device), (own[1:] / own[0]).to(torch.float32).to(device)


@cache
def _low_pass(device: torch.device) -> Tensor:
    """Windowed-sinc low-pass (1, 1, taps) at 120 Hz."""
    time = torch.arange(_LOW_TAPS, dtype=torch.float64) - _LOW_TAPS // 2
    taps = torch.sinc(2.0 * _LOW_CUTOFF / SAMPLE_RATE * time)
    taps *= torch.hann_window(_LOW_TAPS, periodic=False, dtype=torch.float64)
    return (taps / taps.sum()).to(torch.float32).to(device)[None, None]


def _spectrum(audio: Tensor, window: int, size: int) -> Tensor:
    """Power spectrum (B, M, size / 2 + 1) of frames centred in each 10 ms hop."""
    margin = (window - HOP) // 2
    frames = torch.nn.functional.pad(audio, (margin, window - HOP - margin)).unfold(1, window, HOP)
    spectrum = torch.fft.rfft(frames * torch.hann_window(window, device=audio.device), size)
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power


def _log(power: Tensor) -> Tensor:
    """Natural logarithm with a floor, scaled so that speech lies roughly within [-2, 2]."""
    return (torch.log(power + _FLOOR) + 8.0) / 5.0


def _mel(audio: Tensor) -> Tensor:
    power = _spectrum(audio, _MEL_WINDOW, _MEL_FFT) @ _mel_filters(audio.device)
    return _log(power / _MEL_WINDOW)


def _pitch(audio: Tensor) -> Tensor:
    """Normalised autocorrelation (B, M, LAGS) of the band below 1 kHz."""
    cosines, own = _lag_cosines(audio.device)
    power = _spectrum(audio, _PITCH_WINDOW, _PITCH_FFT)[..., :_PITCH_BINS]
    correlation = power @ cosines
    energy = correlation[..., :1] + _PITCH_WINDOW * 1e-7
    return correlation[..., 1:] / (energy * own)


def _transients(audio: Tensor) -> Tensor:
    """High-band energies every 1.25 ms, the peak, and energy and slope below 120 Hz."""
    batch, samples = audio.shape
    taps = torch.tensor(_HIGH_PASS, device=audio.device)[None, None]
    high = torch.nn.functional.conv1d(audio[:, None], taps, padding=2)[:, 0]
    fine = high.square().view(batch, samples // HOP, SUBFRAMES, -1).mean(dim=-1)
    peak = audio.abs().view(batch, samples // HOP, HOP).amax(dim=-1, keepdim=True).square()
    step = HOP // 10
    coarse = audio.view(batch, 1, samples // step, step).mean(dim=-1)
    low = torch.nn.functional.conv1d(
        coarse, _low_pass(audio.device)[..., ::step] * step, padding=_LOW_TAPS // step // 2
    )[:, 0]
    energy = low.view(batch, samples // HOP, -1).square()
    halves = energy.view(batch, samples // HOP, 2, -1).mean(dim=-1)
    return _log(torch.cat([fine, peak, halves], dim=-1))


def features(audio: Tensor) -> Tensor:
    """Compute the encoder's input.

    Args:
        audio: (B, N) float32 at 16 kHz, N a multiple of 160.

    Returns:
        (B, M, FEATURES) float32, M = N / 160.
    """
    return torch.cat([_mel(audio), _pitch(audio), _transients(audio)], dim=-1)
