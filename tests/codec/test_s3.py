"""CosyVoice's speech tokenizer: Whisper's features, long audio, resuming, and files gone bad."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_folder import write_speech_tokenizer
from rrpo import audio
from rrpo.codec.mel import log_mel
from rrpo.codec.s3 import S3Tokenizer
from rrpo.data import tokenize
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import read_shard
from rrpo.errors import UserError
from rrpo.mini.world import World

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'rrpo[cosyvoice]'")
pytest.importorskip("onnx", reason="onnx makes the tokenizer of this test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a speech tokenizer alone."""
    path = tmp_path_factory.mktemp("cosyvoice")
    write_speech_tokenizer(path)
    return path


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    size = int(seconds * 16000)
    swell = 0.3 * (1.1 + np.sin(np.arange(size) / 16000 * 2.0))
    return (0.3 * swell * rng.standard_normal(size)).astype(np.float32)


def test_features_are_whispers() -> None:
    extractor = pytest.importorskip("faster_whisper.feature_extractor", reason="the oracle")
    sound = voice(2.0)
    expected = extractor.FeatureExtractor(feature_size=128)(sound, padding=0)
    found = log_mel(sound, 128)
    assert found.shape == (128, 200)
    size = min(expected.shape[1], 200)
    np.testing.assert_allclose(found[:, :size], expected[:, :size], atol=2e-4)


def test_twenty_five_tokens_a_second(folder: Path) -> None:
    ids = S3Tokenizer(folder).encode(voice(2.0))
    assert ids.dtype == torch.int64
    assert ids.numel() == 50


def test_very_short_sounds_are_tokens_or_one_line(folder: Path) -> None:
    """sh-lee-prml/HierSpeechpp#27: very short sounds end in NaN."""
    tokenizer, mini = S3Tokenizer(folder), World().codec()
    counts = {400: 1, 401: 1, 639: 1, 640: 1, 641: 1, 1279: 2, 1280: 2, 3200: 5}
    for size in (1, 2, 10, 100, 399, *counts):
        sound = 0.5 * np.sin(np.arange(size, dtype=np.float32) * 0.3 + 1)
        assert mini.encode(sound).numel() == -(-size // 640)
        if size in counts:
            assert tokenizer.encode(sound).numel() == counts[size]
        else:
            with pytest.raises(UserError, match="shorter than 25 ms: leave it out"):
                tokenizer.encode(sound)


@pytest.mark.parametrize("seconds", [30.0, 30.5, 56.0, 61.3])
def test_long_audio_is_read_in_windows_that_meet(folder: Path, seconds: float) -> None:
    tokenizer = S3Tokenizer(folder)
    sound = voice(seconds)
    ids = tokenizer.encode(sound)
    assert abs(ids.numel() - seconds * 25) <= 1
    # Every token is that of the audio around it, wherever the windows met.
    for second in (0, 13, 27, 28, 29, *((52, 53, 54) if seconds > 56 else ())):
        around = tokenizer.encode(sound[second * 16000 : (second + 1) * 16000])
        inner = ids[second * 25 + 2 : second * 25 + 23]
        # Whisper's floor hangs on the loudest frame of the window, hence not exactly.
        assert float((around[2:23] - inner).abs().float().mean()) < 40


def corpus(path: Path, count: int) -> None:
    lines = ["path,emotion,text"]
    for number in range(count):
        audio.write(path / f"{number}.wav", voice(0.5, number))
        lines.append(f"{number}.wav,{('happy', 'sad')[number % 2]},text {number}")
    (path / "manifest.csv").write_text("\n".join(lines) + "\n")


def test_a_stopped_call_goes_on_and_bad_files_are_listed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(tmp_path, 7)
    (tmp_path / "3.wav").write_bytes(b"RIFF, but no more")
    monkeypatch.setattr(tokenize, "SHARD", 4)  # two recordings, each with one mix
    recordings = read_manifest(tmp_path)
    whole = tokenize.tokenize(S3Tokenizer(folder), recordings, tmp_path / "whole", 1)
    assert (whole.tokens, whole.mixes) == (6, 6)
    assert len(whole.skipped) == 1
    assert "3.wav" in (tmp_path / "whole" / "skipped.txt").read_text()

    class Stopping(S3Tokenizer):
        left = 5

        def encode(self, sound: np.ndarray) -> torch.Tensor:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().encode(sound)

    with pytest.raises(KeyboardInterrupt):
        tokenize.tokenize(Stopping(folder), recordings, tmp_path / "again", 1)
    assert not list((tmp_path / "again" / "tokens").glob("00003*"))
    tokenize.tokenize(S3Tokenizer(folder), recordings, tmp_path / "again", 1)
    for kind in ("tokens", "mixes"):
        first, second = (read_shard(tmp_path / name / kind) for name in ("whole", "again"))
        for one, other in zip(first, second, strict=True):
            assert one.id == other.id
            assert np.array_equal(one.tokens, other.tokens)
    audio.write(tmp_path / "3.wav", voice(0.5, 3))  # mended: the next call takes it in
    mended = tokenize.tokenize(S3Tokenizer(folder), recordings, tmp_path / "again", 1)
    assert (mended.tokens, mended.skipped) == (7, [])
    assert (tmp_path / "again" / "skipped.txt").read_text() == ""
    with pytest.raises(UserError, match="another mixes"):
        tokenize.tokenize(S3Tokenizer(folder), recordings, tmp_path / "again", 2)


def test_mistakes_get_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no speech_tokenizer_v2"):
        S3Tokenizer(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(UserError, match="cannot be opened"):
        S3Tokenizer(tmp_path / "x.onnx")
    tokenizer = S3Tokenizer(folder)
    with pytest.raises(UserError, match="shorter"):
        tokenizer.encode(np.zeros(100, dtype=np.float32))
    with pytest.raises(UserError, match="NaN"):
        tokenizer.encode(np.full(16000, np.nan, dtype=np.float32))
    with pytest.raises(UserError, match="CosyVoice's flow"):
        tokenizer.decode(torch.tensor([1]))
    corpus(tmp_path, 1)
    (tmp_path / "0.wav").write_bytes(b"")
    with pytest.raises(UserError, match="of its 1 recordings left out: 1 of 0 bytes"):
        tokenize.tokenize(tokenizer, read_manifest(tmp_path), tmp_path / "out")
