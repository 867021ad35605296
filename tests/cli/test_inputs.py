"""What commands read: what is held out for tests is trained on by none of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from foreign_checkpoints import model_folder, save_safetensors, upstream_state
from rrpo import config, train_reward, train_sft
from rrpo.cli import data as command
from rrpo.data.shards import Utterance, for_tests, for_training, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.files import sha256
from rrpo.loading import describe, load_data
from rrpo.mini.world import World
from sounds import encoded, voice


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


TEXTS = ("Déjà vu in a café.", "A naïve garçon sings.", "Über señor Núñez!", "It is noon.")
WESTERN = ("cp1252", "utf-16", "utf-8-sig")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", WESTERN)
@pytest.mark.parametrize("door", ["csv", "manifest", "kaldi"])
def test_a_table_of_excel_in_any_encoding_is_trained_on_as_it_was_written(
    tiny: Path, tmp_path: Path, door: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the bytes of Western Windows to the end of a training, which reads every text."""
    names = ("Jörg", "Zoë", "Ünal", "bob")
    for number in range(4):
        (tmp_path / f"é{number}.wav").write_bytes(encoded("wav", voice(1.2, number)))
    emotions = ("happy", "sad", "happy", "sad")
    rows = list(zip(range(4), emotions, TEXTS, names, strict=True))
    if door == "kaldi":
        places = {"wav.scp": "é{0}.wav", "utt2emo": "{1}", "text": "{2}", "utt2spk": "{3}"}
        for file, form in places.items():
            lines = [f"u{row[0]} {form.format(*row)}\r\n" for row in rows]
            (tmp_path / file).write_bytes("".join(lines).encode(encoding))
        command.data_import("cosyvoice", tmp_path, tmp_path / "imported")
    else:
        lines = [f"é{row[0]}.wav;{row[1]};{row[2]};{row[3]}\r\n" for row in rows]
        table = "path;emotion;text;speaker\r\n" + "".join(lines)
        (tmp_path / "t.csv").write_bytes(table.encode(encoding))
        if door == "csv":
            command.data_import("csv", tmp_path / "t.csv", tmp_path / "imported")
    source = tmp_path / ("t.csv" if door == "manifest" else "imported")
    command.tokenize(source, tmp_path / "tokens")
    assert ("read as CP1252" in capsys.readouterr().out) == (encoding == "cp1252")
    data = tmp_path / "tokens" / "tokens"
    read = read_shard(data)
    assert [(row.emotion, row.text, row.speaker) for row in read] == [row[1:] for row in rows]
    small = ["train.steps=1", "train.warmup_steps=0", "sft.batch_size=4", "held_out=0.3"]
    train_sft(tmp_path / "sft", data, start=tiny / "policy", settings=small)
    quick = ["train.steps=1", "train.warmup_steps=0"]
    train_reward(tmp_path / "rm", data, start="new", settings=quick)
    assert (tmp_path / "sft" / "report.html").is_file()
    assert (tmp_path / "rm" / "report.html").is_file()


@pytest.mark.parametrize("option", ["--config", "instructions"])
def test_settings_in_the_encoding_of_western_windows_are_refused(
    tmp_path: Path, option: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes("# über\nen:\n  happy: Sei fröhlich.\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"c\.yaml is not UTF-8 text: save it as UTF-8"):
        if option == "--config":
            train_sft(tmp_path / "sft", config=file)
        else:
            config.read(file)
    assert not (tmp_path / "sft").exists()
