"""Equal loudness without a limiter, and the sounds of checks."""

import numpy as np
import pytest

from recorded_systems import noise
from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
from rrpo.listen.loudness import amplified, beeps, degraded, level, loudness_of


def named(*sounds: Audio) -> list[tuple[str, Audio, int]]:
    return [(f"sound {number}", one, SAMPLE_RATE) for number, one in enumerate(sounds)]


def test_a_full_scale_tone_has_the_loudness_of_the_standard() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(48_000) / 48_000).astype(np.float32)
    assert loudness_of(tone, 48_000) == pytest.approx(-3.01, abs=0.05)
    assert loudness_of(tone[:9600], 48_000) == pytest.approx(-3.01, abs=0.1)  # under a block


def test_quiet_and_loud_sounds_become_equally_loud() -> None:
    sounds = [noise(level=0.001), noise(1.0, level=0.1), noise(0.2, level=0.02)]
    levels = level(named(*sounds), -26.0)
    made = [amplified(one, gain) for one, gain in zip(sounds, levels.gains, strict=True)]
    assert [loudness_of(one, SAMPLE_RATE) for one in made] == pytest.approx([-26.0] * 3, abs=0.01)
    assert levels.notes == []


def test_a_peak_lowers_all_sounds_alike_and_no_sample_is_cut() -> None:
    peaked = noise(1.0, level=0.01)
    peaked[8000] = 0.5
    sounds = [peaked, noise(1.0)]
    levels = level(named(*sounds), -23.0)
    made = [amplified(one, gain) for one, gain in zip(sounds, levels.gains, strict=True)]
    first, second = (loudness_of(one, SAMPLE_RATE) for one in made)
    assert first < -23.5
    if "too quiet" not in " ".join(levels.notes):
        assert first == pytest.approx(second, abs=0.01)
    assert max(float(np.abs(one).max()) for one in made) <= 10 ** (-1 / 20) + 1e-6
    assert "quieter than -23 LUFS" in levels.notes[0]


def test_silence_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="sound 1: nothing is heard"):
        level(named(noise(), np.zeros(16_000, dtype=np.float32)), -23.0)


def test_what_is_too_quiet_is_named_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"sound 1 is too quiet: under -70 LUFS.*louder recording"):
        level(named(noise(), noise(level=1e-5)), -23.0)
    peaked = noise(1.0, level=1e-4)
    peaked[8000] = 0.5
    (lowered, note) = level(named(peaked, noise()), -23.0).notes
    assert note.startswith("sound 0 is too quiet: ") and "leave its text out" in note
    assert "dB under the others" in note and "quieter than -23 LUFS" in lowered


def test_the_low_anchor_is_dull_noisy_and_clicks() -> None:
    sound = noise(2.0)
    low = degraded(sound, SAMPLE_RATE, 0)
    power = np.abs(np.fft.rfft(low)) ** 2
    own = np.abs(np.fft.rfft(sound)) ** 2
    high = np.fft.rfftfreq(sound.size, 1 / SAMPLE_RATE) > 4500
    assert low.size == sound.size
    assert power[high].sum() < 0.2 * own[high].sum()
    assert (degraded(sound, SAMPLE_RATE, 0) == low).all()


@pytest.mark.parametrize("count", [2, 6])
def test_beeps_can_be_counted(count: int) -> None:
    loud = np.convolve(np.abs(beeps(count)), np.ones(400) / 400, "same") > 0.02
    assert int(np.diff(loud.astype(int)).clip(0).sum()) == count
