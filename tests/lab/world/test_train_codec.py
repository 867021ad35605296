"""The training of the codec: its corpus, its losses and its resumption."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rrpo.audio import SAMPLE_RATE
from rrpo.errors import UserError
from rrpo.mini.codec import CodecConfig, MiniCodec
from rrpo.mini.features import (
    FEATURES,
    features,
)
from rrpo.mini.vocoder import Parameters
from rrpo_world.clicks_and_pops import Transient
from rrpo_world.codec_corpus import (
    Corpus,
    crops,
    disturb,
    join,
    read_corpus,
    split,
    training_arrays,
)
from rrpo_world.prosody import Prosody
from rrpo_world.renderer import Rendering
from rrpo_world.train_codec import SHARPEST, compare, losses, mean_losses, measure, train

SMALL = CodecConfig(width=16, encoder_dilations=(1,), decoder_dilations=(1, 2))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small run slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def codec() -> MiniCodec:
    torch.manual_seed(0)
    return MiniCodec(SMALL).eval()


def vowel(seconds: float, pitch: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    orders = np.arange(1, 12)[:, None]
    return (0.05 * np.cos(2 * np.pi * pitch * orders * time).sum(axis=0)).astype(np.float32)


def rendering(seed: int, tokens: int = 30) -> Rendering:
    """Half a steady vowel, half silence, as the renderer would describe it."""
    frames = 8 * tokens
    pitch = 100.0 + 20.0 * seed
    voiced = np.arange(frames) < frames // 2
    audio = vowel(0.04 * tokens, pitch) * np.repeat(voiced, 80)
    envelope = np.where(voiced, 1e-2, 1e-9)[:, None] * np.ones(513)
    return Rendering(
        audio=audio.astype(np.float32),
        f0=np.where(voiced, pitch, 0.0),
        envelope=envelope,
        aperiodicity=np.where(voiced, 0.01, 1.0)[:, None] * np.ones(513),
        transients=[Transient("click", 0.9, 0.3)],
        prosody=Prosody(),
    )


def small_corpus() -> Corpus:
    return join(
        training_arrays(one, one.audio, np.random.default_rng(seed))
        for seed, one in enumerate(map(rendering, range(6)))
    )


def test_training_arrays_hold_the_renderer_s_values() -> None:
    one = rendering(2)
    arrays = training_arrays(one, one.audio)
    assert np.allclose(arrays["audio"], one.audio * 32767, atol=0.51)
    assert np.allclose(arrays["pitch"][:60], np.log(140.0), atol=2e-3)
    assert not arrays["pitch"][60:].any()
    assert np.allclose(arrays["envelope"][:60], np.log(1e-2), atol=0.02)
    assert np.allclose(arrays["aperiodicity"][:60], -40.0, atol=0.05)
    assert np.argwhere(arrays["peaks"]).tolist() == [[22, 0]]


def test_noise_that_is_heard_is_in_the_target() -> None:
    one = rendering(1)
    noise = np.random.default_rng(0).normal(0, 0.02, len(one.audio)).astype(np.float32)
    arrays = training_arrays(one, one.audio + noise)
    # In the silent half the target is the noise's own power.
    assert np.median(arrays["envelope"][70:]) == pytest.approx(2 * np.log(0.02), abs=0.3)
    assert np.allclose(arrays["aperiodicity"][70:], 0.0, atol=0.05)


def test_disturbances_change_sound_and_target_alike() -> None:
    one = rendering(1)
    added = 0
    for seed in range(20):
        changed, heard = disturb(one, one.audio, np.random.default_rng(seed))
        factor = float(np.sqrt(changed.envelope[0, 0] / one.envelope[0, 0]))
        extra = heard - np.float32(factor) * one.audio
        new = [t for t in changed.transients if t not in one.transients]
        if factor == 1.0:
            added += len(new)
            starts = np.flatnonzero(np.abs(extra) > 0.02)
            assert (len(starts) > 0) == (len(new) > 0)
            if new:
                first = min(transient.time for transient in new) * SAMPLE_RATE
                assert abs(starts[0] - first) < 64
    assert added > 3


def test_perfect_parameters_measure_as_perfect() -> None:
    one = rendering(3)
    target = join([training_arrays(one, one.audio)])
    pitch = target.pitch.float()
    spoken = Parameters(
        pitch=torch.where(pitch > 0, torch.exp(pitch), 0.0)[None],
        envelope=target.envelope.float()[None],
        aperiodicity=target.aperiodicity.float()[None],
        click=target.peaks[None, :, 0].float(),
        pop=target.peaks[None, :, 1].float(),
    )
    found = compare(spoken, target)
    assert float(found["pitch_semitones"].max()) < 1e-3
    assert float(found["envelope_decibel"].max()) == 0.0
    assert float(found["click_recall"].min()) == 1.0
    off = replace(spoken, pitch=spoken.pitch * 2.0 ** (1 / 12), click=torch.zeros(1, 30))
    found = compare(off, target)
    assert float(found["pitch_semitones"].mean()) == pytest.approx(1.0, abs=1e-3)
    assert float(found["click_recall"].max()) == 0.0


@pytest.mark.slow
def test_training_lowers_the_loss_and_resumes_exactly(tmp_path: Path) -> None:
    corpus = small_corpus()
    seen: dict[int, float] = {}

    def stop_at(limit: int):  # type: ignore[no-untyped-def]
        def told(step: int, parts: dict[str, float]) -> None:
            seen[step] = sum(parts.values())
            if step == limit:
                raise KeyboardInterrupt

        return told

    whole = train(corpus, tmp_path / "a", 12, 3, SMALL, save_every=5, progress=stop_at(99))
    assert seen[12] < seen[1]
    with pytest.raises(KeyboardInterrupt):
        train(corpus, tmp_path / "b", 12, 3, SMALL, save_every=5, progress=stop_at(8))
    resumed = train(corpus, tmp_path / "b", 12, 3, SMALL, save_every=5)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    with pytest.raises(UserError):
        train(corpus, tmp_path / "b", 12, 4, SMALL)
    # A codec of twelve steps predicts nearly the same everywhere: it is sharpened to the limit.
    assert 1.0 <= float(whole.gain.min()) <= float(whole.gain.max()) <= SHARPEST
    assert float(whole.gain.max()) > 1.0
    assert torch.equal(MiniCodec.load(tmp_path / "a").gain, whole.gain.half().float())
    found = measure(MiniCodec.load(tmp_path / "a"), [rendering(0), rendering(1)])
    assert 1 <= found["codes"] <= 60
    assert found["envelope_decibel"] > 0


def test_loss_is_least_at_the_target(codec: MiniCodec) -> None:
    target = crops(small_corpus(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction = codec.predict(codec.quantise(target.features))
        exact = replace(
            prediction,
            pitch=target.pitch,
            voicing=torch.where(target.pitch > 0, 20.0, -20.0),
            envelope=target.envelope,
            aperiodicity=target.aperiodicity,
            presence=torch.where(target.peaks > 0, 20.0, -20.0),
            peak=torch.log(target.peaks.clamp(min=1e-3)),
        )
    assert sum(float(value) for value in losses(exact, target).values()) < 1e-4
    assert sum(float(value) for value in losses(prediction, target).values()) > 1.0


@pytest.mark.slow
def test_what_is_held_out_shows_speech_learnt_by_heart(tmp_path: Path) -> None:
    corpus = small_corpus()
    tokens = corpus.peaks.shape[0]
    kept, held = split(corpus, 0.1)
    assert kept.peaks.shape[0] + held.peaks.shape[0] == tokens
    assert held.peaks.shape[0] == round(0.1 * tokens)
    for name in ("features", "pitch", "envelope", "aperiodicity", "peaks"):
        both = torch.cat([getattr(kept, name), getattr(held, name)])
        assert torch.equal(both, getattr(corpus, name)), name
    assert held.pitch.shape[0] == 4 * held.peaks.shape[0]
    codec = train(kept, tmp_path, 20, 0, SMALL)
    batch = crops(kept, torch.Generator().manual_seed(0))
    with torch.no_grad():
        once = losses(codec.predict(codec.quantise(batch.features)), batch)
    found = mean_losses(codec, kept, batches=1)
    assert found == {name: pytest.approx(float(value)) for name, value in once.items()}
    with pytest.raises(UserError, match="at least one sentence"):
        split(split(corpus, 1.5 / tokens)[1], 0.9)


def test_corpus_is_read_from_rendered_chunks(tmp_path: Path) -> None:
    one = rendering(0)
    arrays = {f"a/{name}": value for name, value in training_arrays(one, one.audio).items()}
    np.savez(tmp_path / "0000.npz", a=np.zeros(3, dtype=np.int16), **arrays)
    corpus = read_corpus(tmp_path)
    assert corpus.features.shape == (120, FEATURES)
    heard = features(torch.from_numpy(one.audio)[None])[0]
    assert torch.allclose(corpus.features[:50].float(), heard[:50], atol=0.01)
    del arrays["a/audio"]
    np.savez(tmp_path / "0001.npz", **arrays)
    with pytest.raises(UserError, match="render it again"):
        read_corpus(tmp_path)
    with pytest.raises(UserError):
        read_corpus(tmp_path / "nowhere")
