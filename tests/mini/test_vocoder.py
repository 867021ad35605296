"""The vocoder against closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct

from rrpo.audio import SAMPLE_RATE
from rrpo.mini.vocoder import (
    ENVELOPE_BANDS,
    Parameters,
    band_interpolation,
    cepstral_basis,
    click_shape,
    minimum_phase,
    overlap_add,
    pop_shape,
    pulse_train,
    sharpen,
    synthesize,
    to_bands,
    to_points,
)


def steady(
    pitch: float, level: float, decibel: float, tokens: int = 25, rows: int = 1
) -> Parameters:
    """Parameters that do not change: a flat envelope of log power `level`."""
    frames = 4 * tokens
    return Parameters(
        pitch=torch.full((rows, frames), pitch),
        envelope=torch.full((rows, frames, ENVELOPE_BANDS), level),
        aperiodicity=torch.full((rows, frames, 5), decibel),
        click=torch.zeros(rows, tokens),
        pop=torch.zeros(rows, tokens),
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(60.0, 500.0))
def test_pulse_train_is_the_sum_of_its_harmonics(pitch: float) -> None:
    contour = torch.full((1, 400), pitch)
    phase = 2.0 * math.pi * pitch / SAMPLE_RATE * torch.arange(1, 401, dtype=torch.float64)
    count = math.floor(0.5 * SAMPLE_RATE / pitch - 1e-3)
    orders = torch.arange(1, count + 1, dtype=torch.float64)
    expected = torch.cos(orders[:, None] * phase).sum(dim=0)
    expected *= math.sqrt(4.0 * pitch / SAMPLE_RATE)
    assert torch.allclose(pulse_train(contour)[0].double(), expected, atol=2e-3)


def test_pulse_train_has_unit_power() -> None:
    power = pulse_train(torch.full((1, SAMPLE_RATE), 125.0)).square().mean()
    assert float(power) == pytest.approx(1.0, rel=0.02)


def test_minimum_phase_keeps_the_amplitude_and_is_causal() -> None:
    bins = torch.linspace(0.0, math.pi, 513)
    log_amplitude = torch.cos(3.0 * bins) - 0.5 * torch.cos(7.0 * bins)
    response = minimum_phase(log_amplitude)
    assert torch.allclose(response.abs(), torch.exp(log_amplitude), rtol=1e-3)
    impulse = torch.fft.irfft(response)
    assert float(impulse[512:].abs().max()) < 1e-4
    assert float(impulse[0].abs()) > 0.5


@pytest.mark.parametrize("size", [1, 5, 8, 9])
def test_blocks_overlap_and_add_as_torchs_fold(size: int) -> None:
    blocks = torch.randn(2, 6, size, generator=torch.Generator().manual_seed(0))
    length = 5 * 4 + size
    expected = torch.nn.functional.fold(
        blocks.transpose(1, 2), (1, length), (1, size), stride=(1, 4)
    )[:, 0, 0]
    found = overlap_add(blocks, 4)
    torch.testing.assert_close(found[:, :length], expected)
    assert not found[:, length:].any() and found.shape[1] % 4 == 0


def test_bands_survive_interpolation() -> None:
    bands = torch.randn(3, ENVELOPE_BANDS, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    spectrum = bands @ band_interpolation(torch.device("cpu"))
    again = to_bands(spectrum) @ band_interpolation(torch.device("cpu"))
    assert spectrum.shape == (3, 513)
    assert torch.allclose(again, spectrum, atol=0.02)


def test_aperiodicity_is_read_in_decibel() -> None:
    assert torch.allclose(to_points(torch.full((2, 513), 0.1)), torch.full((2, 5), -20.0))
    assert float(to_points(torch.zeros(1, 513)).max()) == pytest.approx(-60.0)


@pytest.mark.parametrize(("pitch", "decibel"), [(0.0, -60.0), (160.0, -60.0), (160.0, -3.0)])
def test_power_follows_the_envelope(pitch: float, decibel: float) -> None:
    audio = synthesize(steady(pitch, math.log(1e-3), decibel))[0]
    power = audio[1600:-1600].square().mean()
    assert float(power) == pytest.approx(1e-3, rel=0.1)


def test_voiced_speech_has_harmonics_of_its_pitch() -> None:
    audio = synthesize(steady(200.0, math.log(1e-2), -60.0, tokens=50))[0]
    spectrum = torch.fft.rfft(audio[8000:24000] * torch.hann_window(16000)).abs()
    harmonics = spectrum[200:7000:200]
    between = spectrum[300:7000:200]
    assert float(harmonics.min()) > 100.0 * float(between.max())
    # A flat envelope gives every harmonic the same amplitude.
    assert float(harmonics.max() / harmonics.min()) < 1.02


def test_envelope_shapes_the_harmonics() -> None:
    parameters = steady(250.0, math.log(1e-2), -60.0, tokens=50)
    mel = torch.linspace(0.0, 1.0, ENVELOPE_BANDS)
    parameters.envelope = (math.log(1e-2) - 6.0 * mel).expand_as(parameters.envelope).clone()
    audio = synthesize(parameters)[0]
    spectrum = torch.fft.rfft(audio[8000:24000] * torch.hann_window(16000)).abs()
    expected = 0.5 * parameters.envelope[0, 0] @ band_interpolation(torch.device("cpu"))
    hertz = torch.arange(500, 6001, 500)
    bins = (hertz / 15.625).long()
    measured = torch.log(spectrum[hertz]) - torch.log(spectrum[500])
    assert torch.allclose(measured, expected[bins] - expected[32], atol=0.05)


def test_transients_begin_in_the_middle_of_their_token() -> None:
    quiet = steady(0.0, -18.0, 0.0, tokens=6)
    loud = steady(0.0, -18.0, 0.0, tokens=6)
    loud.click[0, 1] = 0.4
    loud.pop[0, 3] = -0.3
    difference = (synthesize(loud) - synthesize(quiet))[0]
    click, pop = click_shape(), pop_shape()
    expected = torch.zeros_like(difference)
    expected[960 : 960 + len(click)] = 0.4 * click
    expected[2240 : 2240 + len(pop)] = -0.3 * pop
    assert torch.allclose(difference, expected, atol=1e-6)
    assert float(click.abs().max()) == 1.0
    assert float(pop.abs().max()) == pytest.approx(1.0)


def test_a_row_does_not_depend_on_its_batch() -> None:
    both = steady(0.0, -4.0, -10.0, tokens=8, rows=2)
    both.pitch[1] = 180.0
    alone = steady(180.0, -4.0, -10.0, tokens=8)
    assert torch.allclose(synthesize(both)[1], synthesize(alone)[0], atol=1e-5)


def test_noise_follows_the_seed() -> None:
    parameters = steady(0.0, -4.0, 0.0, tokens=3)
    assert torch.equal(synthesize(parameters, 1), synthesize(parameters, 1))
    assert not torch.equal(synthesize(parameters, 1), synthesize(parameters, 2))


def test_long_speech_has_no_seam() -> None:
    """Blocks are made in pieces; a pure pulse train must pass the seam unharmed."""
    tokens = 600
    audio = synthesize(steady(200.0, math.log(1e-2), -60.0, tokens=tokens))[0]
    assert audio.shape == (640 * tokens,)
    seam = 4096 * 80
    before, across = audio[seam - 3200 : seam - 1600], audio[seam - 800 : seam + 800]
    assert torch.allclose(before, across, atol=2e-3)


def test_sharpening_scales_cepstra_and_keeps_the_power() -> None:
    generator = torch.Generator().manual_seed(0)
    envelope = torch.randn(3, ENVELOPE_BANDS, generator=generator)
    basis = cepstral_basis(envelope.device)
    torch.testing.assert_close(basis @ basis.T, torch.eye(ENVELOPE_BANDS), atol=1e-5, rtol=0)
    expected = dct(np.eye(ENVELOPE_BANDS), norm="ortho").T
    np.testing.assert_allclose(basis.numpy(), expected, atol=1e-6)
    gain = 1.0 + torch.rand(ENVELOPE_BANDS, generator=generator)
    gain[0] = 1.0
    sharp = sharpen(envelope, gain)
    torch.testing.assert_close(sharp.logsumexp(-1), envelope.logsumexp(-1))
    # Only the first coefficient, the level, answers for the power.
    torch.testing.assert_close((sharp @ basis.T)[:, 1:], ((envelope @ basis.T) * gain)[:, 1:])
    torch.testing.assert_close(sharpen(envelope, torch.ones(ENVELOPE_BANDS)), envelope)
