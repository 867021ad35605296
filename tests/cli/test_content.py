"""`rrpo reward train --tasks emotion,content`: trained, tested, optimized, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import mistake, rrpo
from rrpo.data.shards import read_shard, write_shard
from rrpo.files import read_json
from rrpo.mini.world import World
from rrpo.reward.model import load

pytestmark = pytest.mark.slow

SHORT = ["--set", "train.steps=3", "--set", "train.warmup_steps=1", "--set", "fit.batch_size=4"]


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """A few bundled utterances with text, of two speakers, and one text that cannot be read."""
    rows = World().shard("finetune")[:13]
    rows = [replace(row, speaker=("one", "two")[number % 2]) for number, row in enumerate(rows)]
    rows[-1] = replace(rows[-1], id="unread", text="你好")
    write_shard(tmp_path / "voices" / "0.parquet", rows, World().codec_identity)
    return tmp_path / "voices"


def test_both_heads_on_the_bundled_data(tiny: Path, voices: Path, tmp_path: Path) -> None:
    run = tmp_path / "rm"
    train = ["reward", "train", "--tasks", "emotion,content", "--out", run, *SHORT]
    rrpo(*train)
    assert all(row["loss_content"] > 0 and row["mixed"] > 0 for row in metrics(run))
    model = load(run)
    assert model.config.phones == World().tokenizer.vocabulary_size
    assert "text_of: mini" in (run / "config.yaml").read_text()
    without = ["reward", "train", "--resume", "--out", run, *SHORT]
    assert "fit.tasks" in mistake(*without)
    printed = rrpo("reward", "eval", run, "--data", voices)
    assert "symbol error of the content head on voices: " in printed
    found = read_json(run / "results.json")["evaluation"]["symbol_error"]["voices"]
    assert found["low"] <= found["mean"] <= found["high"]
    paid = tmp_path / "diffro"
    rrpo(
        *f"policy diffro --from {tiny}/policy --data {tiny}/data --reward {run}".split(),
        *f"--out {paid} --set train.steps=1 --set train.warmup_steps=0".split(),
        *("--set", "diffro.batch_size=2", "--set", "rewards={emotion: 2.0, content: 5.0}"),
    )
    assert (paid / "checkpoint" / "model.safetensors").is_file()


def test_characters_of_own_data(tiny: Path, voices: Path, tmp_path: Path) -> None:
    run, both = tmp_path / "rm", ("--tasks", "emotion,content", "--text-of", "characters")
    start = ("reward", "train", "--from", tiny / "reward", "--data", voices)
    rrpo(*start, *both, "--out", run, *SHORT)
    config = load(run).config
    assert config.text == "characters" and ord("e") in config.symbols and not config.phones
    # What is trained further keeps its head, if that knows the texts.
    again = ("reward", "train", "--from", run, *SHORT)
    rrpo(*again, *both, "--data", voices, "--out", tmp_path / "again")
    assert load(tmp_path / "again").config.symbols == config.symbols
    rows = [replace(row, text="Žluťoučký kůň pěl.") for row in read_shard(voices)]
    write_shard(tmp_path / "czech" / "0.parquet", rows, World().codec_identity)
    line = mistake(*again, *both, "--data", tmp_path / "czech", "--out", tmp_path / "other")
    assert "content head of other symbols" in line


def test_a_text_that_cannot_be_read_is_left_out_and_said(
    tiny: Path, voices: Path, tmp_path: Path
) -> None:
    words = ("reward", "train", "--from", tiny / "reward", "--data", voices, *SHORT)
    both = ("--tasks", "emotion,content", "--text-of", "mini")
    printed = rrpo(*words, *both, "--out", tmp_path / "rm")
    assert "1 of 13 texts are not read, the first: " in printed
    assert "symbol error" in rrpo("reward", "eval", tmp_path / "rm", "--data", voices)


def test_mistakes_are_one_line(tiny: Path, tmp_path: Path) -> None:
    train = ("reward", "train", "--out", tmp_path / "out", *SHORT)
    both = ("--tasks", "emotion,content")
    own = ("--data", tiny / "data", "--from", tiny / "reward")
    assert "needs --text-of: mini" in mistake(*train, *both, *own)
    assert "no such folder" in mistake(*train, *both, *own, "--text-of", tmp_path / "none")
    assert "holds no tokenizer" in mistake(*train, *both, *own, "--text-of", tiny / "reward")
    assert "give --tasks emotion,content" in mistake(*train, "--text-of", "mini")
    assert "fit.tasks" in mistake(*train, "--tasks", "emotion,speaker")
    assert "name emotion, and content" in mistake(*train, "--tasks", "content")
    rows = [replace(row, text="") for row in read_shard(tiny / "data")]
    write_shard(tmp_path / "silent" / "0.parquet", rows, World().codec_identity)
    silent = ("--data", tmp_path / "silent", "--from", tiny / "reward", "--text-of", "mini")
    assert "needs utterances with text" in mistake(*train, *both, *silent)
    assert not (tmp_path / "out").exists()
