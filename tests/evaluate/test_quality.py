"""The installed quality predictors: order, repeatability, edges."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo.evaluate.panel import Judges, Sample, measure

pytestmark = pytest.mark.thorough

NAMES = {"dnsmos_overall", "dnsmos_signal", "dnsmos_p808", "plcmos", "distillmos"}


def scorer(name: str) -> quality.Scorer:
    found = quality.available()
    if name not in found:
        pytest.skip(quality.missing()[name])
    return found[name]


@pytest.fixture(scope="module")
def speech() -> Audio:
    if importlib.util.find_spec("hibari") is None:
        pytest.skip("hibari-tts is not installed")
    import soxr
    from hibari import Hibari

    voice = Hibari()
    spoken = np.asarray(voice("The river is cold today.", seed=0), np.float32)
    resampled = soxr.resample(spoken, voice.sample_rate, 16_000)
    return np.asarray(0.7 * resampled / np.abs(resampled).max(), np.float32)


def with_clicks(audio: Audio, count: int) -> Audio:
    clicked = audio.copy()
    for place in np.linspace(0.1, 0.9, count) * audio.size:
        start = int(place)
        clicked[start : start + 16] += 0.4 * np.exp(-np.arange(16) / 4) * (-1.0) ** np.arange(16)
    return np.clip(clicked, -1, 1)


def test_every_name_is_either_available_or_missing_with_a_command() -> None:
    found, lacking = quality.available(), quality.missing()
    assert set(found) | set(lacking) == NAMES
    assert not set(found) & set(lacking)
    assert all("pip install" in reason for reason in lacking.values())


def test_speech_scores_above_noise_and_silence_is_finite(speech: Audio) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, speech.size).astype(np.float32)
    found = quality.score([speech, noise, np.zeros(16_000, np.float32)])
    assert set(found) == set(quality.available())
    for name, (clean, poor, silent) in found.items():
        assert 0.9 <= poor < clean <= 5.2, name
        assert np.isfinite(silent), name


@pytest.mark.parametrize("name", ["plcmos", "distillmos"])
def test_a_score_repeats_whatever_was_scored_between(name: str, speech: Audio) -> None:
    rate = scorer(name)
    first = rate(speech)
    assert rate(speech[: speech.size // 2]) != first
    assert rate(speech.copy()) == first


@pytest.mark.parametrize("name", ["plcmos", "distillmos"])
def test_clicks_lower_the_score_of_those_that_hear_them(name: str, speech: Audio) -> None:
    rate = scorer(name)
    assert rate(with_clicks(speech, 10)) < rate(speech) - 0.3


@pytest.mark.parametrize("name", ["dnsmos_signal", "plcmos", "distillmos"])
def test_one_sample_beyond_full_scale_gives_a_finite_score(name: str) -> None:
    assert np.isfinite(scorer(name)(np.full(1, 3.0, np.float32)))


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize(
    "audio", [np.zeros(0), np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((2, 100))]
)
def test_bad_audio_is_the_users_mistake(name: str, audio: Audio) -> None:
    with pytest.raises(UserError):
        scorer(name)(audio)


@pytest.mark.parametrize("size", [1600, 16_000, 144_000])
def test_the_features_of_p808_are_librosas(size: int) -> None:
    librosa = pytest.importorskip("librosa", reason="the oracle")
    audio = np.random.default_rng(0).normal(0, 0.1, size).astype(np.float32)
    audio[size // 2 :] = 0.0
    oracle = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=321, hop_length=160, n_mels=120
    )
    level = librosa.power_to_db(oracle, ref=np.max)
    np.testing.assert_allclose(quality.dnsmos_mel(audio), (level.T + 40) / 40, atol=1e-5)


@pytest.mark.parametrize("seconds", [9.01, 10.5, 17.2])
def test_dnsmos_is_the_packages(seconds: float) -> None:
    scorer("dnsmos_overall")
    for name in ("librosa", "requests"):
        pytest.importorskip(name, reason="the package imports it")
    oracle = importlib.import_module("speechmos.dnsmos")
    audio = np.random.default_rng(1).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
    found = oracle.run(audio, 16_000)
    for name, key in (("overall", "ovrl_mos"), ("signal", "sig_mos"), ("p808", "p808_mos")):
        assert scorer(f"dnsmos_{name}")(audio) == pytest.approx(float(found[key]), abs=1e-5)


def test_all_that_is_installed_listens_at_once(speech: Audio) -> None:
    """Scorers and recogniser work side by side and hear what each hears alone."""
    judges = Judges.installed(None)
    if not judges.quality or judges.recogniser is None:
        pytest.skip("a scorer and the recogniser are not both installed")
    halves = np.array_split(speech, 2)
    samples = [
        Sample(str(n), "Hello.", "happy", torch.arange(5), half) for n, half in enumerate(halves)
    ]
    for row, half in zip(measure(samples, {}, judges), halves, strict=True):
        alone = {name: rate(half) for name, rate in quality.available().items()}
        assert row["quality"] == pytest.approx(alone)
        assert row["content_error"] is not None


def test_the_callers_threads_and_modules_are_left_alone(speech: Audio) -> None:
    import torch

    before = torch.get_num_threads()
    scorer("distillmos")(speech)
    assert torch.get_num_threads() == before
    stand_in = sys.modules.get("torchaudio")
    assert stand_in is None or stand_in.__spec__ is not None


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    quality.load_speechmos.cache_clear()
    quality.load_distillmos.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", refuse)
        patch.setattr(importlib.util, "find_spec", lambda _: None)
        yield
    quality.load_speechmos.cache_clear()
    quality.load_distillmos.cache_clear()


@pytest.mark.usefixtures("nothing_installed")
def test_without_the_packages_all_are_missing() -> None:
    assert quality.available() == {}
    assert quality.score([np.zeros(100, np.float32)]) == {}
    assert set(quality.missing()) == NAMES
    assert "pip install --no-deps distillmos" in quality.missing()["distillmos"]
