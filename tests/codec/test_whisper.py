import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rrpo.codec import whisper
from rrpo.codec.ctranslate2 import read_weights
from rrpo.codec.mel import filters, log_mel
from rrpo.codec.whisper import WhisperConfig, WhisperEncoder
from rrpo.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize(("window", "bands"), [(400, 80), (400, 128), (321, 120)])
def test_the_mel_filters_are_librosas(window: int, bands: int) -> None:
    librosa = pytest.importorskip("librosa", reason="the oracle")
    oracle = librosa.filters.mel(sr=16_000, n_fft=window, n_mels=bands)
    np.testing.assert_array_equal(filters(window, bands), oracle)


def packed(arrays: dict[str, Any]) -> bytes:
    """Write arrays as CTranslate2 does."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.float16): 4}
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        out += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += struct.pack("<BI", kinds[array.dtype], array.nbytes) + array.tobytes()
    return out + struct.pack("<I", 0)


def oracle(layers: int) -> Any:
    torch.manual_seed(0)
    from transformers import WhisperConfig as OracleConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Oracle

    config = OracleConfig(
        d_model=512, encoder_layers=layers, encoder_attention_heads=8, encoder_ffn_dim=2048
    )
    return Oracle(config).eval()


def stored(model: Any, layers: int) -> dict[str, Any]:
    """Name an oracle's weights as CTranslate2 does."""

    def half(weight: torch.Tensor) -> Any:
        return weight.detach().numpy().astype(np.float32)

    arrays = {"encoder/position_encodings/encodings": half(model.embed_positions.weight)}
    for name in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            arrays[f"encoder/{name}/{part}"] = half(getattr(getattr(model, name), part))
    for number in range(layers):
        layer, place = model.layers[number], f"encoder/layer_{number}"
        attention = layer.self_attn
        query = attention.q_proj
        joint = [query.weight, attention.k_proj.weight, attention.v_proj.weight]
        biases = [query.bias, torch.zeros(512), attention.v_proj.bias]  # Whisper's keys have none
        linear = {
            "self_attention/linear_0": (torch.cat(joint), torch.cat(biases)),
            "self_attention/linear_1": (attention.out_proj.weight, attention.out_proj.bias),
            "ffn/linear_0": (layer.fc1.weight, layer.fc1.bias),
            "ffn/linear_1": (layer.fc2.weight, layer.fc2.bias),
        }
        norms = {
            "self_attention/layer_norm": layer.self_attn_layer_norm,
            "ffn/layer_norm": layer.final_layer_norm,
        }
        for name, (weight, bias) in linear.items():
            arrays[f"{place}/{name}/weight"], arrays[f"{place}/{name}/bias"] = map(
                half, (weight, bias)
            )
        for name, norm in norms.items():
            arrays[f"{place}/{name}/gamma"] = half(norm.weight)
            arrays[f"{place}/{name}/beta"] = half(norm.bias)
    return arrays


@pytest.mark.slow
def test_hidden_states_are_those_of_transformers(tmp_path: Path) -> None:
    model = oracle(2)
    (tmp_path / "model.bin").write_bytes(packed(stored(model, 2)))
    ours = whisper.load(2, tmp_path)
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(mel, output_hidden_states=True).hidden_states[1]
        found = WhisperEncoder.forward(whisper.load(1, tmp_path), mel)
        whole = ours(mel)
        final = model.layer_norm(whole)
        assert torch.allclose(final, model(mel).last_hidden_state, atol=2e-5)
    assert torch.allclose(found, expected, atol=2e-5)


@pytest.mark.slow
def test_audio_gives_fifty_states_a_second(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(packed(stored(oracle(1), 1)))
    heard = whisper.load(1, tmp_path).hear(np.zeros(6400, dtype=np.float32))
    assert heard.shape == (20, 512)


def test_too_long_audio_is_refused() -> None:
    model = WhisperEncoder(WhisperConfig(width=16, heads=2, layers=1))
    with pytest.raises(UserError, match="30 seconds"):
        model(torch.zeros(1, 80, 3002))


@pytest.mark.slow
def test_the_spectrogram_is_that_of_transformers() -> None:
    from transformers import WhisperFeatureExtractor

    sound = np.random.default_rng(0).normal(0, 0.1, 480000).astype(np.float32)
    expected = WhisperFeatureExtractor(feature_size=80)(sound, sampling_rate=16000)
    assert np.allclose(log_mel(sound, 80), expected["input_features"][0], atol=1e-4)


@pytest.mark.parametrize("kept", [3, 40, 2000])
def test_a_file_that_is_cut_off_says_so(tmp_path: Path, kept: int) -> None:
    (tmp_path / "model.bin").write_bytes(packed(stored(oracle(1), 1))[:kept])
    with pytest.raises(UserError, match=r"damaged|lacks"):
        whisper.load(1, tmp_path)


def test_another_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model\.bin"):
        whisper.load(1, tmp_path)
    with pytest.raises(UserError, match="no CTranslate2 model"):
        read_weights(struct.pack("<I", 99), "x")
    arrays = {"encoder/position_encodings/encodings": np.zeros((9, 4), dtype=np.float32)}
    (tmp_path / "model.bin").write_bytes(packed(arrays))
    with pytest.raises(UserError, match="lacks encoder/conv1"):
        whisper.load(1, tmp_path)


def test_without_its_packages_the_message_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whisper, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r"rrpo\[speech\]"):
        whisper.load(1)


def test_other_weights_in_the_packages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, package in enumerate(whisper.PACKAGES, start=1):
        (tmp_path / package / "data").mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "data" / f"model.bin.part{number}").write_bytes(b"not Whisper")
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="SHA-256"):
        whisper.load()
