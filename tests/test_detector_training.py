"""`rrpo reward detector` and `train_detector`: what they take, and what a policy gets."""

from pathlib import Path
from typing import Any

import pytest

from command_line import mistake, rrpo
from detector_shards import QUICK, shards
from rrpo import detector_training, runs, train_detector
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.mini.world import World
from rrpo.reward import RewardModel
from rrpo.train import TrainResult


def test_a_detector_of_own_shards_records_their_codec_and_how_it_does(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shards(tmp_path, World().codec_identity)
    settings = {"train.steps": 40, "train.learning_rate": 1e-2, "batch_size": 8}
    model = train_detector(tmp_path / "run", **made, start=tiny / "reward", settings=settings)
    assert model.config.codec == World().codec_identity
    assert model.classes("event") == ["none", "event"]
    said = capsys.readouterr().out
    last = read_json(tmp_path / "run" / "results.json")["validations"][-1]
    assert f"{last['found']:.0%} of held-out speech with it" in said
    assert "--preset detector --reward … --reward" in said
    inputs = read_json(tmp_path / "run" / "inputs.json")
    assert inputs["having"][0][0] == str(made["having"])


def test_one_that_cannot_tell_is_not_recommended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shards(tmp_path, "own")
    none = QUICK | {"train.steps": 1, "train.learning_rate": 1e-9}
    model = train_detector(tmp_path / "run", **made, start="new", settings=none)
    assert model.config.codec == "own"
    said = capsys.readouterr().out
    assert "that is of no use: give it more steps" in said
    assert "--preset" not in said


def test_speech_with_the_sound_in_place_of_that_without_is_refused(tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    rows = read_shard(made["having"])
    write_shard(tmp_path / "clicks.parquet", rows, World().codec_identity, "clicks")
    with pytest.raises(UserError, match=r"clicks were put into this speech: name it with --having"):
        train_detector(tmp_path / "run", tmp_path / "clicks.parquet", made["data"])


@pytest.mark.slow
def test_a_policy_without_a_reward_for_the_emotion_is_told(tiny: Path, tmp_path: Path) -> None:
    start = ["policy", "diffro", "--from", tiny / "policy", "--data", tiny / "data"]
    few = ["--set", "train.steps=1", "--set", "train.warmup_steps=0"]
    said = rrpo(
        *start, *few, "--reward", "mini-tasks", "--set", "rewards.event=1", "--out", tmp_path / "p"
    )
    assert "rewards without emotion (event)" in said


@pytest.mark.slow
def test_a_policy_is_trained_against_an_emotion_and_no_event(tiny: Path, tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    quick = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    rrpo(
        *("reward", "detector", "--data", made["data"], "--having", made["having"]),
        *("--from", tiny / "reward", "--out", tmp_path / "detector", *quick),
    )
    models = ["--reward", tiny / "reward", "--reward", tmp_path / "detector"]
    few = ["--set", "train.steps=1", "--set", "train.warmup_steps=0"]
    start = ["policy", "diffro", "--from", tiny / "policy", "--data", tiny / "data", *models, *few]
    both = ["--set", "rewards={emotion: 1.0, event: 1.0}"]
    rrpo(*start, *both, "--out", tmp_path / "policy")
    line = (tmp_path / "policy" / "metrics.jsonl").read_text().splitlines()[0]
    assert '"reward_event"' in line
    assert "has none of the terms that have a weight" in mistake(
        *start, "--out", tmp_path / "other"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "data"}, "needs speech without the sound"),
        ({"having": "having"}, "needs speech without the sound"),
        ({"data": "data", "having": "having", "insert": "pop"}, "for the bundled speech"),
        ({"insert": "bark"}, "unknown sound 'bark': choose from clicks"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: dict[str, str], words: str, tiny: Path, tmp_path: Path
) -> None:
    made = shards(tmp_path, World().codec_identity)
    given = {name: made.get(name, value) for name, value in options.items()}
    with pytest.raises(UserError, match=words):
        train_detector(tmp_path / "run", **given, start=tiny / "reward", settings=QUICK)


def test_speech_that_the_sound_changed_nothing_of(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shards(tmp_path, World().codec_identity)
    given = {"start": tiny / "reward", "settings": QUICK}
    with pytest.raises(UserError, match=r"6 of 6 utterances of .* are those without the sound"):
        train_detector(tmp_path / "run", made["data"], made["data"], **given)
    both = [*read_shard(made["having"]), read_shard(made["data"])[0]]
    write_shard(tmp_path / "both.parquet", both, World().codec_identity)
    train_detector(tmp_path / "run", made["data"], tmp_path / "both.parquet", **given)
    assert "1 of 7 utterances" in capsys.readouterr().out


def test_shards_of_two_codecs_are_refused(tiny: Path, tmp_path: Path) -> None:
    one, other = shards(tmp_path / "a", "one"), shards(tmp_path / "b", "two")
    with pytest.raises(UserError, match="codec"):
        train_detector(
            tmp_path / "run", one["data"], other["having"], start=tiny / "reward", settings=QUICK
        )


@pytest.mark.slow
@pytest.mark.parametrize("insert", ["plosive", "hum"])
def test_a_sound_is_put_into_the_bundled_speech(
    insert: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[Utterance]] = []
    whole = runs.train_detector

    def noted(model: RewardModel, *rest: Any, **how: Any) -> TrainResult:
        given.extend(rest[:2])
        return whole(model, *rest, **how)

    monkeypatch.setattr(detector_training, "ENOUGH", 12)
    monkeypatch.setattr(runs, "train_detector", noted)
    train_detector(tmp_path / "run", insert=insert, start=tiny / "reward", settings=QUICK)
    without, having = given
    assert 1 <= len(having) <= 12
    own = World().shard("finetune")[:12]
    kept = [row.tokens.tobytes() for row in own] == [row.tokens.tobytes() for row in without]
    assert kept == (insert == "plosive")  # else both kinds of speech are tokenized again
    assert read_json(tmp_path / "run" / "inputs.json")["insert"] == [[insert, ""]]
    with pytest.raises(UserError, match="insert"):
        train_detector(
            tmp_path / "run", insert="pop", start=tiny / "reward", settings=QUICK, resume=True
        )
