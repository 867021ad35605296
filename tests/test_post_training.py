"""Runs of policies by name: where they may lie, what they go on from, and what they say."""

import contextlib
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rrpo import post_training, reward
from rrpo.data.shards import read_shard, write_shard
from rrpo.errors import TrainingInterrupted, UserError
from rrpo.loading import load_policy, load_reward_model
from rrpo.mini.world import World
from rrpo.origin import origin_of
from rrpo.reward_training import train_reward


@pytest.mark.parametrize("name", ["mini", "./mini-tasks", "new"])
def test_a_run_is_not_called_what_is_bundled(name: str, tiny: Path, tmp_path: Path) -> None:
    """It would never be found again: the bundled one would."""
    with contextlib.chdir(tmp_path), pytest.raises(UserError, match="what rrpo calls its own"):
        post_training.train_sft(name, tiny / "data", start=tiny / "policy")
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_put_where_data_is(tiny: Path) -> None:
    before = sorted((tiny / "data").iterdir())
    with pytest.raises(UserError, match=r"holds data \(\*\.parquet\): name another --out"):
        post_training.train_sft(tiny / "data", tiny / "data", start=tiny / "policy")
    assert sorted((tiny / "data").iterdir()) == before


def test_instructions_that_are_not_there_are_told_first(tiny: Path, tmp_path: Path) -> None:
    settings = {"instructions": str(tmp_path / "none.yaml")}
    with pytest.raises(UserError, match=r"none\.yaml cannot be read \(No such file"):
        post_training.train_sft(
            tmp_path / "run", tiny / "data", start=tiny / "policy", settings=settings
        )
    assert not (tmp_path / "run").exists()


def test_the_same_files_in_another_spelling_go_on(tiny: Path, tmp_path: Path) -> None:
    settings = ["train.steps=2", "train.warmup_steps=0", "sft.batch_size=2"]
    start = tiny / "policy"
    post_training.train_sft(tmp_path / "run", tiny / "data", start=start, settings=settings)
    with contextlib.chdir(tiny):
        post_training.train_sft(
            tmp_path / "run", "data/", start=start, settings=settings, resume=True
        )
    shutil.copytree(tiny / "data", tmp_path / "other")
    rows = read_shard(tmp_path / "other")
    shutil.rmtree(tmp_path / "other")
    write_shard(tmp_path / "other" / "a.parquet", rows[1:], World().codec_identity)
    with pytest.raises(UserError, match="holds a run with another data"):
        post_training.train_sft(
            tmp_path / "run", tmp_path / "other", start=start, settings=settings, resume=True
        )


def test_a_run_in_which_all_is_broken_says_so(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    post_training.train_diffro(
        tmp_path / "run",
        [tiny / "reward"],
        tiny / "data",
        start=tiny / "policy",
        settings=[
            *("train.steps=1", "train.warmup_steps=0", "diffro.batch_size=2"),
            *("diffro.rollout.max_ratio=0.6", "diffro.rollout.min_ratio=0.6"),
        ],
    )
    said = capsys.readouterr()
    assert "100% of what was said in the last steps looped or did not end" in said.out + said.err
    assert "(diffro.rollout.max_ratio)" in said.out + said.err


@pytest.mark.slow
def test_pairs_that_another_reward_ranked_are_not_taken(tmp_path: Path) -> None:
    common = ["train.steps=1", "train.warmup_steps=0", "dpo.batch_size=1", "pairs.prompts=2"]
    common += ["pairs.count=2", "pairs.margin=0.0", "train.save_every=9"]

    def stop(*_: object) -> None:
        raise ZeroDivisionError

    def train(*more: str, **how: Any) -> None:
        post_training.train_dpo(
            tmp_path / "run", ["mini"], start="mini", settings=[*common, *more], **how
        )

    with pytest.raises(ZeroDivisionError):
        train(callbacks=[stop])
    with pytest.raises(UserError, match="holds pairs with another rewards"):
        train("rewards={emotion: 2.0}")


def test_a_reward_model_that_is_not_finished_is_told(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(step: int, _: object) -> None:
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    settings = ["train.steps=3", "train.warmup_steps=0", "fit.batch_size=2"]
    run = {"data": tiny / "data", "start": tiny / "reward", "settings": settings}
    with pytest.raises(TrainingInterrupted):
        train_reward(tmp_path / "run", callbacks=[press], **run)
    load_reward_model(tmp_path / "run")
    assert "not finished, it was stopped after step 2: go on" in capsys.readouterr().out
    train_reward(tmp_path / "run", resume=True, **run)
    capsys.readouterr()
    load_reward_model(tmp_path / "run")
    assert not capsys.readouterr().out


def test_a_policy_that_is_not_finished_is_told(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["train.steps=3", "train.warmup_steps=0", "sft.batch_size=2", "train.save_every=1"]

    def press(step: int, _: object) -> None:
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    how: dict[str, Any] = {"start": tiny / "policy", "settings": settings}
    with pytest.raises(TrainingInterrupted):
        post_training.train_sft(tmp_path / "run", tiny / "data", **how, callbacks=[press])
    capsys.readouterr()
    load_policy(tmp_path / "run")
    assert "run is not finished, it was stopped after step" in "".join(capsys.readouterr())


def test_pairs_beside_data_are_refused(tiny: Path, tmp_path: Path) -> None:
    """Nothing of the data would be read, and the model card would name it."""
    with pytest.raises(UserError, match="leave out --data, or --pairs"):
        post_training.train_dpo(
            tmp_path / "run", pairs=tmp_path, data=tiny / "data", start=tiny / "policy"
        )


def test_pairs_beside_settings_of_their_drawing_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"drawn already: leave out --pairs, or --set pairs\.count"):
        post_training.train_dpo(
            *(tmp_path / "run",), pairs=tmp_path, start=tiny / "policy", settings=["pairs.count=4"]
        )


@pytest.mark.parametrize(
    ("rewards", "told"),
    [
        ("{emotion: 0}", "nothing is rewarded"),
        ("{emotion: 0, content: 0.0}", "nothing is rewarded"),
        ("{emotion: -1}", "rewards.emotion=-1: it is trained away from what emotion rewards"),
    ],
)
def test_rewards_that_reward_nothing_or_the_contrary(
    rewards: str, told: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["train.steps=1", "train.warmup_steps=1", "diffro.batch_size=7"]
    settings += ["diffro.rollout.max_ratio=0.6", f"rewards={rewards}"]

    def train() -> None:
        post_training.train_diffro(
            *(tmp_path / "run", [tiny / "reward"], tiny / "data"), start=tiny / "policy",
            settings=settings,
        )  # fmt: skip

    if "-" not in rewards:
        with pytest.raises(UserError, match=told):
            train()
        return
    train()
    said = capsys.readouterr().out
    assert told in said
    assert "train.warmup_steps=1 is not below train.steps=1: the learning rate rises" in said
    assert "diffro.batch_size=7 is more than the 6 there are to train on" in said


def test_a_reward_model_that_is_named_twice_is_refused(tiny: Path, tmp_path: Path) -> None:
    rewards = [tiny / "reward", f"{tiny}/../{tiny.name}/reward"]
    with pytest.raises(UserError, match="one is named twice: name each once"):
        post_training.train_diffro(tmp_path / "run", rewards, tiny / "data", start=tiny / "policy")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.seed=18446744073709551616", "train.seed"),
        ("train.threads=100000", "train.threads"),
        ("train.learning_rate=1e300", "train.learning_rate"),
        (("lora_rank=4", "text_table=trained"), "text_table=trained needs lora_rank=0"),
    ],
)
def test_settings_that_no_training_takes_are_one_line(
    setting: str | tuple[str, ...], told: str, tiny: Path, tmp_path: Path
) -> None:
    given = [setting] if isinstance(setting, str) else setting
    with pytest.raises(UserError, match=told):
        post_training.train_sft(
            tmp_path / "run", tiny / "data", start=tiny / "policy", settings=given
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_second_reward_model_that_was_trained_again_is_another_run(
    tiny: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny / "reward", tmp_path / "second")
    settings = ["train.steps=1", "train.warmup_steps=0", "diffro.batch_size=2", "monitor.every=1"]
    settings += ["monitor.sentences=1", "monitor.second=[second]"]

    def train(**how: Any) -> None:
        post_training.train_diffro(
            tmp_path / "run", [tiny / "reward"], tiny / "data", start=tiny / "policy",
            settings=settings, **how,
        )  # fmt: skip

    with contextlib.chdir(tmp_path):
        train()
    with contextlib.chdir(tmp_path):
        train(resume=True)
        model = reward.load(tmp_path / "second")
        model.table.data += 1.0
        reward.save(model, tmp_path / "second")
        with pytest.raises(UserError, match="holds a run with another second"):
            train(resume=True)


def test_a_policy_by_its_weights_file_is_still_of_its_run(tiny: Path, tmp_path: Path) -> None:
    """Its texts were told an instruction in words that the run's start does not know."""
    run = tmp_path / "run"
    settings = ["train.steps=1", "train.warmup_steps=0", "sft.batch_size=2", "language=de"]
    post_training.train_sft(run, tiny / "data", start=tiny / "policy", settings=settings)
    for place in ("", "checkpoint", "checkpoint/model.json", "checkpoint/model.safetensors"):
        assert origin_of(run / place).language == "de", place


def test_a_mix_pool_that_is_not_used_is_told(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        replace(row, partner_emotion="happy", partner_weight=0.3)
        for row in read_shard(tiny / "data")
    ]
    write_shard(tmp_path / "mixes" / "0.parquet", rows, World().codec_identity)
    settings = ["train.steps=1", "train.warmup_steps=0", "fit.batch_size=2"]
    train_reward(
        *(tmp_path / "run", tiny / "data"), start=tiny / "reward", settings=settings,
        mixes=tmp_path / "mixes",
    )  # fmt: skip
    assert "--mixes is not used: it is for fit.mixup_at=audio" in capsys.readouterr().out


def test_a_training_that_does_not_see_all_its_data_is_told(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["train.steps=1", "train.warmup_steps=0", "sft.batch_size=3"]
    post_training.train_sft(tmp_path / "a", tiny / "data", start=tiny / "policy", settings=few)
    said = capsys.readouterr().out
    assert "1 steps draw 3 of 6 utterances, 50% of a pass: raise train.steps" in said
    few[0] = "train.steps=2"
    post_training.train_sft(tmp_path / "b", tiny / "data", start=tiny / "policy", settings=few)
    assert "of a pass" not in capsys.readouterr().out
