"""What `rrpo tokenize` finds in its folder, and what is said of one that it has not finished."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from rrpo.audio import Audio
from rrpo.data.manifest import Recording
from rrpo.data.scan import Choice
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.data.tokenize import tokenize
from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.loading import load_data
from rrpo.streaming import stream_shards


class Interrupted:
    """A codec that is interrupted after some recordings, as by Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.left = after

    def encode(self, audio: Audio) -> Tensor:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return torch.tensor(np.abs(audio[:5] * 1000).astype(np.int64))

    def decode(self, ids: Tensor) -> Audio:
        raise NotImplementedError


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    monkeypatch.setattr("rrpo.data.tokenize.SHARD", 2)
    for number in range(5):
        noise = np.random.default_rng(number).normal(0, 0.1, 3200)
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
    return [Recording(tmp_path / f"{number}.wav", "sad") for number in range(5)]


def test_imported_tokens_are_not_mixed_with_new_ones(
    given: list[Recording], tmp_path: Path
) -> None:
    out = tmp_path / "imported"
    imported = out / "tokens" / "00003.parquet"
    write_shard(imported, [Utterance("a", "Hi.", "happy", np.array([1]))])
    with pytest.raises(UserError, match=r"tokens holds shards .* \(00003\.parquet\): choose ano"):
        tokenize(Interrupted(9), given, out)
    assert sorted(path.name for path in out.iterdir()) == ["tokens"]
    imported.unlink()
    assert tokenize(Interrupted(9), given, out).tokens == 5


def test_a_call_that_was_cut_off_is_told_of_and_goes_on(
    given: list[Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tokenize(Interrupted(3), given, out)
    # Also where it was killed between a shard and the note of it.
    (out / "tokens" / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(KeyboardInterrupt):
        tokenize(Interrupted(2), given, out)
    said = f"{out}/tokens: 4 of 5 recordings are tokenized: call `rrpo tokenize` again to finish"
    capsys.readouterr()
    load_data(out / "tokens")
    assert said in capsys.readouterr().out
    load_data(out / "tokens", tested=True)
    assert said in capsys.readouterr().out
    stream_shards(out / "tokens", 4, Choice(text=False))
    assert said in capsys.readouterr().out
    tokenize(Interrupted(1), given, out)
    load_data(out / "tokens")
    assert "recordings are tokenized" not in capsys.readouterr().out
    assert len(read_shard(out / "tokens")) == 5


def test_sounds_that_are_not_all_put_in_are_told_of(
    given: list[Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    tokenize(Interrupted(5), given, out)
    with pytest.raises(KeyboardInterrupt):
        tokenize(Interrupted(3), given, out, insert="clicks")
    load_data(out / "tokens")
    assert "are tokenized" not in capsys.readouterr().out
    load_data(out / "inserted")
    assert "inserted: 2 of 5 recordings are tokenized" in capsys.readouterr().out


def test_a_folder_of_before_says_nothing_and_goes_on(
    given: list[Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tokenize(Interrupted(2), given, out)
    plan = read_json(out / "tokenize.json")
    write_json(out / "tokenize.json", {k: plan[k] for k in plan if k not in ("count", "size")})
    load_data(out / "tokens")
    assert "are tokenized" not in capsys.readouterr().out
    assert tokenize(Interrupted(3), given, out).tokens == 5
