"""What commands read: what is held out for tests is trained on by none of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from foreign_checkpoints import model_folder, save_safetensors, upstream_state
from rrpo.checkpoint import sha256
from rrpo.data.shards import Utterance, for_tests, for_training, write_shard
from rrpo.errors import UserError
from rrpo.loading import describe, load_data
from rrpo.mini.world import World


def shard(path: Path, *partitions: str) -> Path:
    """Write utterances whose text is their partition."""
    rows = [
        Utterance(str(number), name or "blank", "sad", np.array([1]), partition=name)
        for number, name in enumerate(partitions)
    ]
    write_shard(path, rows, World().codec_identity)
    return path


def test_tests_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shard(tmp_path / "a.parquet", "train", "test", "", "validation", "test")
    assert [row.text for row in for_training(data)] == ["train", "blank", "validation"]
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
    with pytest.raises(UserError, match="there is no partition 'eval': choose one of train"):
        for_tests(data, "eval")
    assert [row.text for row in for_tests(data, "Training")] == ["train"]


def test_what_a_run_is_made_from_is_told_by_its_weights(tmp_path: Path) -> None:
    """A policy of other software, too: in a file, in shards, and as adapters on another."""
    folder = model_folder(tmp_path / "CosyVoice2")
    state = upstream_state(tmp_path)
    keys = list(state)
    parts = {"a.safetensors": keys[:5], "b.safetensors": keys[5:]}
    for file, held in parts.items():
        save_safetensors({key: state[key] for key in held}, folder / file)
    places = {key: file for file, held in parts.items() for key in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_model.safetensors").write_bytes(b"first")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder)}
    (adapters / "adapter_config.json").write_text(json.dumps(config))

    def digests() -> list[str]:
        given = (folder, index, adapters)
        return [describe(start=one)["start"][0][1] for one in given]

    first = digests()
    assert first[0] == first[1] != first[2]
    assert all(len(digest) == 64 for digest in first)
    (adapters / "adapter_model.safetensors").write_bytes(b"other")
    second = digests()
    assert second[:2] == first[:2] and second[2] != first[2]
    save_safetensors({key: state[key] * 2 for key in keys[5:]}, folder / "b.safetensors")
    assert not set(digests()) & {*first, *second}
    index.unlink()
    (folder / "llm.pt").write_bytes(b"x")
    told = describe(start=folder)["start"][0][1]
    assert told == describe(start=folder / "llm.pt")["start"][0][1]
    assert told != sha256(folder / "llm.pt")  # it is a hash of hashes, of one file as of many
    # A folder of that name is not what `mini` means.
    assert describe(start="mini", reward=["mini-tasks"]) == {
        "start": [["mini", ""]],
        "reward": [["mini-tasks", ""]],
    }
