"""Several processes train as one: gradients, interruptions, another number of them, sharding.

`several.py` beside this runs them; all the processes are on one machine and speak through gloo.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from places import ROOT
from rrpo import policy
from rrpo import processes as processes_module
from rrpo.checkpoint import load_tensors
from rrpo.data.shards import read_shard
from rrpo.errors import UserError
from rrpo.objectives.pairs import CHOSEN, REJECTED
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy_runs import DiffRORun
from rrpo.processes import every_row, process, processes, share, summed, training_processes
from rrpo.progress import read_metrics
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.schedule import TrainConfig
from rrpo.sharding import gathered, shard, whole

pytestmark = pytest.mark.thorough

SCRIPT = Path(__file__).parent / "several.py"
NAMES = ("gradients", "sharded", "resumed", "signalled", "failed", "agreed", "told", "streamed")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGTERM")


def environment() -> dict[str, str]:
    """Return what the processes are started with."""
    keep = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    paths = [*sys.path, str(ROOT / "tests")]
    return keep | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where all of it has run, what it said in `said.txt`."""
    folder = tmp_path_factory.mktemp("processes")
    for name in NAMES:
        (folder / name).mkdir()
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *NAMES],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (folder / "said.txt").write_text(ended.stdout)
    return folder


def said(root: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of the script by their names."""
    return {line["name"]: line for line in map(json.loads, (root / "said.txt").open())}


def ends(root: Path, name: str) -> list[dict[str, Any]]:
    """Return how each process of a run has ended."""
    files = sorted(root.glob(f"{name}-*.json"))
    return [json.loads(file.read_text()) for file in files]


@forking
def test_two_and_four_processes_have_the_gradient_of_one(root: Path) -> None:
    """Of the joined batch, whose parts differ in tokens, texts and used weights."""
    assert said(root)["gradients"]["ends"] == [0] * 7
    folder = root / "gradients"
    names = sorted(path.name.removesuffix(" 1-0") for path in folder.glob("* 1-0"))
    assert set(names) == {
        *("sft", "dpo", "diffro", "diffro, duration", "grpo", "rloo", "uneven"),
        *("reward", "reward, float64"),
    }
    for name in names:
        alone = load_tensors(folder / f"{name} 1-0")
        weights = [key for key in alone if not key.startswith("figure")]
        assert max(float(alone[key].abs().max()) for key in weights) > 0.01, name
        for count in (2, 4):
            for rank in range(count):
                found = load_tensors(folder / f"{name} {count}-{rank}")
                assert found.keys() == alone.keys(), name
                # Float32 sums over parts of three rows round by 1.6e-6 on some processors; what is
                # computed is checked in float64.
                rounded = name == "reward" and count == 4
                bound = 1e-12 if name.endswith("float64") else 2e-6 if rounded else 1e-6
                for key in weights:
                    torch.testing.assert_close(found[key], alone[key], atol=bound, rtol=0)
                for key in alone.keys() - set(weights):
                    torch.testing.assert_close(found[key], alone[key], atol=1e-6, rtol=0)


@forking
@pytest.mark.parametrize("name", ["tied", "sft", "diffro", "adapters", "grpo"])
def test_sharded_as_whole(root: Path, name: str) -> None:
    """The same losses, weights and moments, in files that one process can load."""
    runs = [root / "sharded" / f"{name} {kind}" for kind in ("1 none", "2 none", "2 full")]
    runs = [run for run in runs if run.exists()]
    assert len(runs) == (3 if name in ("tied", "sft") else 2)
    assert said(root)["sharded"]["ends"] == [0] * 7
    held = [json.loads((run / "held-0.json").read_text()) for run in runs[-2:]]
    assert held[1]["elements"] <= held[0]["elements"] // 2 + 20
    first = runs[0]
    losses = [[row["loss"] for row in read_metrics(run / "metrics.jsonl")] for run in runs]
    for run, loss in zip(runs, losses, strict=True):
        assert loss == pytest.approx(losses[0], abs=1e-5)
        for file in ("training.safetensors", "model.safetensors"):
            one, other = (load_tensors(part / "checkpoint" / file) for part in (first, run))
            assert one.keys() == other.keys()
            for key in one:
                torch.testing.assert_close(other[key], one[key], atol=1e-5, rtol=1e-5)
    assert losses[0][0] != losses[0][-1]
    kept = load_tensors(runs[-1] / "checkpoint" / "training.safetensors")
    if name == "tied":
        assert torch.equal(kept["weight.head.weight"], kept["weight.table.weight"])
    if name == "adapters":
        assert all("lora_" in key for key in kept)
        assert held[1]["frozen"] == ["torch.bfloat16"]


@forking
def test_a_sharded_policy_listens_to_itself(root: Path) -> None:
    """Its parts are whole in what a look keeps."""
    kept = policy.load(root / "sharded" / "watched" / "checkpoint-kept")
    assert kept.config.layers == len(kept.layers) == 2
    assert all(bool(one.isfinite().all()) for one in kept.parameters())
    assert len((root / "sharded" / "watched" / "monitor.jsonl").read_text().splitlines()) == 3


@forking
def test_another_number_of_processes_goes_on(root: Path) -> None:
    """To the weights and moments of an uninterrupted run, with random streams of its own."""
    folder = root / "resumed"
    assert set(said(root)["resumed"]["ends"]) == {0}
    whole = load_tensors(folder / "whole" / "checkpoint" / "training.safetensors")
    alone = ends(folder, "whole 0")[0]["drawn"]
    for case in (
        "2 to 1 a",
        "1 to 2 a",
        "2 to 4 a",
        "2 to 2 a",
        "2 to 1 sharded",
        "1 to 2 sharded",
    ):
        first, _, then, _ = case.split()
        before, after = ends(folder, f"{case} 0"), ends(folder, f"{case} 1")
        assert (len(before), len(after)) == (int(first), int(then))
        assert all("interrupted after step 2 of 4" in one["said"] for one in before)
        assert all(one["step"] == 4 and list(one["drawn"]) == ["3", "4"] for one in after)
        # Two steps of so many processes each: a stream goes on where all of them had come to.
        assert {one["place"] for one in after} == {2 * int(first) + 2 * int(then)}
        kept = load_tensors(folder / case / "checkpoint" / "training.safetensors")
        assert kept.keys() == whole.keys()
        for key in whole:
            torch.testing.assert_close(kept[key], whole[key], atol=2e-6, rtol=1e-5)
        streams = [tuple(one["drawn"].values()) for one in after]
        assert len(set(streams)) == len(streams)
        goes_on = streams[0] == (alone["3"], alone["4"])
        assert goes_on == (first == then)
    again = [[one["drawn"] for one in ends(folder, f"2 to 4 {name} 1")] for name in "ab"]
    assert again[0] == again[1]
    assert "after step 2 of 4" in ends(folder, "grpo 0")[0]["said"]
    assert ends(folder, "grpo 1")[0]["step"] == 4


@forking
def test_one_process_that_is_told_to_end_ends_all(root: Path) -> None:
    """After the same step, with a checkpoint of it, wherever the signal comes."""
    folder = root / "signalled"
    assert set(said(root)["signalled"]["ends"]) == {0}
    expected = {"warm-up": 0, "loss": 3, "judging": 5, "last": 20}
    names = [*expected, *(f"random {trial}" for trial in range(6))]
    for name in names:
        found = ends(folder, f"{name} 0")
        assert len(found) == (4 if name == "random 5" else 2)
        steps = {re.match(r"interrupted after step (\d+) ", one["said"])[1] for one in found}
        assert len(steps) == 1, name
        assert [one["silent"] for one in found] == [False] + [True] * (len(found) - 1)
        step = int(steps.pop())
        assert step == expected.get(name, step)
        checkpoint = folder / name / "checkpoint"
        assert json.loads((checkpoint / "training.json").read_text())["step"] == step
        assert not checkpoint.with_name("checkpoint.old").exists(), "one was written"
        assert all(max([0, *map(int, one["drawn"])]) == step for one in found)
        assert read_metrics(folder / name / "metrics.jsonl")[-1]["step"] == step


@forking
def test_one_process_that_fails_ends_all(root: Path) -> None:
    """At the same step, whether its loss cannot be computed or it cannot draw; two draw pairs."""
    folder = root / "failed"
    assert said(root)["failed"]["ends"] == [0] * 8
    for name in ("loss", "draw"):
        others, culprit = ends(folder, f"{name} 0")
        assert "diverged at step 2 (no scores" in culprit["said"]
        assert "diverged at step 2 (another process" in others["said"]
        assert others["silent"] and not culprit["silent"]
    others, culprit = ends(folder, "row 0")
    assert culprit["said"] == "row 7 is bad"
    assert others["said"] == "another process cannot go on, and says why"
    assert others["silent"] and not culprit["silent"]
    chosen, rejected = (read_shard(folder / "pairs" / name) for name in (CHOSEN, REJECTED))
    assert [row.id for row in chosen] == [row.id for row in rejected]
    assert {int(row.id) % 2 for row in chosen} == {0, 1}
    assert len({row.id for row in chosen}) == len(chosen) <= 7


@forking
def test_processes_that_differ_do_not_begin(root: Path) -> None:
    """All end before the first step with one line that the main one alone prints."""
    folder = root / "agreed"
    assert said(root)["agreed"]["ends"] == [0] * 20
    same = "start all with the same command and the same files"
    expected = {
        "rate": f"process 1 has learning_rate 0.01 where process 0 has 0.001: {same}",
        "inputs": "process 1 has data [['other', 'b1b1b1b1b1b1…']] where process 0 has "
        f"[['shard', 'a0a0a0a0a0a0…']]: {same}",
        "resume": f"process 1 has resume False where process 0 has True: {same}",
    }
    for name, line in expected.items():
        assert ends(folder / name, "end") == [
            {"said": line, "silent": silent, "steps": []} for silent in (False, True)
        ]
        assert not (folder / name / "run").exists(), "nothing was written"
    assert [one["steps"] for one in ends(folder / "threads", "end")] == [[1, 2]] * 2
    first, second = ends(folder / "taken", "end")
    assert first["said"].endswith("already holds a training run: pass --resume or another --out")
    assert second == {"said": f"process 0: {first['said']}", "silent": True, "steps": []}


@forking
def test_processes_with_two_folders_do_not_begin(root: Path) -> None:
    """Nor do they go on, where one of the two holds a run."""
    folder = root / "agreed"
    places = {
        "out": folder / "out" / "run",
        "begun": folder / "begun" / "../threads/run",
        "new": folder / "new" / "run",
    }
    for name, place in places.items():
        line = (
            f"process 1 does not see the run folder {place} of process 0: the run folder must be "
            "one folder that all processes see (the same --out, on a disk that all machines share)"
        )
        assert ends(folder / name, "end") == [
            {"said": line, "silent": silent, "steps": []} for silent in (False, True)
        ]
        assert not list(place.glob(".meeting*")), "the token is removed"
    assert not (folder / "out" / "elsewhere").exists()
    assert not list(places["new"].iterdir())


@forking
def test_a_checkpoint_that_a_process_cannot_write_ends_all(root: Path) -> None:
    """Whether the states of one are not there, or the main one has no room."""
    folder = root / "agreed"
    line = f"{folder / 'lost/run/checkpoint.new'} lacks the random states of process 1, so this"
    first, second = ends(folder / "lost", "end")
    assert first["said"].startswith(line) and not first["silent"]
    assert second["said"] == f"process 0: {first['said']}" and second["silent"]
    first, second = ends(folder / "full", "end")
    assert "No space left on device" in first["said"] and not first["silent"]
    assert second["said"] == f"process 0: {first['said']}" and second["silent"]
    for name in ("lost", "full"):
        assert not list((folder / name / "run").glob("checkpoint*"))
        assert [one["steps"] for one in ends(folder / name, "end")] == [[1, 2]] * 2


@forking
def test_processes_share_an_epoch_of_streamed_rows(root: Path) -> None:
    """Each row is read by one of them, and each reads as many."""
    assert said(root)["streamed"]["ends"] == [0, 0]
    given = ends(root / "streamed", "given")
    assert [len(one) for one in given] == [20, 20]
    assert {*given[0], *given[1]} == {str(number) for number in range(40)}


@forking
def test_what_is_told_is_told_once(root: Path) -> None:
    """Notes by the main process; an error by the first that has it, with its number."""
    folder = root / "told"
    assert said(root)["told"]["ends"] == [0] * 6
    printed = {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")
    }
    errors = {name: text for name, text in printed.items() if "error" in name and text}
    note = f"{folder / 'shard.parquet'}: 3 of 12 utterances are held out for tests\n"
    note += "sft.batch_size=16 is more than the 6 there are to train on: a batch has some "
    note += "several times, and takes the memory of all\n"
    assert {name for name, text in printed.items() if text == "2"} == {
        f"{case}/code-{rank}.txt" for case in ("differ", "all", "second") for rank in (0, 1)
    }
    assert {name: text for name, text in printed.items() if "out-" in name and text} == {
        "differ/out-0.txt": note,
        "second/out-0.txt": note,
    }
    assert errors.keys() == {"differ/error-0.txt", "all/error-0.txt", "second/error-1.txt"}
    assert errors["differ/error-0.txt"].startswith(
        "error: process 1 has train.learning_rate 0.01 where process 0 has 0.0002: start all"
    )
    assert errors["all/error-0.txt"].startswith("error: no token shard at ")
    assert errors["second/error-1.txt"].startswith("error: process 1: ")
    assert all(text.count("\n") == 1 for text in errors.values())


def test_under_a_launcher(tmp_path: Path) -> None:
    command = ["torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [sys.executable, "-m", *command, str(SCRIPT), str(tmp_path), "launched"],
        env=environment(),
        capture_output=True,
        check=True,
        timeout=200,
    )
    stored = json.loads((tmp_path / "launched" / "checkpoint" / "training.json").read_text())
    assert (stored["processes"], stored["step"]) == (2, 4)


def test_alone_there_is_nothing_to_share() -> None:
    assert (process(), processes()) == (0, 1)
    assert summed(2.5) == 2.5 and summed(2.5, failed=True) == 2.5
    assert share(3) == 1.0 and every_row([1, 2]) == [1, 2]


def test_processes_that_accelerate_does_not_see_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU it takes every process for the only one."""
    monkeypatch.setattr(processes_module, "processes", lambda: 2)
    with pytest.raises(UserError, match="set ACCELERATE_USE_CPU=true"):
        training_processes()


def test_what_cannot_be_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is for policies"):
        shard(nn.Linear(1, 1), torch.device("cpu"))
    config = LMConfig(text_vocabulary=4, hidden=8, layers=1, heads=2, key_value_heads=1, codes=27)
    model = SpeechTokenLM(config)
    with monkeypatch.context() as old:
        old.setitem(sys.modules, "torch.distributed.fsdp", None)
        with pytest.raises(UserError, match=r"needs torch 2\.6 or newer"):
            shard(model, torch.device("cpu"))
    run = DiffRORun(
        train=TrainConfig(steps=1, learning_rate=0.1, sharding="full"),
        diffro={"context_passes": 1},  # type: ignore[arg-type]
    )
    paying = RewardModel(RewardConfig(width=8, layers=1, heads=2, codes=27))
    with pytest.raises(UserError, match="context_passes"):
        run.objective(model, model, Reward([paying]), [], [])


def test_a_model_that_is_not_sharded_stays_as_it_is() -> None:
    model = nn.Linear(2, 2)
    before: list[Tensor] = list(model.parameters())
    with whole(model):
        assert all(one is other for one, other in zip(model.parameters(), before, strict=True))
    assert gathered(model.weight) is model.weight
