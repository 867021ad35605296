"""Speech parameters to audio: sines, transients and noise.

A voiced frame is a band-limited pulse train and noise, both shaped by the frame's envelope, as in
WORLD (Morise, Yokomori and Ozawa 2016); clicks and pops, which such a model cannot say, are added
in the time domain beside them (sines + transients + noise, Verma and Meng 2000).
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rrpo.audio import SAMPLE_RATE
from rrpo.mini.features import HOP, hertz_to_mel

ENVELOPE_BANDS = 60
APERIODICITY_HERTZ = (0.0, 1000.0, 3000.0, 5500.0, 8000.0)
"""Frequencies at which a frame states its aperiodicity; in between it is linear in dB."""
TOKEN_FRAMES = 4
"""Parameter frames per speech token."""

_STEP = HOP // 2
_SIZE = 1024
_LEAD = 96
"""Room before a block's input, for the little that the noise filter sounds ahead of time."""
_CHUNK = 4096
CLICK_SAMPLES = 32
POP_SAMPLES = 960


@dataclass
class Parameters:
    """What the vocoder speaks: M frames of 10 ms, each value at the middle of its frame.

    Attributes:
        pitch: (B, M) fundamental frequency in Hz, 0 where unvoiced.
        envelope: (B, M, ENVELOPE_BANDS) natural log of WORLD's power envelope at points
            evenly spaced in mel.
        aperiodicity: (B, M, 5) noise's share of the amplitude in dB, at most 0.
        click: (B, M / 4) signed peak of a click in the middle of each token, 0 for none.
        pop: (B, M / 4) signed peak of a pop in the middle of each token, 0 for none.
    """

    pitch: Tensor
    envelope: Tensor
    aperiodicity: Tensor
    click: Tensor
    pop: Tensor


def click_shape() -> Tensor:
    """A click of unit peak (CLICK_SAMPLES,): 2 ms of noise that starts at once and dies away."""
    time = torch.arange(CLICK_SAMPLES, dtype=torch.float32) / CLICK_SAMPLES
    noise = torch.randn(CLICK_SAMPLES, generator=torch.Generator().manual_seed(1))
    shape = noise.clamp(-1.0, 1.0) * torch.exp(-3.0 * time)
    shape[0] = 1.0
    return shape


def pop_shape() -> Tensor:
    """A pop of unit peak (POP_SAMPLES,): a 75 Hz swing that decays within 60 ms."""
    time = torch.arange(POP_SAMPLES, dtype=torch.float32) / SAMPLE_RATE
    swing = torch.sin(2.0 * torch.pi * 75.0 * time) * torch.exp(-time / 0.015)
    fade = ((time[-1] - time) / 0.01).clamp(max=1.0)
    shape = swing * (1.0 - torch.exp(-time / 0.001)) * fade
    return shape / shape.abs().max()


@cache
def band_interpolation(device: torch.device) -> Tensor:
    """Weights (ENVELOPE_BANDS, bins): linear in mel between bands from 0 Hz to Nyquist."""
    mel = hertz_to_mel(torch.linspace(0.0, SAMPLE_RATE / 2, _SIZE // 2 + 1, dtype=torch.float64))
    return _hat(mel / mel[-1] * (ENVELOPE_BANDS - 1), ENVELOPE_BANDS).to(device)


@cache
def _band_projection(device: torch.device) -> Tensor:
    """Weights (bins, ENVELOPE_BANDS): the bands whose interpolation is nearest in least squares.

    Averaging over each band instead would smooth twice, once more at the interpolation, and costs
    0.2 of a mean opinion score.
    """
    weights = band_interpolation(torch.device("cpu")).to(torch.float64)
    # Bands narrower than a bin are not determined; the ridge keeps them near their neighbours.
    gram = weights @ weights.T + 1e-3 * torch.eye(ENVELOPE_BANDS, dtype=torch.float64)
    projection: Tensor = torch.linalg.solve(gram, weights).T.to(torch.float32)
    return projection.to(device)


@cache
def _aperiodicity_interpolation(device: torch.device) -> Tensor:
    """Weights (5, bins): linear interpolation in Hz."""
    frequency = torch.linspace(0.0, SAMPLE_RATE / 2, _SIZE // 2 + 1)
    points = torch.tensor(APERIODICITY_HERTZ)
    right = torch.searchsorted(points, frequency).clamp(1, len(points) - 1)
    span = points[right] - points[right - 1]
    position = right - 1 + (frequency - points[right - 1]) / span
    return _hat(position, len(points)).to(device)


def _hat(position: Tensor, count: int) -> Tensor:
    """Linear interpolation weights (count, P) for fractional indices (P,)."""
    index = torch.arange(count, dtype=position.dtype)[:, None]
    return (1.0 - (position - index).abs()).clamp(min=0.0).to(torch.float32)


def to_bands(spectrum: Tensor) -> Tensor:
    """Fit mel bands (…, ENVELOPE_BANDS) to a log power spectrum (…, 513)."""
    return spectrum @ _band_projection(spectrum.device)


def to_points(aperiodicity: Tensor) -> Tensor:
    """Read a linear amplitude aperiodicity (…, 513) at the five frequencies, in dB, (…, 5)."""
    bins = [round(hertz / (SAMPLE_RATE / 2) * (_SIZE // 2)) for hertz in APERIODICITY_HERTZ]
    return 20.0 * torch.log10(aperiodicity[..., bins].clamp(1e-3, 1.0))


@cache
def cepstral_basis(device: torch.device) -> Tensor:
    """Orthonormal cosines (ENVELOPE_BANDS, ENVELOPE_BANDS), one per row (DCT-II)."""
    index = torch.arange(ENVELOPE_BANDS, dtype=torch.float64)
    basis = torch.cos(torch.pi / ENVELOPE_BANDS * index[:, None] * (index + 0.5))
    basis *= (2.0 / ENVELOPE_BANDS) ** 0.5
    basis[0] *= 0.5**0.5
    return basis.to(torch.float32).to(device)


def sharpen(envelope: Tensor, gain: Tensor) -> Tensor:
    """Scale the cepstral coefficients of envelopes and keep each frame's power.

    A prediction is smoother than speech: with gains above 1 formants stand out again as far as they
    do there (Toda & Tokuda 2007, "A speech parameter generation algorithm considering global
    variance", IEICE Transactions E90-D).

    Args:
        envelope: (…, ENVELOPE_BANDS) natural log power.
        gain: (ENVELOPE_BANDS,) of each coefficient.
    """
    basis = cepstral_basis(envelope.device)
    sharp = ((envelope @ basis.T) * gain) @ basis
    power = envelope.logsumexp(-1, keepdim=True) - sharp.logsumexp(-1, keepdim=True)
    return sharp + power


def _upsample(frames: Tensor, factor: int) -> Tensor:
    """Interpolate (B, M, C), each at its frame's middle, linearly to (B, M * factor, C) instants.

    Instant k lies at k + 0.5 steps; the ends are held.
    """
    return torch.nn.functional.interpolate(
        frames.transpose(1, 2), scale_factor=factor, mode="linear", align_corners=False
    ).transpose(1, 2)


def _hold_pitch(pitch: Tensor) -> Tensor:
    """Fill unvoiced frames (B, M) with the last voiced frame's pitch, or the first one's before."""
    batch, frames = pitch.shape
    voiced = pitch > 0
    index = torch.arange(frames, device=pitch.device).expand(batch, frames)
    last = torch.where(voiced, index, -1).cummax(dim=1).values
    first = torch.where(voiced, index, frames).amin(dim=1, keepdim=True).clamp(max=frames - 1)
    held = pitch.gather(1, torch.where(last < 0, first, last))
    return torch.where(held > 0, held, 100.0)


def pulse_train(pitch: Tensor) -> Tensor:
    """Band-limited pulses of unit power from a pitch contour.

    The sum of the K cosines below the Nyquist frequency has the closed form
    sin((K + 1/2) p) / (2 sin(p / 2)) - 1/2 (Dirichlet kernel) in the phase p.

    Args:
        pitch: (B, N) Hz per sample, positive.

    Returns:
        (B, N) float32.
    """
    phase = torch.cumsum(pitch.to(torch.float64) / SAMPLE_RATE, dim=1)
    angle = (2.0 * torch.pi * (phase - phase.round())).to(torch.float32)
    harmonics = torch.floor(0.5 * SAMPLE_RATE / pitch - 1e-3)
    half = torch.sin(0.5 * angle)
    centre = half.abs() < 1e-4
    safe = torch.where(centre, 1.0, half)
    kernel = torch.sin((harmonics + 0.5) * angle) / (2.0 * safe) - 0.5
    return torch.where(centre, harmonics, kernel) * torch.sqrt(4.0 * pitch / SAMPLE_RATE)


def minimum_phase(log_amplitude: Tensor) -> Tensor:
    """Return the minimum-phase response (…, bins) complex of a log amplitude (…, bins).

    Folds the cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing, chapter 12).
    """
    cepstrum = torch.fft.irfft(log_amplitude)
    size = cepstrum.shape[-1]
    fold = torch.zeros(size, device=cepstrum.device)
    fold[0] = fold[size // 2] = 1.0
    fold[1 : size // 2] = 2.0
    log_response = torch.fft.rfft(cepstrum * fold)
    # By its parts: torch's exponential of complex numbers takes five times as long.
    return torch.polar(torch.exp(log_response.real), log_response.imag)


def overlap_add(blocks: Tensor, step: int) -> Tensor:
    """Add blocks (B, C, S), each `step` samples after the one before, to (B, N).

    N is C times the step and the rest of the last block, rounded up to whole steps.

    Examples:
        >>> overlap_add(torch.ones(1, 2, 4), 2)
        tensor([[1., 1., 2., 2., 1., 1.]])
    """
    batch, count, size = blocks.shape
    parts = -(-size // step)
    padded = torch.nn.functional.pad(blocks, (0, parts * step - size))
    output = blocks.new_zeros(batch, count + parts - 1, step)
    for number, part in enumerate(padded.reshape(batch, count, parts, step).unbind(2)):
        output[:, number : number + count] += part
    return output.flatten(1)


def _shape(parameters: Parameters, pulses: Tensor, noise: Tensor) -> Tensor:
    """Filter pulses and noise (B, N) by the envelope and aperiodicity, overlap-add to (B, N)."""
    batch, samples = pulses.shape
    device = pulses.device
    count = samples // _STEP
    window = torch.hann_window(2 * _STEP, device=device)
    pad = (_STEP // 2, _STEP // 2)
    output = torch.zeros(batch, samples + _SIZE + 3 * _STEP, device=device)
    voiced = (parameters.pitch > 0)[..., None].to(torch.float32)
    voicing = _upsample(voiced, 2)
    bands = _upsample(parameters.envelope, 2)
    points = _upsample(parameters.aperiodicity, 2)
    blocks = [
        torch.nn.functional.pad(source, pad).unfold(1, 2 * _STEP, _STEP)
        for source in (pulses, noise)
    ]
    for start in range(0, count, _CHUNK):
        piece = slice(start, min(count, start + _CHUNK))
        log_amplitude = 0.5 * bands[:, piece] @ band_interpolation(device)
        response = minimum_phase(log_amplitude)
        decibel = points[:, piece] @ _aperiodicity_interpolation(device)
        share = torch.exp(decibel.clamp(max=0.0) * (math.log(10.0) / 10.0))
        periodic = voicing[:, piece] * torch.sqrt((1.0 - share).clamp(min=0.0))
        aperiodic = torch.sqrt(1.0 - periodic.square())
        spectrum = torch.zeros_like(response)
        for source, gain in zip(blocks, (periodic, aperiodic), strict=True):
            block = torch.nn.functional.pad(source[:, piece] * window, (_LEAD, 0))
            spectrum = spectrum + torch.fft.rfft(block, _SIZE) * gain
        wave = torch.fft.irfft(spectrum * response, _SIZE)
        folded = overlap_add(wave, _STEP)
        output[:, start * _STEP : start * _STEP + folded.shape[1]] += folded
    begin = _LEAD + _STEP // 2
    return output[:, begin : begin + samples]


def _add_transients(audio: Tensor, peaks: Tensor, shape: Tensor) -> Tensor:
    """Add `shape` (S,) times each token's peak (B, T), beginning in the token's middle."""
    batch, samples = audio.shape
    impulses = torch.zeros(batch, samples, device=audio.device)
    token = HOP * TOKEN_FRAMES
    impulses[:, token // 2 :: token] = peaks
    padded = torch.nn.functional.pad(impulses, (shape.shape[0] - 1, 0))
    if not bool(peaks.any()):
        return audio
    kernel = shape.flip(0).to(audio.device)[None, None]
    return audio + torch.nn.functional.conv1d(padded[:, None], kernel)[:, 0]


def synthesize(parameters: Parameters, seed: int = 0) -> Tensor:
    """Speak parameters.

    Args:
        parameters: M frames, M a multiple of 4.
        seed: of the noise; the same noise starts every row, so that a row's audio does not depend
            on the batch it is in.

    Returns:
        (B, N) float32 at 16 kHz, N = 160 M, not limited to [-1, 1].
    """
    frames = parameters.pitch.shape[1]
    device = parameters.pitch.device
    pitch = _upsample(torch.log(_hold_pitch(parameters.pitch))[..., None], HOP)[..., 0]
    pulses = pulse_train(torch.exp(pitch))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames * HOP, generator=generator).to(device).expand_as(pulses)
    audio = _shape(parameters, pulses, noise)
    audio = _add_transients(audio, parameters.click, click_shape())
    return _add_transients(audio, parameters.pop, pop_shape())
