"""The codec: features, quantiser and round trips."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrpo.audio import SAMPLE_RATE
from rrpo.errors import UserError
from rrpo.mini.codec import CodecConfig, MiniCodec
from rrpo.mini.features import (
    FEATURES,
    LAGS,
    MEL_BANDS,
    features,
    hertz_to_mel,
    mel_to_hertz,
    pitch_grid,
)
from rrpo.mini.world import World
from rrpo.tokens import digits

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


def test_mel_scale_inverts() -> None:
    hertz = torch.linspace(0.0, 8000.0, 50, dtype=torch.float64)
    assert torch.allclose(mel_to_hertz(hertz_to_mel(hertz)), hertz)
    assert float(hertz_to_mel(torch.tensor(1000.0))) == pytest.approx(1000.0, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.floats(80.0, 480.0))
def test_pitch_features_peak_at_the_period(pitch: float) -> None:
    heard = features(torch.from_numpy(vowel(0.4, pitch))[None])[0, 20]
    correlation = heard[MEL_BANDS : MEL_BANDS + LAGS]
    nearest = int((pitch_grid() - pitch).abs().argmin())
    # Multiples of the period score nearly as high; none may beat the period itself by much.
    assert float(correlation[nearest]) > float(correlation.max()) - 0.1
    # Between two lags of the grid, which are up to 6.4 samples apart, the peak itself is missed.
    if abs(SAMPLE_RATE / pitch - SAMPLE_RATE / float(pitch_grid()[nearest])) < 2.5:
        assert float(correlation[nearest]) > 0.9
    on_the_grid = torch.from_numpy(vowel(0.4, float(pitch_grid()[nearest])))[None]
    assert float(features(on_the_grid)[0, 20, MEL_BANDS + nearest]) > 0.97


def test_features_move_with_the_audio() -> None:
    audio = torch.randn(1, 6400, generator=torch.Generator().manual_seed(0)) * 0.1
    heard, later = features(audio)[0], features(audio[:, 160:])[0]
    assert heard.shape == (40, FEATURES)
    assert torch.allclose(heard[6:-6], later[5:-6], atol=1e-3)


def test_transient_features_see_a_click() -> None:
    audio = torch.zeros(1, 1600)
    audio[0, 815] = 0.3
    fine = features(audio)[0, :, MEL_BANDS + LAGS : MEL_BANDS + LAGS + 8]
    assert divmod(int(fine.flatten().argmax()), 8) == (5, 0)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4000))
def test_one_token_lasts_forty_milliseconds(codec: MiniCodec, samples: int) -> None:
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    ids = codec.encode(audio)
    assert ids.dtype == torch.int64
    assert ids.shape == (-(-samples // 640),)
    assert 0 <= int(ids.min()) <= int(ids.max()) < 6561
    assert codec.decode(ids).shape == (640 * len(ids),)


def test_ids_are_the_digits_in_base_three(codec: MiniCodec) -> None:
    audio = vowel(0.4, 140.0)
    with torch.no_grad():
        quantised = codec.quantise(features(torch.from_numpy(audio)[None]))[0]
    assert set(quantised.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert torch.equal(digits(codec.encode(audio)), quantised.long() + 1)


def test_gradient_passes_the_quantiser() -> None:
    torch.manual_seed(1)
    model = MiniCodec(SMALL)
    heard = torch.randn(2, 8, FEATURES, requires_grad=True)
    model.quantise(heard).square().sum().backward()
    assert heard.grad is not None and float(heard.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    "audio",
    [np.zeros(0), np.array([0.1, np.nan]), np.array([np.inf]), np.zeros((2, 640))],
)
def test_encode_refuses_what_is_not_audio(codec: MiniCodec, audio: np.ndarray) -> None:
    with pytest.raises(UserError):
        codec.encode(audio.astype(np.float32))


@pytest.mark.parametrize("ids", [[], [-1], [6561], [5, 7000]])
def test_decode_refuses_what_is_not_a_token(codec: MiniCodec, ids: list[int]) -> None:
    with pytest.raises(UserError):
        codec.decode(torch.tensor(ids, dtype=torch.int64))


def test_silence_comes_back_as_silence() -> None:
    """Of the bundled codec: a quarter of a second of nothing stays 60 dB below full scale."""
    trained = World().codec()
    ids = trained.encode(np.zeros(4000, dtype=np.float32))
    assert ids.shape == (7,)
    assert np.abs(trained.decode(ids)).max() < 1e-3


def test_batch_decodes_as_each_alone(codec: MiniCodec) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, 6561, (length,), generator=generator) for length in (9, 3, 17)]
    for together, row in zip(codec.decode_batch(ids), ids, strict=True):
        alone = codec.decode(row)
        assert alone.dtype == np.float32 and np.abs(alone).max() <= 1.0
        assert np.allclose(together, alone, atol=1e-4)
    assert codec.decode_batch([]) == []


def test_save_and_load(codec: MiniCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    loaded, again = MiniCodec.load(tmp_path), MiniCodec.load(tmp_path)
    assert loaded.config == SMALL
    assert (tmp_path / "model.safetensors").stat().st_size < 2.2 * sum(
        weight.numel() for weight in codec.parameters()
    ) + 4096
    audio = vowel(0.4, 140.0)
    assert torch.equal(loaded.encode(audio), again.encode(audio))
    for name, weight in codec.state_dict().items():
        assert torch.allclose(weight, loaded.state_dict()[name], atol=1e-3)


def test_load_refuses_a_damaged_codec(codec: MiniCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError):
        MiniCodec.load(tmp_path)


def test_the_default_codec_is_small() -> None:
    assert sum(weight.numel() for weight in MiniCodec().parameters()) <= 2_700_000
