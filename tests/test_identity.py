"""Tokens of two codecs are never mixed: at every door the identity is compared and asked for."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from command_line import mistake, rrpo
from rrpo import policy, reward
from rrpo.codec_identity import require_one_codec
from rrpo.data.shards import Utterance, read_shard, shard_codec, write_shard
from rrpo.errors import UserError
from rrpo.loading import is_mini
from rrpo.mini.world import World
from rrpo.objectives.pairs import CHOSEN, REJECTED

OTHER = "speech_tokenizer_v2 aaaa"


def test_a_hash_that_is_not_known_fits_any() -> None:
    assert require_one_codec({"a": "mini 1f", "b": "mini", "c": "mini 1f"}) == "mini 1f"
    assert require_one_codec({}) == ""
    with pytest.raises(UserError, match=r"c is of the codec mini \(77\), a of mini \(1f\)"):
        require_one_codec({"a": "mini 1f", "b": "mini", "c": "mini 77"})
    with pytest.raises(UserError, match=r"b does not say which codec.*--codec-of"):
        require_one_codec({"a": "mini", "b": ""})
    assert require_one_codec({"a": "mini 1f", "b": ""}, told="mini") == "mini 1f"


def test_shards_keep_the_codec_and_say_where_two_meet(tmp_path: Path) -> None:
    rows = [Utterance("a", "", "sad", np.array([1, 2]))]
    for name, codec in (("one", OTHER), ("two", OTHER), ("three", "mini")):
        write_shard(tmp_path / f"{name}.parquet", rows, codec)
    assert shard_codec(tmp_path / "one.parquet") == OTHER
    with pytest.raises(UserError, match="is of the codec"):
        shard_codec(tmp_path)
    (tmp_path / "three.parquet").unlink()
    assert shard_codec(tmp_path) == OTHER
    write_shard(tmp_path / "four.parquet", rows)
    with pytest.raises(UserError, match=r"four.parquet does not say which codec"):
        shard_codec(tmp_path)
    assert read_shard(tmp_path / "four.parquet")[0].tokens.tolist() == [1, 2]


def test_the_bundled_world_is_of_one_codec() -> None:
    world = World()
    line = world.codec_identity
    assert shard_codec(world.folder / "shards") == line
    known = (world.policy().config, world.reward_model().config, world.task_model().config)
    assert {one.codec for one in known} == {line}
    assert is_mini(world.policy())


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, Path]:
    """The same utterances as another codec's, and without a word of whose they are."""
    rows = World().shard("finetune")[:12]
    paths = {"other": tmp_path / "other.parquet", "silent": tmp_path / "silent.parquet"}
    write_shard(paths["other"], rows, OTHER)
    write_shard(paths["silent"], [replace(row, id=f"{row.id}x") for row in rows])
    return paths


DOORS = (
    "reward train --data {} --out {out} --set train.steps=1",
    "reward eval mini --data {}",
    "policy sft --data {} --out {out} --set train.steps=1",
    "policy diffro --reward mini --data {} --out {out} --set train.steps=1",
    "policy grpo --reward mini --data {} --out {out} --set train.steps=1",
    "policy dpo --reward mini --data {} --out {out} --set train.steps=1",
    "evaluate mini --data {}",
    "policy dpo --pairs {folder} --out {out} --set train.steps=1",
    "reward train --mixes {} --set fit.mixup_at=audio --out {out} --set train.steps=1",
)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_tokens_of_another_codec_are_refused_at_every_door(
    door: str, shards: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for path in shards.values():
        for name in (CHOSEN, REJECTED):
            (tmp_path / path.stem).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / path.stem / name)
    line = mistake(*door.format(shards["other"], out=out, folder=tmp_path / "other").split())
    assert "of the codec" in line and "speech_tokenizer_v2" in line and "mini" in line
    line = mistake(*door.format(shards["silent"], out=out, folder=tmp_path / "silent").split())
    assert ".parquet does not say which codec its tokens are of" in line and "silent" in line
    assert "--codec-of" in line
    assert not out.exists()


@pytest.mark.slow
def test_what_does_not_say_it_is_taken_at_the_users_word(
    shards: dict[str, Path], tmp_path: Path
) -> None:
    short = "--set train.steps=1 --set train.warmup_steps=0 --set fit.batch_size=2"
    out = tmp_path / "rm"
    told = f"reward train --data {shards['silent']} --codec-of mini --out {out} {short}"
    rrpo(*told.split())
    assert reward.load(out).config.codec == World().codec_identity
    told = f"reward train --data {shards['silent']} --codec-of s3:{tmp_path} --out {tmp_path / 'b'}"
    assert "holds no speech_tokenizer_v2" in mistake(*told.split())


@pytest.mark.slow
def test_reward_models_and_policies_of_two_codecs_are_refused(tmp_path: Path) -> None:
    model = World().reward_model()
    model.config = model.config.model_copy(update={"codec": OTHER})
    reward.save(model, tmp_path / "rm")
    line = mistake(
        "policy", "diffro", "--reward", str(tmp_path / "rm"), "--out", str(tmp_path / "o")
    )
    assert "the reward model" in line and "speech_tokenizer_v2" in line
    line = mistake("evaluate", "mini", "--reward", str(tmp_path / "rm"))
    assert "of the codec" in line


def test_a_policy_without_a_codec_is_of_an_earlier_version(tmp_path: Path) -> None:
    policy.save(World().policy(), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"codec"', '"codek"'))
    with pytest.raises(UserError, match=r"lacks the key `codec`.*train it again"):
        policy.load(tmp_path)


def test_metadata_is_what_another_reader_sees(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [Utterance("a", "", "sad", np.array([1]))], OTHER)
    assert parquet.read_schema(tmp_path / "a.parquet").metadata[b"rrpo.codec"] == OTHER.encode()
