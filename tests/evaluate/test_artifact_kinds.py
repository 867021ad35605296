"""Loops, stuck sound, silence, clipping and quality drops on sounds whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import (
    KINDS,
    THRESHOLDS,
    TRANSIENTS,
    Scores,
    detect,
    scores,
)
from rrpo.evaluate.artifacts.events import loudness
from synthetic_speech import RATE, click, sentence, vowel


def kinds(audio: Audio, *wanted: str) -> list[str]:
    return [artifact.kind for artifact in detect(audio, RATE, wanted or KINDS)]


def syllables(seconds: float, seed: int) -> Audio:
    """Sound that changes every 50 ms and never comes back."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(int(seconds / 0.05)):
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * np.arange(800) / RATE)
        parts.append(rng.uniform(0.1, 0.5) * tone * np.hanning(800))
    return np.asarray(np.concatenate(parts), np.float32)


@pytest.mark.parametrize("period", [0.09, 0.1234, 0.25, 0.4])
def test_a_stretch_said_three_times_is_a_loop_and_twice_is_none(period: float) -> None:
    audio, size = syllables(2.0, 1), int(period * RATE)
    part = audio[8000 : 8000 + size]
    for rounds, expected in ((2, 0), (3, 1), (5, 1)):
        looped = np.concatenate([audio[:8000], np.tile(part, rounds), audio[8000 + size :]])
        found = detect(looped, RATE, ["repetition"])
        assert len(found) == expected
        if found:
            assert found[0].start == pytest.approx(0.5, abs=max(0.05, 0.7 * period))
            assert found[0].end == pytest.approx(0.5 + rounds * period, abs=max(0.05, 0.7 * period))


def test_a_held_vowel_is_no_loop_and_wandering_speech_is_not_stuck() -> None:
    assert kinds(vowel(1.5, 120.0, 0), "repetition") == []
    for seed in range(3):
        assert kinds(sentence(seed), "repetition", "stuck") == []


@pytest.mark.parametrize("frame", [0.02, 0.04, 0.055])
def test_a_frame_that_is_held_is_stuck(frame: float) -> None:
    audio, size = sentence(0), int(frame * RATE)
    part = audio[4000 : 4000 + size]
    times = int(0.5 / frame)
    held = np.concatenate([audio[:4000], np.tile(part, times), audio[4000 + size :]])
    (found,) = detect(held, RATE, ["stuck"])
    assert found.start == pytest.approx(0.25, abs=0.08)
    assert found.end == pytest.approx(0.25 + times * frame, abs=0.08)


def test_a_gap_is_silent_from_its_limit_on_and_an_end_from_its_own() -> None:
    part = vowel(0.5, 150.0, 0)
    for gap, expected in ((0.7, []), (0.9, ["silence"])):
        audio = np.concatenate([part, np.zeros(int(gap * RATE), np.float32), part])
        assert kinds(audio, "silence") == expected
    for end, expected in ((1.3, []), (1.8, ["silence"])):
        quiet = np.zeros(int(end * RATE), np.float32)
        assert kinds(np.concatenate([quiet, part]), "silence") == expected
        assert kinds(np.concatenate([part, quiet]), "silence") == expected


def test_a_silence_says_where_it_is_and_a_click_does_not_end_it() -> None:
    part = np.asarray(0.3 * np.sin(np.arange(8000) * 0.1), np.float32)
    audio = np.concatenate([part, np.zeros(16_000, np.float32), part])
    audio[16_000] += 0.2
    (found,) = detect(audio, RATE, ["silence"])
    assert found.start == pytest.approx(0.5, abs=0.011)
    assert found.end == pytest.approx(1.5, abs=0.011)
    assert found.strength == pytest.approx(1 / 0.8, rel=0.02)


@pytest.mark.parametrize("seconds", [0.035, 0.4, 3.0])
@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_a_mute_utterance_is_one_silence_from_begin_to_end(level: float, seconds: float) -> None:
    """Digital zeros, and noise at -80 dB, in which loops and flat tops are not looked for."""
    size = int(seconds * RATE) + 7
    audio = (level * np.random.default_rng(0).standard_normal(size)).astype(np.float32)
    (found,) = detect(audio, RATE)
    assert (found.kind, found.start, found.end) == ("silence", 0.0, size / RATE)
    assert found.strength == pytest.approx(max(1.0, size / RATE / 1.5))
    assert kinds(audio, "click", "clipping", "stuck") == []
    score = scores(audio, RATE)
    assert score["silence"].highest(0.0, seconds) == found.strength
    assert score["click"].highest(0.0, seconds) == 0.0


def test_a_soft_utterance_is_not_mute_and_a_click_in_nothing_does_not_end_the_silence() -> None:
    assert "silence" not in kinds(np.asarray(2e-3 * vowel(0.6, 120.0, 0) / 0.7, np.float32))
    clicked = np.zeros(3 * RATE, np.float32)
    clicked[20_000] = 0.5
    assert kinds(clicked, "silence") == ["silence"]


@pytest.mark.parametrize("top", [0.05, 0.2, 0.9])
def test_cut_tops_are_clipping_at_any_level(top: float) -> None:
    audio = vowel(0.6, 120.0, 0)
    assert kinds(audio, "clipping") == []
    cut = np.asarray(audio / 0.7, np.float64)
    cut = np.clip(cut, -0.5, 0.5) * 2 * top
    in_16_bits = np.round(cut * 32767) / 32768
    assert set(kinds(in_16_bits, "clipping")) == {"clipping"}
    assert "clipping" not in kinds(np.sin(2 * np.pi * 60 * np.arange(8000) / RATE), "clipping")


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.floats(0.35, 1.4), st.integers(0, 5))
def test_gain_within_reason_changes_no_decision(gain: float, seed: int) -> None:
    audio = damaged(seed)
    before = detect(audio, RATE, kinds=[k for k in KINDS if k != "pop"])
    after = detect(np.asarray(gain * audio), RATE, kinds=[k for k in KINDS if k != "pop"])
    assert [a.kind for a in after] == [a.kind for a in before]
    assert [a.start for a in after] == pytest.approx([a.start for a in before], abs=0.011)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(0, 5))
def test_a_shift_in_time_shifts_the_marks(steps: int, seed: int) -> None:
    audio, later = damaged(seed), steps * 640
    moved = np.concatenate([np.zeros(later, np.float32), audio])
    wanted = [kind for kind in KINDS if kind != "silence"]
    before, after = detect(audio, RATE, wanted), detect(moved, RATE, wanted)
    assert [a.kind for a in after] == [a.kind for a in before]
    for one, other in zip(before, after, strict=True):
        assert other.start == pytest.approx(one.start + later / RATE, abs=0.021)


def damaged(seed: int) -> Audio:
    """A sentence with a loud click in a pause, a loop and a gap."""
    audio = sentence(seed) * 0.7
    audio[1000:1032] += click(0.3, np.random.default_rng(seed))
    part = syllables(0.2, seed)
    gap = np.zeros(15_000, np.float32)
    return np.asarray(np.concatenate([audio, np.tile(part, 4), gap, audio[2000:9000]]), np.float32)


def test_an_artifact_is_where_the_score_reaches_the_threshold() -> None:
    audio = damaged(0)
    for kind, score in scores(audio, RATE).items():
        found = detect(audio, RATE, [kind])
        reached = score.values >= THRESHOLDS[kind]
        assert bool(found) == bool(reached.any())
        for artifact in found:
            assert artifact.strength == score.highest(artifact.start, artifact.end - 1e-9)


def test_the_highest_score_is_that_of_the_blocks_touched() -> None:
    score = Scores(np.array([1.0, 5.0, 2.0]), 0.01)
    assert score.highest(0.0, 0.01) == 1.0
    assert score.highest(0.0, 0.011) == 5.0
    assert score.highest(0.02, 9.0) == 2.0
    assert score.highest(-1.0, -0.5) == 1.0
    assert score.highest(3.0, 4.0) == 0.0


def test_loudness_is_that_of_a_steady_tone_and_a_click_does_not_move_it() -> None:
    tone = 0.5 * np.sin(np.arange(16_000) * 0.3)
    assert loudness(tone) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    clicked = tone.copy()
    clicked[100] = 1.0
    assert loudness(clicked) == pytest.approx(loudness(tone), rel=0.01)


def test_an_unknown_kind_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no artifact of kind 'hiss': one of click, pop"):
        detect(np.zeros(1000), RATE, ["hiss"])
    assert set(TRANSIENTS) < set(KINDS)
