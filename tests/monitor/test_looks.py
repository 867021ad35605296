"""Looks of a small run: they disturb nothing, come again after a resume, and act on an alarm."""

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rrpo import policy, policy_runs, runs
from rrpo.errors import TrainingInterrupted, UserError
from rrpo.files import read_json
from rrpo.monitor import MonitorConfig, read_looks
from rrpo.objectives.diffro import DiffROConfig
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example
from rrpo.policy.rollout import RolloutConfig
from rrpo.progress import read_metrics
from rrpo.train import TrainConfig
from tiny_policy import CONFIG, prompts

STEPS = 12
TRAIN = TrainConfig(
    steps=STEPS, learning_rate=0.02, save_every=4, report_to="none", threads=1, weight_decay=0.0
)


class OneCode:
    """A reward that is hacked by saying the last code again and again."""

    weights: Mapping[str, float] = {"last": 20.0}

    def __init__(self) -> None:
        self.table = (torch.arange(27) == 26).float()[:, None]

    def to(self, device: torch.device) -> None:
        self.table = self.table.to(device)

    def terms(self, embeddings: Tensor, mask: Tensor, _: Sequence[object]) -> dict[str, Tensor]:
        return {"last": (embeddings[..., 0] * mask).sum(1) / mask.sum(1)}


class Nothing(OneCode):
    """A reward that is the same whatever is said."""

    weights: Mapping[str, float] = {"last": 0.0}


def small_policy() -> SpeechTokenLM:
    torch.manual_seed(0)
    return SpeechTokenLM(CONFIG)


def train(
    folder: Path, reward: Any = None, how: Any = None, texts: str = "text", **monitor: Any
) -> SpeechTokenLM:
    """Train a small policy from the same start."""
    examples = [Example(one, torch.arange(6)) for one in prompts(8, 9, 10, 8, 7, 9)]
    # Each text is another one.
    named = [
        Example(replace(one.prompt, text=f"{texts} {number}"), one.speech)
        for number, one in enumerate(examples)
    ]
    config = policy_runs.DiffRORun(
        train=TRAIN,
        diffro=DiffROConfig(batch_size=6, beta=0.0),
        monitor=MonitorConfig(**monitor),
    )
    model, start = small_policy(), small_policy()
    runs.train_on_policy(
        model,
        start,
        reward or OneCode(),
        named,
        config,
        folder,
        **{"description": "", **(how or {})},
    )
    return model


def said(folder: Path) -> list[dict[str, Any]]:
    """Return the looks of a run without what they took."""
    return [{**line, "seconds": None} for line in read_looks(folder)]


def same(one: SpeechTokenLM, other: SpeechTokenLM) -> bool:
    return all(
        torch.equal(first, second)
        for first, second in zip(
            one.state_dict().values(), other.state_dict().values(), strict=True
        )
    )


@pytest.mark.slow
def test_looks_disturb_nothing(tmp_path: Path) -> None:
    watched = train(tmp_path / "watched", every=3, sentences=2)
    alone = train(tmp_path / "alone")
    assert same(watched, alone)
    looks = said(tmp_path / "watched")
    assert [line["step"] for line in looks] == [0, 3, 6, 9, 12]
    assert not read_looks(tmp_path / "alone")
    losses = [line["loss"] for line in read_metrics(tmp_path / "alone" / "metrics.jsonl")]
    lines = read_metrics(tmp_path / "watched" / "metrics.jsonl")
    assert [line["loss"] for line in lines if "loss" in line] == losses
    found = [line["validation"] for line in lines if "validation" in line]
    assert [one["monitor/reward"] for one in found] == [
        line["measures"]["reward"]["now"] for line in looks
    ]


@pytest.mark.slow
@pytest.mark.parametrize("action", ["warn", "lower"])
def test_a_resumed_run_makes_the_same_looks(tmp_path: Path, action: str) -> None:
    asked = {"every": 3, "sentences": 4, "action": action}
    whole = train(tmp_path / "whole", **asked)

    def press(step: int, _: Mapping[str, float]) -> None:
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "cut", how={"callbacks": [press]}, **asked)
    # A look after the checkpoint, such as a kill leaves: it is made again.
    path = tmp_path / "cut" / "monitor.jsonl"
    later = json.dumps({**read_looks(tmp_path / "cut")[-1], "step": 9, "alarm": True})
    path.write_text(path.read_text() + later + "\n")
    resumed = train(tmp_path / "cut", how={"resume": True}, **asked)
    assert said(tmp_path / "cut") == said(tmp_path / "whole")
    assert same(resumed, whole)


def test_an_alarm_names_what_rose_and_keeps_the_weights_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train(tmp_path / "run", every=2, sentences=6)
    looks = read_looks(tmp_path / "run")
    assert [line["alarm"] for line in looks].count(True) == 1
    alarm = next(line for line in looks if line["alarm"])
    assert alarm["evidence"] >= 100
    printed = [line for line in capsys.readouterr().out.splitlines() if "monitor: " in line]
    assert len(printed) == 1
    assert "the reward rose from" in printed[0]
    assert "rose from" in printed[0].split(" while ")[1]
    assert alarm["said"] in printed[0]
    last = max(line["step"] for line in looks if line["kept"])
    assert last < alarm["step"]
    assert f"last at step {last}" in printed[0]
    if last > 0:
        kept = tmp_path / "run" / "checkpoint-kept"
        assert not same(policy.load(kept), model)
        assert read_json(kept / "training.json") == {"step": last, "finished": False}
    assert same(policy.load(tmp_path / "run"), model), "a warning leaves the result alone"


@pytest.mark.slow
def test_a_stop_ends_with_the_weights_that_were_kept(tmp_path: Path) -> None:
    train(tmp_path / "warned", every=2, sentences=6)
    alarm = next(line for line in read_looks(tmp_path / "warned") if line["alarm"])
    kept = [line["step"] for line in read_looks(tmp_path / "warned") if line["kept"]][-1]
    model = train(tmp_path / "stopped", every=2, sentences=6, action="stop")
    assert read_looks(tmp_path / "stopped")[-1]["step"] == alarm["step"] < STEPS
    results = json.loads((tmp_path / "stopped" / "results.json").read_text())
    assert results["stopped_at"] == alarm["step"]
    assert results["best_step"] == kept
    expected = policy.load(tmp_path / "warned" / "checkpoint-kept") if kept else small_policy()
    assert same(model, expected)
    assert same(policy.load(tmp_path / "stopped"), expected)


def test_a_lowered_rate_is_lower_after_each_alarm(tmp_path: Path) -> None:
    train(tmp_path / "run", every=2, sentences=6, action="lower", factor=0.25)
    alarms = [line["step"] for line in read_looks(tmp_path / "run") if line["alarm"]]
    assert alarms
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    for step, rate in rates.items():
        assert rate == pytest.approx(0.02 * 0.25 ** sum(step > one for one in alarms))


@pytest.mark.slow
def test_a_callback_that_ends_a_run_leaves_the_last_weights(tmp_path: Path) -> None:
    """As no alarm was raised, though some harm was suspected."""
    asked = {"every": 2, "sentences": 6, "action": "stop", "false_alarm": 1e-30}

    def end(step: int, _: Mapping[str, float]) -> bool:
        return step == 9

    model = train(tmp_path / "run", how={"callbacks": [end]}, **asked)
    looks = read_looks(tmp_path / "run")
    assert not any(line["alarm"] for line in looks)
    assert not looks[-1]["kept"]
    results = read_json(tmp_path / "run" / "results.json")
    assert (results["stopped_at"], results["best_step"]) == (9, None)
    assert same(model, train(tmp_path / "alone", how={"callbacks": [end]}))


def test_what_was_harmed_before_an_alarm_is_not_kept_after_it(tmp_path: Path) -> None:
    """The test begins again then, with no evidence; the weights are as bad as they were."""
    asked = {"every": 2, "sentences": 6, "action": "lower", "factor": 0.9}
    train(tmp_path / "run", **asked)
    looks = read_looks(tmp_path / "run")
    first = next(number for number, line in enumerate(looks) if line["alarm"])
    assert first < len(looks) - 1
    assert not any(line["kept"] for line in looks[first:])
    kept = read_json(tmp_path / "run" / "checkpoint-kept" / "training.json")
    assert kept["step"] == max(line["step"] for line in looks[:first] if line["kept"])


def test_the_start_is_kept_where_nothing_after_it_is(tmp_path: Path) -> None:
    train(tmp_path / "run", every=12, sentences=6)
    assert [line["kept"] for line in read_looks(tmp_path / "run")] == [True, False]
    assert same(policy.load(tmp_path / "run" / "checkpoint-kept"), small_policy())


@pytest.mark.slow
def test_without_harm_there_is_no_alarm_and_the_last_weights_are_the_result(tmp_path: Path) -> None:
    asked = {"every": 2, "sentences": 6, "action": "stop"}
    model = train(tmp_path / "run", Nothing(), **asked)
    looks = read_looks(tmp_path / "run")
    assert not any(line["alarm"] for line in looks)
    assert looks[-1]["step"] == STEPS
    assert same(model, train(tmp_path / "alone", Nothing()))


def test_lost_looks_are_one_line(tmp_path: Path) -> None:
    def press(step: int, _: Mapping[str, float]) -> None:
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "run", how={"callbacks": [press]}, every=3)
    path = tmp_path / "run" / "monitor.jsonl"
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:1]))
    with pytest.raises(UserError, match="has 1 looks before step 9, not 3"):
        train(tmp_path / "run", how={"resume": True}, every=3)
    path.write_text(text[:-20])
    with pytest.raises(UserError, match="is damaged"):
        train(tmp_path / "run", how={"resume": True}, every=3)


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    from rrpo.schedule import EarlyStopping

    stop = {"stop": EarlyStopping("monitor/kl", 1)}
    with pytest.raises(UserError, match=r"monitor.action=stop cannot be combined"):
        train(tmp_path / "a", how=stop, every=3, action="stop")
    with pytest.raises(UserError, match=r"monitor.words needs audio"):
        train(tmp_path / "b", every=3, words=True)
    with pytest.raises(UserError, match=r"monitor.words: the recogniser knows English alone"):
        train(tmp_path / "c", every=3, words=True, texts="你好")
    with pytest.raises(UserError, match=r"monitor.sentences is set, but no look"):
        train(tmp_path / "d", every=0, sentences=2)
    with pytest.raises(ValueError, match=r"rollout.engine: at looks the policy draws by itself"):
        MonitorConfig(rollout=RolloutConfig(engine="vllm"))
    with pytest.raises(ValueError, match="there is no 'loudness'"):
        MonitorConfig(margins={"loudness": 0.1})
    with pytest.raises(ValueError, match="is not from 0 to under 1"):
        MonitorConfig(margins={"repetition": 1.0})
