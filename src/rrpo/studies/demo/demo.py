"""The demo: harden a reward model, post-train a speaking LM in several ways, judge them, show it.

SFT starts from the bundled base; DiffRO (plain reward model) and RRPO (hardened reward model) start
from SFT and are held to it. Every stage is a run folder of its own; one that is finished is not run
again, so an interrupted demo goes on where it stood.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrpo import runs
from rrpo.checkpoint import claim, read_json, sha256, write_json, write_text
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo.evaluate.panel import Judges, summarise
from rrpo.mini.world import HASHES, World
from rrpo.report.page import write_page
from rrpo.report.terminal import print_table
from rrpo.reward import RewardModel
from rrpo.studies.demo.judged import curve_point, judged_samples
from rrpo.studies.demo.plan import FULL, PRETRAINED, REWARD_OF, SMOKE, SYSTEMS, TABLE_2, Plan
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.systems import post_train, reward_model
from rrpo.studies.study import begin

GROWS = ("systems", "ablation")
"""What a later call may ask for more or less of: each system and reward model has its own run."""


def run(
    out: Path,
    seed: int = 0,
    plan: Plan = FULL,
    ablation: bool = False,
    world: World | None = None,
    command: str = "rrpo demo",
) -> dict[str, Any]:
    """Run or continue the demo in a folder; return what `results.json` holds.

    Args:
        plan: `FULL`, `SMOKE`, or that of a study.
        ablation: also fine-tune the reward models between plain and hardened.
        world: another world than the bundled one.
        command: what the page says the figures were made with.

    Raises:
        UserError: the folder holds a demo of another seed or size, or cannot be written.
    """
    world = world or World()
    world.check()
    _claim(
        out,
        {"seed": seed, "ablation": ablation, "world": sha256(world.folder / HASHES)} | asdict(plan),
    )
    console = Console()
    demo = Demo(
        out,
        seed,
        plan,
        world,
        world.codec(),
        Judges.installed(world.judge()),
        read_json(out / "seconds.json") if (out / "seconds.json").is_file() else {},
    )
    reward_models = {name: reward_model(demo, name) for name in _reward_names(plan, ablation)}
    systems = post_train(demo, reward_models)
    rows = {
        name: judged_samples(demo, name, model, reward_models) for name, model in systems.items()
    }
    rows["reference"] = judged_samples(demo, "reference", None, reward_models)
    results = _results(demo, rows, reward_models, command)
    with demo.stage("report"):
        _write(demo, rows, results)
    print_table(results, console)
    console.print(f"\nListen and look: {out / 'report.html'}")
    return results


def _reward_names(plan: Plan, ablation: bool) -> list[str]:
    """Return the reward models that are trained and tested: Table 2's or some, and the systems'."""
    table = TABLE_2 if ablation else (PRETRAINED, "plain", "ls_eam_adv")
    return list(dict.fromkeys([*table, *(SYSTEMS[name].reward_model for name in plan.systems)]))


def _claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Write what makes the demo's figures comparable, or check that it is what is there."""
    path = out / "plan.json"
    if not path.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no demo: choose another --out")
    claim(path, {name: value for name, value in plan.items() if name not in GROWS}, "a demo", GROWS)


def _results(
    demo: Demo,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    reward_models: Mapping[str, RewardModel],
    command: str,
) -> dict[str, Any]:
    reason = demo.judges.content_reason
    reference = summarise(rows["reference"], "plain", reason)
    reference["by_emotion"] = {
        emotion: summarise(
            [row for row in rows["reference"] if row["emotion"] == emotion], "plain", reason
        )
        for emotion in EMOTIONS
    }
    tests = {name: rows[: demo.plan.test_utterances] for name, rows in demo.world.tests().items()}
    with demo.stage("evaluate"):
        figures = {
            name: runs.reward_figures(model, tests, demo.seed)
            for name, model in reward_models.items()
        }
    return {
        "schema": 1,
        "seed": demo.seed,
        "smoke": demo.plan == SMOKE,
        **begin(command),
        "seconds": demo.seconds,
        "reference": reference,
        "systems": {
            name: summarise(rows[name], REWARD_OF[name], reason)
            for name in ("base", *demo.plan.systems)
        },
        "reward_models": figures,
        "training": {name: _training(demo, name) for name in demo.plan.systems},
        "missing_judges": quality.missing() | ({"content": reason} if reason else {}),
    }


def _training(demo: Demo, name: str) -> dict[str, Any]:
    """Return how a system's training ended: the last step, the step kept, the rule if any."""
    results = read_json(demo.folder_of(name) / "results.json")
    return {key: results[key] for key in ("stopped_at", "best_step", "rule") if key in results}


def _write(
    demo: Demo,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    results: dict[str, Any],
) -> None:
    """Write samples.jsonl, curves.jsonl, results.json and the page."""
    order = ["reference", "base", *demo.plan.systems]
    lines = [json.dumps(row) for name in order for row in rows[name]]
    write_text(demo.out / "samples.jsonl", "\n".join(lines) + "\n")
    points = []
    for name in demo.plan.systems:
        if SYSTEMS[name].method == "best_of":
            continue
        validations = read_json(demo.out / "systems" / name / "results.json")["validations"]
        points += [curve_point(name, record) for record in validations]
    write_text(demo.out / "curves.jsonl", "".join(json.dumps(point) + "\n" for point in points))
    write_json(demo.out / "results.json", results)
    write_page(demo.out)
