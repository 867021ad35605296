"""What commands read: what is held out for tests is trained on by none of them."""

from pathlib import Path

import numpy as np
import pytest

from rrpo.data.shards import Utterance, for_tests, for_training, write_shard
from rrpo.errors import UserError
from rrpo.loading import load_data
from rrpo.mini.world import World


def shard(path: Path, *partitions: str) -> Path:
    """Write utterances whose text is their partition."""
    rows = [
        Utterance(str(number), name or "none", "sad", np.array([1]), partition=name)
        for number, name in enumerate(partitions)
    ]
    write_shard(path, rows, World().codec_identity)
    return path


def test_tests_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shard(tmp_path / "a.parquet", "train", "test", "", "validation", "test")
    assert [row.text for row in for_training(data)] == ["train", "none", "validation"]
    assert "2 of 5 utterances are held out for tests" in capsys.readouterr().out
    assert load_data(data) == for_training(data)
    with pytest.raises(UserError, match="none to train on"):
        for_training(shard(tmp_path / "b.parquet", "test"))


def test_tests_are_tested_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shard(tmp_path / "a.parquet", "train", "test", "", "test")
    assert [row.text for row in for_tests(data)] == ["test", "test"]
    assert "2 of 4 utterances, the partition 'test'" in capsys.readouterr().out
    base = World().policy()
    assert load_data(data, base, tested=True) == for_tests(data)
    assert [row.text for row in for_tests(data, "train")] == ["train"]
    assert len(for_tests(data, "all")) == 4
    # Where nobody is held out, all are tested on.
    assert len(for_tests(shard(tmp_path / "b.parquet", "", "train"))) == 2
    with pytest.raises(UserError, match="no utterance is in the partition 'validation': there are"):
        for_tests(data, "validation")
    with pytest.raises(UserError, match="there is no partition 'dev': choose one of train"):
        for_tests(data, "dev")
