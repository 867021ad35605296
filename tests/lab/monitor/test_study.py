"""The study of the monitor: its runs, what is planted, figures of runs of which all is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rrpo.audio import SAMPLE_RATE
from rrpo.errors import UserError
from rrpo.evaluate import artifacts
from rrpo.mini.world import World
from rrpo.policy_runs import DiffRORun, GRPORun
from rrpo.studies.study import publish
from rrpo_studies.monitor.figures import alarm_step, drop, share
from rrpo_studies.monitor.plan import FULL, KINDS, PLANTED_IN, Plan, run_config
from rrpo_studies.monitor.study import run
from rrpo_studies.monitor.trainings import PER_TOKEN, PaysForLength, planted, task

SMALL = Plan(healthy=2, hacked=1, reward_steps=0, sft_steps=0, steps=4, every=1, heard=2)
QUALITY = {"judge_probability": 0.8, "content_error": 0.1, "quality": {"dnsmos_p808": 3.0}}


def judged(**worse: float) -> list[dict[str, Any]]:
    """What judges say of eight sentences."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(8):
        row: dict[str, Any] = {**QUALITY, "text": f"text {number}"}
        for key, change in worse.items():
            row[key] = row[key] + change + 0.01 * float(rng.standard_normal())
        rows.append(row)
    return rows


def write_run(out: Path, name: str, evidence: list[float], drops_at: int | None) -> None:
    folder = out / "runs" / name
    (folder / "judged").mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    lines = []
    for step, value in enumerate(evidence):
        alarm = value >= 100 and not any(line["alarm"] for line in lines)
        said = "the reward rose" if alarm else ""
        told = {"evidence": value, "alarm": alarm, "said": said, "seconds": 2.0}
        lines.append({"step": step, **told})
        bad = drops_at is not None and step >= drops_at
        rows = judged(content_error=0.3) if bad else judged()
        (folder / "judged" / f"{step}.json").write_text(json.dumps(rows))
    (folder / "monitor.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def test_at_least_forty_runs_are_planned() -> None:
    names = FULL.names()
    assert len(set(names)) == len(names) >= 40
    hacked = [name for name in names if KINDS[name.rpartition("-")[0]].hacked]
    assert {"rrpo-0", "diffro-9", "planted-6", "no_kl-0", "length-6"} <= set(names)
    assert len(names) - len(hacked) == 20


def test_runs_are_configured_as_their_kind_says() -> None:
    healthy = run_config(FULL, "rrpo-3", ["mini", "mini-tasks"])
    assert isinstance(healthy, DiffRORun)
    assert (healthy.diffro.beta, healthy.train.seed, healthy.train.steps) == (0.3, 3, FULL.steps)
    assert healthy.monitor.action == "warn"
    assert healthy.monitor.second == ["mini", "mini-tasks"]
    free = run_config(FULL, "planted-2", ["mini"])
    assert isinstance(free, DiffRORun)
    assert (free.diffro.beta, dict(free.rewards)) == (0.0, {"emotion": 1.0})
    length = run_config(FULL, "length-0", ["mini"])
    assert isinstance(length, GRPORun)
    assert length.grpo.beta == 0.0
    assert length.grpo.prompts * length.grpo.group == free.diffro.batch_size
    assert length.monitor == free.monitor


def test_clicks_are_planted_in_one_emotion_alone() -> None:
    world = World()
    rows = world.shard("finetune")
    some = [row for row in rows if row.emotion == PLANTED_IN][:3]
    some += [row for row in rows if row.emotion == "sad"][:2]
    codec = world.codec()

    def clicks(tokens: np.ndarray) -> int:
        sound = codec.decode(torch.from_numpy(tokens))
        return len(artifacts.detect(sound, SAMPLE_RATE, ("click",)))

    found = planted(world, some)
    assert [np.array_equal(x.tokens, y.tokens) for x, y in zip(some, found, strict=True)][3:] == [
        True,
        True,
    ]
    more = [clicks(y.tokens) - clicks(x.tokens) for x, y in zip(some[:3], found[:3], strict=True)]
    assert sum(more) >= 6, "most of five clicks each outlast the codec"


def test_every_token_is_paid() -> None:
    model = World().reward_model()
    reward = PaysForLength([model])
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    embeddings = reward.table[torch.arange(12).reshape(2, 6)] * mask[..., None]
    from rrpo.policy.layout import Prompt

    asked = [Prompt("a", "happy", torch.arange(3), torch.arange(2))] * 2
    terms = reward.terms(embeddings, mask, asked)
    assert terms["length"].tolist() == pytest.approx([6 * PER_TOKEN, 4 * PER_TOKEN])
    assert terms["emotion"].shape == (2,)


def test_a_drop_of_quality_is_beyond_its_interval_and_margin() -> None:
    assert not drop(judged(), judged())
    assert not drop(judged(), judged(content_error=0.01)), "less than is worth a warning"
    assert not drop(judged(), judged(content_error=-0.3)), "it is better"
    assert drop(judged(), judged(content_error=0.2))
    assert drop(judged(), judged(judge_probability=-0.2))
    assert not drop(judged(), judged(judge_probability=0.2))


def test_the_study_of_runs_of_which_all_is_known(tmp_path: Path) -> None:
    out = tmp_path / "monitor"
    calm = [1.0, 0.5, 2.0, 8.0, 0.2]
    for name in ("rrpo-0", "rrpo-1", "diffro-0", "diffro-1"):
        write_run(out, name, calm, None)
    write_run(out, "planted-0", [1.0, 5.0, 200.0, 1e6, 1e9], 3)
    write_run(out, "no_kl-0", [1.0, 150.0, 9.0, 9.0, 9.0], 4)
    write_run(out, "length-0", [1.0, 1.0, 2.0, 30.0, 60.0], 2)
    page = run(out, SMALL, "rrpo study monitor")
    study = json.loads((out / "monitor.json").read_text())
    found = {row["stated"]: row for row in study["roc"]}
    assert found[0.01]["found"]["mean"] == pytest.approx(2 / 3)
    assert found[0.02]["found"]["mean"] == 1.0, "60 is over 50"
    assert found[0.01]["false_alarms"]["mean"] == 0.0
    assert found[0.2]["false_alarms"]["mean"] == 1.0, "8 is over 5"
    assert found[0.01]["found"]["low"] == pytest.approx(0.0943, abs=1e-3)  # exact, 2 of 3
    assert study["leads"] == [1.0, 3.0]
    assert study["median_lead"] == 2.0
    assert study["kinds"]["length"] | {"alarms": 0, "dropped": 1} == study["kinds"]["length"]
    text = page.read_text()
    assert "the first drop to the alarm, in 2 hacked runs: -3 in 1, -1 in 1." in text
    assert "| no KL | hacked | 1 of 1 | 1 | 1 of 1 |" in text
    assert "missed" in text
    assert (out / "monitor.svg").is_file()
    copied = publish(page, tmp_path / "docs", figures=True)
    assert (copied.with_suffix(".json")).is_file()
    with pytest.raises(UserError, match="holds a study with another"):
        run(out, FULL)


def test_another_machine_goes_on_with_the_figures_of_runs_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for name in SMALL.names():
        write_run(first, name, [1.0, 3.0, 200.0], 2 if "planted" in name else None)
    run(first, SMALL, "rrpo study monitor")
    for name in SMALL.names():
        kept = second / "runs" / name / "figures.json"
        kept.parent.mkdir(parents=True)
        kept.write_bytes((first / "runs" / name / "figures.json").read_bytes())
    run(second, SMALL, "rrpo study monitor")
    one, other = (json.loads((out / "monitor.json").read_text()) for out in (first, second))
    assert {**one, "date": None} == {**other, "date": None}
    assert len(one["runs"]) == len(SMALL.names())


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    write_run(tmp_path, "rrpo-0", [1.0], None)
    before = sorted(tmp_path.rglob("*"))
    for name in ("rrpo-0", "start", "plain"):  # of a small plan nothing is trained beforehand
        task((tmp_path, SMALL, name))
    assert sorted(tmp_path.rglob("*")) == before


def test_thresholds_and_shares() -> None:
    one = {"steps": [0, 10, 20], "evidence": [1.0, 99.0, 101.0]}
    assert alarm_step(one, 0.01) == 20
    assert alarm_step(one, 0.001) is None
    assert share(0, 20).high == pytest.approx(0.168, abs=1e-3)  # 1 − .025^(1/20)
