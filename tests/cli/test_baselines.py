"""GRPO, DPO, several rewards and the benchmarks by their commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from command_line import mistake, rrpo
from rrpo import policy
from rrpo.cli import app
from rrpo.files import read_json
from rrpo.objectives.pairs import CHOSEN, REJECTED
from rrpo.studies.demo import demo
from rrpo.studies.demo.systems import DEMO, Plan

pytestmark = pytest.mark.slow

SHORT = ("--set", "train.steps=2", "--set", "train.warmup_steps=1")


@pytest.fixture
def common(tiny: Path) -> tuple[object, ...]:
    return ("--from", tiny / "policy", "--data", tiny / "data", *SHORT)


def test_grpo_with_two_rewards_and_rloo(
    tiny: Path,
    common: tuple[object, ...],
    tmp_path: Path,
) -> None:
    out = tmp_path / "grpo"
    second = shutil.copytree(tiny / "reward", tmp_path / "second")
    rewards = ("--reward", tiny / "reward", "--reward", second, "--set", "caution=0.5")
    sizes = ("--set", "grpo.prompts=2", "--set", "grpo.group=2", "--set", "grpo.advantage=rloo")
    rrpo("policy", "grpo", *rewards, *common, *sizes, "--out", out)
    assert read_json(out / "results.json")["kind"] == "grpo"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {"reward", "kl", "clipped", "group_spread"} <= set(lines[0])
    assert (out / "report.html").is_file()


def test_dpo_draws_its_pairs_and_takes_them_again(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "dpo"
    model = policy.load(tiny / "policy")
    assert model.head.bias is not None
    with torch.no_grad():  # random weights hardly ever end, and what was cut off is in no pair
        model.head.bias[model.config.codes :] += 6.0
    policy.save(model, tmp_path / "policy")
    data = ("--data", tiny / "data")
    common: tuple[object, ...] = ("--from", tmp_path / "policy", *SHORT)
    drawn = ("--set", "pairs.prompts=3", "--set", "pairs.count=3", "--set", "pairs.margin=0.0")
    words = ("--reward", tiny / "reward", *data, *common, *drawn, "--set", "dpo.batch_size=2")
    rrpo("policy", "dpo", *words, "--out", out)
    assert read_json(out / "results.json")["pairs"] == 3
    assert (out / "pairs" / CHOSEN).is_file() and (out / "pairs" / REJECTED).is_file()
    again = ("--pairs", out / "pairs", *common, "--out", tmp_path / "again")
    rrpo("policy", "dpo", *again)
    assert read_json(tmp_path / "again" / "results.json")["pairs"] == 3
    assert "either --reward" in mistake("policy", "dpo", *common, "--out", tmp_path / "no")
    lost = mistake("policy", "dpo", "--pairs", tmp_path, *common, "--out", tmp_path / "lost")
    assert CHOSEN in lost


def test_rewards_that_cannot_be_paid_are_one_line(
    tiny: Path,
    common: tuple[object, ...],
    tmp_path: Path,
) -> None:
    words = ("policy", "diffro", "--reward", tiny / "reward", *common, "--out", tmp_path / "x")
    assert "has a head for 'content'" in mistake(*words, "--set", "rewards={content: 1.0}")
    assert "rewards is empty" in mistake(*words, "--set", "rewards={}")
    assert "unknown reward 'loudness'" in mistake(*words, "--set", "rewards={loudness: 1.0}")
    assert "positive temperature" in mistake(*words, "--set", "diffro.tau=[1.0, 0.0]")
    assert not (tmp_path / "x").exists()


def test_the_gradient_audit_prints_figures_as_json(tiny: Path) -> None:
    words = ("--data", tiny / "data", "--blocks", 3, "--prompts", 1, "--group", 2)
    run = ("bench", "gradient", tiny / "policy", "--reward", tiny / "reward")
    for line in rrpo(*run, *words, "--json").splitlines():
        if line.startswith("{"):
            assert {"name", "ratio", "low", "high", "unit", "machine"} == set(json.loads(line))
    assert "gumbel_rao" in rrpo(*run, *words)


def test_unknown_benchmarks_and_systems_are_one_line(tmp_path: Path) -> None:
    assert "unknown benchmark 'quickness'" in mistake("bench", "speed", "quickness")
    words = ("demo", "--out", tmp_path / "demo", "--systems", "sft,ppo")
    assert "unknown system 'ppo'" in mistake(*words)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("size", ["--smoke", "--quick"])
def test_the_demo_post_trains_what_its_plan_says(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what the command line lists a second time."""
    plans: list[Plan] = []
    monkeypatch.setattr(demo, "run", lambda _out, _seed, plan, *_: plans.append(plan))
    for words in ((), ("--systems", "rrpo")):
        asked = ["demo", size, "--out", str(tmp_path / "demo"), *words]
        assert CliRunner().invoke(app, asked).exit_code == 0
    assert plans[0].systems == DEMO.systems
    assert "rrpo_best_of_8" in plans[0].systems
    assert plans[1].systems == ("rrpo",)
