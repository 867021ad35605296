"""Trainings whose data streams: resumed to the same weights, and what is refused."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from safetensors.torch import load_file

from places import ROOT
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.monitor import read_looks
from rrpo.post_training import train_diffro, train_dpo, train_grpo, train_sft
from rrpo.reward.regularize import feature_mixup
from rrpo.reward_training import train_reward

TEXTS = [
    f"The {thing} is {how}."
    for thing in ("train", "door", "bird", "house", "road")
    for how in ("late", "open", "here", "cold")
]
SETTINGS = [
    *("train.steps=5", "train.warmup_steps=0", "train.save_every=2", "train.report_to=none"),
    "stream=6",
]
ROLLOUTS = "rollout.max_ratio=1"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows in ten row groups of two files."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part in range(2):
        rows = [
            Utterance(
                id=f"{part}-{number}",
                text=TEXTS[number],
                emotion=("happy", "sad")[number % 2],
                tokens=rng.integers(6561, size=9),
                partition="test" if number == 7 else "train",
            )
            for number in range(20)
        ]
        path = folder / f"{part}.parquet"
        write_shard(path, rows, World().codec_identity)
        parquet.write_table(parquet.read_table(path), path, row_group_size=4)
    return folder


def trainings(tiny: Path) -> dict[str, Callable[..., Any]]:
    """Each training by name; all take `out`, `data` and the rest of the API's arguments."""
    start, rewards = tiny / "policy", [tiny / "reward"]

    def of(train: Callable[..., Any], *settings: str, **given: Any) -> Callable[..., Any]:
        def run(out: Path, data: Path, more: list[str] = SETTINGS, **how: Any) -> Any:
            return train(out, data=data, settings=[*more, *settings], **given, **how)

        return run

    policies = {"start": start, "rewards": rewards}
    return {
        "sft": of(train_sft, "sft.batch_size=3", "held_out=0.3", "validate_every=2", start=start),
        "accumulated": of(train_sft, "sft.batch_size=3", "train.accumulate=2", start=start),
        "diffro": of(train_diffro, "diffro.batch_size=3", f"diffro.{ROLLOUTS}", **policies),
        "recorded": of(train_diffro, "diffro.batch_size=3", "diffro.history=recorded", **policies),
        "duration": of(
            train_diffro,
            *("diffro.batch_size=3", "diffro.duration=0.5", f"diffro.{ROLLOUTS}"),
            **policies,
        ),
        # Step 2 is saved in the midst of the rollouts of steps 1 to 3.
        "grpo": of(
            train_grpo,
            *("grpo.prompts=2", "grpo.group=2", "grpo.updates=3", f"grpo.{ROLLOUTS}"),
            **policies,
        ),
        "reward": of(train_reward, "fit.batch_size=4", start=tiny / "reward"),
    }


NAMES = ("sft", "accumulated", "diffro", "recorded", "duration", "grpo", "reward")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_the_same_weights(
    name: str, data: Path, tiny: Path, tmp_path: Path
) -> None:
    run = trainings(tiny)[name]

    def fail(step: int, _: object) -> None:
        if step == 3:
            raise ZeroDivisionError

    run(tmp_path / "whole", data)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", data, callbacks=[fail])
    run(tmp_path / "parts", data, resume=True)
    whole, parts = (
        load_file(tmp_path / one / "checkpoint" / "training.safetensors")
        for one in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and len(whole) > 10
    assert all(bool((whole[key] == parts[key]).all()) for key in whole)
    carried = load_file(tmp_path / "whole" / "checkpoint" / "random-0.safetensors")
    taken = {"accumulated": 30, "grpo": 4, "reward": 20}.get(name, 15)
    assert carried["carried.stream"] == taken
    start = load_file((tiny / ("reward" if name == "reward" else "policy")) / "model.safetensors")
    assert any(not bool((parts[f"weight.{key}"] == start[key]).all()) for key in start)


def test_other_rows_give_other_weights(data: Path, tiny: Path, tmp_path: Path) -> None:
    """So that the test above sees which rows a step took."""
    run, found = trainings(tiny)["sft"], []
    for buffer in (6, 12):
        run(tmp_path / f"{buffer}", data, [*SETTINGS, f"stream={buffer}"])
        found.append(load_file(tmp_path / f"{buffer}" / "checkpoint" / "training.safetensors"))
    key = "exp_avg.head.weight"  # the weights are those of the least held-out loss
    assert not bool((found[0][key] == found[1][key]).all())


def test_rows_are_mixed_otherwise_at_every_step(
    data: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are as long as each other, so that their weights tell what was drawn."""
    seen: list[list[float]] = []

    def watched(*given: Any) -> Any:
        found = feature_mixup(*given)
        seen.append(found[2].tolist())
        return found

    monkeypatch.setattr("rrpo.reward.fit.feature_mixup", watched)
    trainings(tiny)["reward"](tmp_path / "run", data)
    assert len({tuple(weights) for weights in seen}) == len(seen) == 5


def test_a_run_that_streams_listens_to_itself(data: Path, tiny: Path, tmp_path: Path) -> None:
    """To texts of the first rows, each with every emotion there is."""
    asked = ["monitor.every=5", "monitor.sentences=2", "monitor.rollout.max_ratio=1"]
    trainings(tiny)["diffro"](tmp_path / "run", data, [*SETTINGS, *asked])
    assert [line["step"] for line in read_looks(tmp_path / "run")] == [0, 5]


@pytest.mark.slow
def test_pairs_are_drawn_for_streamed_prompts(data: Path, tmp_path: Path) -> None:
    drawn = ["pairs.prompts=3", "pairs.count=2", "pairs.margin=0.0", "dpo.batch_size=2"]
    settings = [*SETTINGS, *drawn, "train.steps=1"]
    train_dpo(tmp_path / "dpo", ["mini"], data, start="mini", settings=settings)
    pairs = parquet.read_table(tmp_path / "dpo" / "pairs" / "chosen.parquet").to_pylist()
    assert 1 <= len(pairs) <= 3 and {row["text"] for row in pairs} <= set(TEXTS)


def test_what_was_found_is_said(
    data: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings(tiny)["diffro"](tmp_path / "run", data)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"{data}: streams 38 of 40 utterances in 10 row groups, at most 20 of them in memory; "
        "2 are held out for tests. Rows that stand twice are not looked for" in said
    )


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("sft", [], "stream is for shards of your own: name them with --data"),
        ("sft", ["stream=-1"], "stream is -1"),
        ("reward", ["fit.tasks=[emotion, content]"], "stream reads no texts and no mix pool"),
        ("reward", ["fit.mixup_at=audio"], "stream reads no texts and no mix pool"),
        ("reward", ["fit.mixup=false", "fit.nuisance=true"], "nuisance is fitted to all rows"),
    ],
)
def test_what_cannot_stream_is_refused(
    name: str, settings: list[str], expected: str, data: Path, tiny: Path, tmp_path: Path
) -> None:
    given = data if settings else None
    with pytest.raises(UserError, match=expected):
        trainings(tiny)[name](tmp_path / "run", given, [*SETTINGS, *settings])


def test_an_emotion_that_is_not_known_is_named_by_file_and_row(tiny: Path, tmp_path: Path) -> None:
    """Before the first step, whichever row has it."""
    rows = [Utterance(f"{n}", TEXTS[n], "happy", np.arange(9)) for n in range(20)]
    write_shard(tmp_path / "data" / "0.parquet", rows, World().codec_identity)
    rows.append(Utterance("20", TEXTS[0], "disgust", np.arange(9)))
    write_shard(tmp_path / "data" / "1.parquet", rows[10:], World().codec_identity)
    for name in ("diffro", "sft", "reward"):
        with pytest.raises(UserError, match=r"1\.parquet: utterance '20'.*disgust"):
            trainings(tiny)[name](tmp_path / name, tmp_path / "data")
        assert not (tmp_path / name).exists()


@pytest.mark.slow
def test_the_synthetic_rows_of_the_measurement_can_be_trained_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    importlib.import_module("stream_rows").write(tmp_path / "shards", 400)
    quick = ["train.steps=1", "train.warmup_steps=0", "train.report_to=none", "stream=100"]
    trainings(tiny)["sft"](tmp_path / "run", tmp_path / "shards", quick)
    assert (tmp_path / "run" / "results.json").is_file()
