"""The detector on planted clicks and pops, its prediction against scipy, and token loops."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import Artifact, detect
from rrpo.evaluate.artifacts.clicks import levinson, residual
from rrpo.repetition import repetition
from synthetic_speech import RATE, click, sentence, vowel


def pop(peak: float) -> Audio:
    time = np.arange(960) / RATE
    shape = np.sin(2 * np.pi * 75 * time) * np.exp(-time / 0.015)
    return np.asarray(peak * shape / np.abs(shape).max(), np.float32)


def near(found: list[Artifact], kind: str, second: float) -> bool:
    return any(a.kind == kind and a.start - 0.01 <= second <= a.end + 0.01 for a in found)


def test_clean_speech_like_sound_has_no_artifacts() -> None:
    assert [detect(sentence(seed), RATE) for seed in range(0, 40, 10)] == [[]] * 4


def test_planted_clicks_are_found_where_they_are() -> None:
    rng = np.random.default_rng(0)
    hits = []
    for seed in range(0, 80, 10):
        audio = sentence(seed)
        places = [1000, 5000, 9000, 14_000, 22_000, int(audio.size) - 1200]
        for place in places:
            audio[place : place + 32] += click(0.4, rng)
        found = detect(np.clip(audio, -1, 1), RATE)
        hits += [near(found, "click", place / RATE) for place in places]
        assert len([a for a in found if a.kind == "click"]) <= len(places)
        assert all(0 < a.end - a.start <= 0.016 for a in found if a.kind == "click")
    assert np.mean(hits) > 0.8


def test_a_stronger_click_is_stronger() -> None:
    audio = sentence(0)
    strengths = []
    for peak in (0.1, 0.3, 0.6):
        clicked = audio.copy()
        clicked[1000] += peak
        (found,) = detect(clicked, RATE)
        strengths.append(found.strength)
    assert strengths == sorted(strengths)
    assert strengths[2] > 2 * strengths[0]


def test_clicks_in_every_token_do_not_hide_one_another() -> None:
    audio = sentence(0)
    places = np.arange(9800, 13_000, 640)
    for place in places:
        audio[place] += 0.5
    assert sum(near(detect(audio, RATE), "click", place / RATE) for place in places) >= 4


def test_pops_are_found_in_pauses_and_not_in_low_voices() -> None:
    for seed in range(0, 40, 10):
        audio = sentence(seed)
        audio[600:1560] += pop(0.25)
        found = detect(audio, RATE)
        assert [a.kind for a in found] == ["pop"]
        assert abs(found[0].start - 600 / RATE) < 0.02
    assert detect(vowel(1.0, 85.0, 0), RATE) == []


def test_near_clicks_are_one_event_and_far_ones_two() -> None:
    for gap, expected in ((0.004, 1), (0.2, 2)):
        audio = np.random.default_rng(0).normal(0, 1e-3, 16_000).astype(np.float32)
        audio[4000] += 0.5
        audio[4000 + int(gap * RATE)] += 0.5
        assert len(detect(audio, RATE)) == expected


def test_another_rate_finds_the_same_second() -> None:
    audio = np.random.default_rng(0).normal(0, 1e-3, 24_000).astype(np.float32)
    audio[12_000:12_004] += 0.5
    (found,) = detect(audio, 24_000)
    assert found.kind == "click"
    assert found.start == pytest.approx(0.5, abs=0.003)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 99), st.sampled_from([0.0, 1e-6, 0.1, 1.0]))
def test_events_lie_inside_the_audio_and_in_order(size: int, seed: int, level: float) -> None:
    audio = (level * np.random.default_rng(seed).uniform(-1, 1, size)).astype(np.float32)
    found = detect(audio, RATE)
    assert all(0 <= a.start < a.end <= size / RATE + 0.005 for a in found)
    assert [a.start for a in found] == sorted(a.start for a in found)


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(100), np.ones(100), np.zeros(479)])
def test_empty_and_short_audio_has_none(audio: Audio) -> None:
    assert detect(audio, RATE) == []


@pytest.mark.parametrize("audio", [np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((2, 9))])
def test_bad_audio_is_the_users_mistake(audio: Audio) -> None:
    with pytest.raises(UserError):
        detect(audio, RATE)
    with pytest.raises(UserError):
        detect(np.zeros(100, np.float32), 0)


def test_levinson_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    signals = lfilter([1.0], [1.0, -1.2, 0.7], rng.normal(size=(3, 400)))
    lags = np.stack([np.correlate(s, s, "full")[399:418] for s in signals])
    found = levinson(lags)
    for row, lag in zip(found, lags, strict=True):
        assert row[0] == 1.0
        np.testing.assert_allclose(
            row[1:], -solve_toeplitz(lag[:-1], lag[1:]), rtol=1e-6, atol=1e-9
        )


def test_the_residual_of_a_predictable_sound_is_its_excitation() -> None:
    excitation = np.random.default_rng(1).normal(0, 0.1, 8000)
    signal = lfilter([1.0], [1.0, -1.6, 0.9], excitation)
    found = residual(signal)
    assert found.shape == signal.shape
    assert np.corrcoef(found[200:-200], excitation[200:-200])[0, 1] > 0.95


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("hibari") is None, reason="hibari-tts is not installed"
)
def test_planted_clicks_raise_the_count_in_real_synthetic_speech() -> None:
    import soxr
    from hibari import Hibari

    voice = Hibari()
    rng = np.random.default_rng(0)
    plain, clicked = 0, 0
    for text in ("The river is very cold today.", "We will meet them near the old house."):
        spoken = soxr.resample(np.asarray(voice(text, seed=0), np.float32), 24_000, RATE)
        audio = np.asarray(0.7 * spoken / np.abs(spoken).max(), np.float32)
        plain += len(detect(audio, RATE))
        for place in np.linspace(0.1, 0.9, 6) * audio.size:
            audio[int(place) : int(place) + 32] += click(0.35, rng)
        clicked += len(detect(np.clip(audio, -1, 1), RATE))
    assert clicked >= plain + 7


def repeated_by_hand(ids: list[int]) -> float:
    """Every stretch tried, straight from the definition."""
    marked = [False] * len(ids)
    for period in range(1, 17):
        length = 5 if period == 1 else 3 * period
        for start in range(len(ids) - length + 1):
            stretch = ids[start : start + length]
            if all(stretch[i] == stretch[i - period] for i in range(period, length)):
                marked[start : start + length] = [True] * length
    return sum(marked) / max(1, len(ids))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 5))
def test_repetition_is_its_definition(ids: list[int], copies: int) -> None:
    ids = ids[:12] * copies + ids[12:]
    assert repetition(ids) == pytest.approx(repeated_by_hand(ids))


def test_repetition_of_known_tokens() -> None:
    assert repetition(np.arange(100)) == 0.0
    assert repetition([9, *[1, 2, 3] * 3]) == pytest.approx(0.9)
    assert repetition([4] * 4) == 0.0
    assert repetition([4] * 5) == 1.0
    assert repetition([]) == 0.0
    with pytest.raises(UserError):
        repetition([0.5, 1.0])
    with pytest.raises(UserError):
        repetition([[1], [2]])
