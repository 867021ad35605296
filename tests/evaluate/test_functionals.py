"""Pitch against known tones, functionals under change and silence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.evaluate.functionals import HOP, describe, functionals, names, pitch

RATE = 16_000


def buzz(frequency: np.ndarray | float, seconds: float, partials: int = 12) -> Audio:
    """A harmonic tone whose partials fall by 6 dB per octave."""
    size = int(seconds * RATE)
    turn = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, size)) / RATE
    tone = sum(np.sin(k * turn) / k for k in range(1, partials + 1))
    return np.asarray(0.3 * tone / np.abs(tone).max(), np.float32)


@pytest.mark.parametrize("frequency", [75.0, 120.0, 210.0, 333.0, 520.0])
def test_pitch_of_a_tone(frequency: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, RATE // 2)
    found = pitch((buzz(frequency, 0.5) + noise).astype(np.float32))
    inner = found.frequency[5:-5]
    assert (inner > 0).all()
    np.testing.assert_allclose(inner, frequency, rtol=0.01)
    assert found.strength[5:-5].mean() > 0.9


def test_pitch_follows_a_glide_without_octave_jumps() -> None:
    wanted = 100 * 2 ** np.linspace(0, 1.5, RATE)
    found = pitch(buzz(wanted, 1.0)).frequency[5:-5]
    np.testing.assert_allclose(np.log2(found / wanted[::HOP][5:-5]), 0, atol=0.03)


def test_noise_and_silence_are_unvoiced() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert np.mean(pitch(noise).frequency > 0) < 0.1
    assert not pitch(np.zeros(RATE, np.float32)).frequency.any()


def test_functionals_say_what_their_names_say() -> None:
    low, high = describe(buzz(110, 1.0)), describe(buzz(220, 1.0))
    assert high["pitch_mean"] - low["pitch_mean"] == pytest.approx(12, abs=0.2)
    assert low["pitch_deviation"] < 0.2
    rich = buzz(110, 1.0, partials=70)
    low, half = describe(rich), describe(0.5 * rich)
    assert low["level_p50"] - half["level_p50"] == pytest.approx(6.02, abs=0.1)
    for name in ("pitch_mean", "voiced_alpha_ratio_mean", "voiced_tilt_high_mean"):
        assert half[name] == pytest.approx(low[name], abs=0.2)
    glide = describe(buzz(150 * 2 ** np.linspace(0, 1, RATE), 1.0))
    assert glide["pitch_slope"] == pytest.approx(12, rel=0.1)
    dull, bright = describe(buzz(110, 1.0, partials=4)), describe(buzz(110, 1.0, partials=40))
    assert bright["voiced_centroid_mean"] > dull["voiced_centroid_mean"]
    assert bright["voiced_alpha_ratio_mean"] < dull["voiced_alpha_ratio_mean"]


def test_timing_counts_syllables_and_pauses() -> None:
    beats = np.concatenate([np.concatenate([buzz(150, 0.15), np.zeros(1600)]) for _ in range(6)])
    found = describe(beats.astype(np.float32))
    assert found["syllable_rate"] == pytest.approx(4, abs=1)
    assert found["voiced_rate"] == pytest.approx(4, abs=1)
    assert found["pause_share"] == pytest.approx(0.35, abs=0.15)
    assert found["voiced_length_mean"] == pytest.approx(0.15, abs=0.04)


def test_the_end_of_long_speech_counts_as_its_beginning() -> None:
    """Ten seconds that are modulated slowly and then fast, forwards and backwards."""
    times = np.arange(10 * RATE) / RATE
    rate = np.where(times < 5, 3.0, 10.0)
    audio = buzz(150, 10.0) * (0.55 + 0.45 * np.sin(2 * np.pi * np.cumsum(rate) / RATE))
    found, turned = (describe(one.astype(np.float32)) for one in (audio, audio[::-1].copy()))
    for name in ("modulation_centre", "modulation_slow_share"):
        assert found[name] == pytest.approx(turned[name], rel=0.05)
    assert 3.5 < found["modulation_centre"] < 9.5


def test_surrounding_silence_changes_little() -> None:
    audio = buzz(150 * 2 ** np.linspace(0, 0.5, RATE), 1.0)
    padded = np.pad(audio, (8000, 8000))
    alone, within = describe(audio), describe(padded)
    for name in ("pitch_mean", "pitch_slope", "level_mean", "voiced_share", "voiced_centroid_mean"):
        assert within[name] == pytest.approx(alone[name], rel=0.1, abs=0.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6000), st.sampled_from([0.0, 1e-7, 1e-3, 1.0]), st.integers(0, 9))
def test_functionals_of_anything_are_finite(size: int, level: float, seed: int) -> None:
    audio = (level * np.random.default_rng(seed).uniform(-1, 1, size)).astype(np.float32)
    found = functionals(audio)
    assert found.shape == (len(names()),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e4


@pytest.mark.parametrize("audio", [np.zeros(0), np.array([np.nan]), np.zeros((2, 99))])
def test_bad_audio_is_the_users_mistake(audio: Audio) -> None:
    with pytest.raises(UserError):
        functionals(audio)
