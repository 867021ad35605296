import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo_world.bending import F0_LIMITS, Voice, bend_f0, breathe, shape_envelope, warp_time
from rrpo_world.clicks_and_pops import click, onsets, pop
from rrpo_world.frames import BINS, FLOOR, Analysis
from rrpo_world.prosody import NOT_NEGATIVE, PARAMETERS, RULES, SPREAD, Prosody, draw_prosody
from rrpo_world.renderer import VOICES, Renderer, Rendering, level_factor

HEART = VOICES["heart"]
PLAIN = Prosody()


def drawn(intensity: float, count: int, seed: int) -> NDArray[np.float64]:
    """Parameters (emotion, utterance, parameter) of many utterances."""
    rng = np.random.default_rng(seed)
    return np.array(
        [
            [
                [getattr(prosody, name) for name in PARAMETERS]
                for prosody in (draw_prosody(emotion, intensity, rng) for _ in range(count))
            ]
            for emotion in EMOTIONS
        ]
    )


def best_accuracy(intensity: float) -> float:
    """Accuracy of Gaussian classes fitted to the true parameters, on other draws."""
    ridge = 1e-5 * np.eye(len(PARAMETERS))
    known, unseen = drawn(intensity, 700, 0), drawn(intensity, 250, 1)
    scores = []
    for values in known:
        covariance = np.cov(values.T) + ridge
        departure = unseen - values.mean(axis=0)
        distance = np.einsum("kni,ij,knj->kn", departure, np.linalg.inv(covariance), departure)
        scores.append(-distance - np.linalg.slogdet(covariance)[1])
    found = np.argmax(scores, axis=0)
    return float((found == np.arange(len(EMOTIONS))[:, None]).mean())


@pytest.mark.slow
def test_classes_overlap_more_at_low_intensity() -> None:
    faint, middle, strong = (best_accuracy(intensity) for intensity in (0.1, 0.25, 0.9))
    assert 1 / 6 + 0.1 < faint < 0.55
    assert 0.6 < middle < 0.85
    assert strong > 0.97


@pytest.mark.slow
def test_draws_have_the_table_s_mean_and_spread() -> None:
    values = drawn(1.0, 4000, 3)
    for row, emotion in zip(values, EMOTIONS, strict=True):
        for column, name in enumerate(PARAMETERS):
            if name in NOT_NEGATIVE:
                assert row[:, column].min() >= 0.0
                continue
            rule, spread = getattr(RULES[emotion], name), getattr(SPREAD, name)
            # The weight is uniform in [0.6, 1.2]: mean 0.9, deviation 0.6 / sqrt(12).
            assert row[:, column].mean() == pytest.approx(0.9 * rule, abs=0.1 * spread)
            expected = np.hypot(spread, rule * 0.6 / np.sqrt(12))
            assert row[:, column].std() == pytest.approx(expected, rel=0.08)


def test_rules_name_every_emotion_and_neutral_has_none() -> None:
    assert tuple(RULES) == EMOTIONS
    assert RULES["neutral"] == Prosody()
    assert tuple(field.name for field in fields(Prosody)) == PARAMETERS


@pytest.mark.parametrize("intensity", [-0.1, 1.1, float("nan")])
def test_intensity_outside_its_range(intensity: float) -> None:
    with pytest.raises(UserError, match="intensity"):
        draw_prosody("sad", intensity, np.random.default_rng(0))


def test_unknown_emotion() -> None:
    with pytest.raises(UserError, match="unknown emotion 'bored'"):
        draw_prosody("bored", 0.5, np.random.default_rng(0))


def tone(frames: int = 200) -> Analysis:
    """A voiced stretch at 200 Hz with one formant at 1 kHz, unvoiced in the last quarter."""
    f0 = np.where(np.arange(frames) < frames * 3 // 4, 200.0, 0.0)
    frequency = np.linspace(0.0, 8000.0, BINS)
    shape = 1e-3 * np.exp(-(((frequency - 1000.0) / 300.0) ** 2)) + 1e-8
    return Analysis("a tone", f0, np.tile(shape, (frames, 1)), np.full((frames, BINS), 0.2))


@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.25])
def test_time_is_stretched_by_the_rate(rate: float) -> None:
    source = tone()
    warped = warp_time(source, rate, np.random.default_rng(0))
    active = np.flatnonzero(warped.envelope.max(axis=1) > 1e-6)
    assert len(warped.f0) % 8 == 0
    assert (warped.f0 > 0).sum() == pytest.approx(150 * np.exp(-1.15 * rate), abs=2)
    unvoiced = len(active) - (warped.f0 > 0).sum()
    assert unvoiced == pytest.approx(50 * np.exp(-0.7 * rate), abs=2)


def test_f0_follows_level_voice_and_final_rise() -> None:
    f0 = tone().f0
    rng = np.random.default_rng(0)
    voiced = f0 > 0
    higher = bend_f0(f0, replace(PLAIN, level=12.0), HEART, rng)
    assert higher[voiced] == pytest.approx(400.0)
    assert (higher[~voiced] == 0.0).all()
    assert bend_f0(f0, PLAIN, Voice(f0=0.5), rng)[voiced] == pytest.approx(100.0)
    rising = bend_f0(f0, replace(PLAIN, final=6.0), HEART, rng)
    assert rising[149] == pytest.approx(200.0 * 2**0.5)
    assert rising[:79] == pytest.approx(200.0)
    extreme = bend_f0(f0, replace(PLAIN, level=40.0), HEART, rng)
    assert extreme[voiced].max() == F0_LIMITS[1]


def test_span_scales_the_excursions() -> None:
    f0 = 200.0 * 2.0 ** (np.sin(np.arange(300) / 20.0) / 12.0)
    rng = np.random.default_rng(0)
    narrow = bend_f0(f0, replace(PLAIN, span=-0.7), HEART, rng)
    plain = bend_f0(f0, PLAIN, HEART, rng)
    ratio = np.std(np.log(narrow)) / np.std(np.log(plain))
    assert ratio == pytest.approx(np.exp(-0.7), rel=0.01)


def test_formants_move_with_the_voice() -> None:
    rng = np.random.default_rng(0)
    source = tone()
    shaped = shape_envelope(source.envelope, source.f0 > 0, PLAIN, replace(HEART, formant=1.2), rng)
    assert shaped[10].argmax() * 15.625 == pytest.approx(1200.0, abs=20.0)


def test_tilt_pivots_at_one_kilohertz() -> None:
    flat = np.full((20, BINS), 1e-4)
    voiced = np.arange(20) < 10
    shaped = shape_envelope(flat, voiced, replace(PLAIN, tilt=3.0), HEART, np.random.default_rng(0))
    change = 10.0 * np.log10(shaped / flat)
    assert change[5, [32, 64, 128, 256]] == pytest.approx([-3.0, 0.0, 3.0, 6.0], abs=0.01)
    assert change[15, 256] == pytest.approx(3.0, abs=0.01)


def test_breathiness_moves_only_the_upper_part_of_voiced_frames() -> None:
    aperiodicity = np.full((2, BINS), 0.2)
    voiced = np.array([True, False])
    breathy = breathe(aperiodicity, voiced, replace(PLAIN, breathiness=0.5), HEART)
    tense = breathe(aperiodicity, voiced, replace(PLAIN, breathiness=-0.5), HEART)
    assert breathy[0, -1] == pytest.approx(0.6, abs=1e-3)
    assert tense[0, -1] == pytest.approx(0.1, abs=1e-3)
    assert breathy[0, 10] == pytest.approx(0.2, abs=0.02)
    assert (breathy[1] == 0.2).all()
    assert (tense[1] == 0.2).all()


def test_level_is_that_of_active_speech_with_a_limit_on_peaks() -> None:
    time = np.arange(16_000) / 16_000
    soft = np.concatenate([np.zeros(16_000), 1e-3 * np.sin(2 * np.pi * 200 * time)])
    scaled = soft[16_000:] * level_factor(soft, gain=3.0)
    assert 10 * np.log10(np.mean(scaled**2)) == pytest.approx(-19.0, abs=0.05)
    peaky = soft.copy()
    peaky[20_000] = 1.0
    assert np.abs(peaky * level_factor(peaky, gain=0.0)).max() == pytest.approx(0.8)


def test_pop_is_low_and_click_is_short_and_wide() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        low, short = pop(0.3, rng), click(0.2, rng)
        assert np.abs(low).max() == pytest.approx(0.3)
        assert np.abs(short).max() == pytest.approx(0.2)
        power = np.abs(np.fft.rfft(low, 16_000)) ** 2
        assert power[:250].sum() > 0.85 * power.sum()
        assert 16 <= len(short) <= 48
        wide = np.abs(np.fft.rfft(short, 16_000)) ** 2
        assert wide[2000:].sum() > 0.4 * wide.sum()


def test_onsets_are_found_after_a_closure() -> None:
    envelope = np.full((100, BINS), FLOOR)
    envelope[20:50] = 1e-4
    envelope[60:90] = 1e-4
    assert onsets(envelope).tolist() == pytest.approx([20, 60], abs=2)


@pytest.mark.parametrize("missing", ["pyworld", "hibari"])
def test_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pip install 'rrpo\[mini\]'"):
        Renderer()


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """The packaged voice, where it is installed."""
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    return Renderer()


@pytest.fixture(scope="module")
def analysis(renderer: Renderer) -> Analysis:
    """One plain reading."""
    return renderer.analyse("The teacher put the green book on the table.")


@pytest.fixture(scope="module")
def acted(renderer: Renderer, analysis: Analysis) -> dict[str, list[Rendering]]:
    """Eight strong renderings of each emotion; draw i has the same chance in all of them."""
    return {
        emotion: [
            renderer.render(analysis, emotion, 1.0, HEART, np.random.default_rng(seed))
            for seed in range(8)
        ]
        for emotion in EMOTIONS
    }


@pytest.mark.slow
def test_analysis_is_repeatable(renderer: Renderer, analysis: Analysis) -> None:
    again = renderer.analyse(analysis.text)
    assert np.array_equal(again.f0, analysis.f0)
    assert np.array_equal(again.envelope, analysis.envelope)
    assert analysis.envelope.shape == analysis.aperiodicity.shape == (len(analysis.f0), BINS)
    assert 1.2 < len(analysis.f0) * 0.005 < 4.0


@pytest.mark.slow
def test_text_without_speech(renderer: Renderer) -> None:
    with pytest.raises(UserError, match="gives no speech"):
        renderer.analyse("...")


@pytest.mark.slow
def test_same_seed_same_rendering(renderer: Renderer, analysis: Analysis) -> None:
    first, second, other = (
        renderer.render(analysis, "angry", 0.7, VOICES["birch"], np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first.audio, second.audio)
    assert first.transients == second.transients
    assert not np.array_equal(first.audio[:20_000], other.audio[:20_000])


@pytest.mark.slow
def test_rendering_holds_what_was_synthesized(acted: dict[str, list[Rendering]]) -> None:
    world = pytest.importorskip("pyworld")
    checked = 0
    for rendering in (one for rows in acted.values() for one in rows[:3]):
        frames = len(rendering.f0)
        assert rendering.audio.dtype == np.float32
        assert rendering.audio.shape == (80 * frames,)
        assert frames % 8 == 0
        assert rendering.envelope.shape == rendering.aperiodicity.shape == (frames, BINS)
        assert np.abs(rendering.audio).max() < 1.0
        if not rendering.transients:
            again = world.synthesize(
                rendering.f0, rendering.envelope, rendering.aperiodicity, 16_000, 5.0
            )
            again = np.pad(again, (0, 80))[: 80 * frames]
            # WORLD guards its logarithms with a constant, so scaling is not exact to the last bit.
            assert np.std(again - rendering.audio) < 2e-3 * np.std(again)
            checked += 1
    assert checked >= 5


@pytest.mark.slow
def test_transients_are_where_the_list_says(renderer: Renderer, analysis: Analysis) -> None:
    world = pytest.importorskip("pyworld")
    kinds: list[str] = []
    for seed in range(20):
        one = renderer.render(analysis, "angry", 1.0, HEART, np.random.default_rng(seed))
        dry = world.synthesize(one.f0, one.envelope, one.aperiodicity, 16_000, 5.0)
        added = one.audio - np.pad(dry, (0, 80))[: len(one.audio)]
        away = np.ones(len(added), dtype=bool)
        for transient in one.transients:
            start = round(transient.time * 16_000)
            length = 48 if transient.kind == "click" else 960
            away[start : start + length] = False
            assert np.abs(added[start : start + length]).max() > 0.5 * transient.peak
            kinds.append(transient.kind)
        assert np.std(added[away]) < 2e-3 * np.std(dry)
    assert kinds.count("pop") >= 5
    assert set(kinds) <= {"pop", "click"}


def means(rows: list[Rendering]) -> dict[str, float]:
    """Figures of a group of renderings, averaged."""
    semitones = [12 * np.log2(one.f0[one.f0 > 0]) for one in rows]
    return {
        "level": float(np.mean([values.mean() for values in semitones])),
        "span": float(np.mean([values.std() for values in semitones])),
        "final": float(np.mean([values[-8:].mean() - values.mean() for values in semitones])),
        "seconds": float(np.mean([len(one.audio) / 16_000 for one in rows])),
        "energy": float(np.mean([10 * np.log10(np.mean(one.audio**2)) for one in rows])),
        "bright": float(
            np.mean(
                [10 * np.log10(one.envelope[:, 128:].sum() / one.envelope.sum()) for one in rows]
            )
        ),
    }


@pytest.mark.slow
def test_emotions_move_the_voice_as_the_sources_say(
    acted: dict[str, list[Rendering]],
) -> None:
    found = {emotion: means(rows) for emotion, rows in acted.items()}
    neutral = found["neutral"]
    for emotion in ("angry", "happy", "surprised", "fearful"):
        assert found[emotion]["level"] > neutral["level"] + 1.0
    assert found["sad"]["level"] < neutral["level"] - 1.0
    assert found["sad"]["span"] < neutral["span"] < found["happy"]["span"]
    assert found["surprised"]["final"] > neutral["final"] + 2.5
    assert found["fearful"]["seconds"] < neutral["seconds"] < found["sad"]["seconds"]
    assert 5.0 < found["angry"]["energy"] - found["sad"]["energy"] < 11.0
    assert found["sad"]["bright"] < neutral["bright"] < found["angry"]["bright"]


def test_voices_differ(renderer: Renderer, analysis: Analysis) -> None:
    assert VOICES["heart"] == Voice()
    assert len(VOICES) >= 7
    levels = {
        name: means([renderer.render(analysis, "neutral", 0.0, voice, np.random.default_rng(1))])
        for name, voice in VOICES.items()
    }
    drop = levels["heart"]["level"] - levels["birch"]["level"]
    assert drop == pytest.approx(-12 * np.log2(0.56), abs=0.3)
    assert levels["linden"]["level"] > levels["heart"]["level"] + 3.0
