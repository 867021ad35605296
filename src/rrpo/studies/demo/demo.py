"""The demo: harden a reward model, post-train a speaking LM in several ways, judge them, show it.

SFT, DiffRO (plain reward model) and RRPO (hardened reward model) start from the bundled base, to
which the KL of the latter two is. Every stage is a run folder of its own; one that is finished is
not run again, so an interrupted demo goes on where it stood.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo.evaluate.panel import summarise
from rrpo.files import claim, read_json, sha256, write_json, write_text
from rrpo.interval import with_intervals
from rrpo.mini.world import HASHES, World
from rrpo.report.page import write_page
from rrpo.report.terminal import print_table
from rrpo.studies.demo.judged import curve_point, read_rows, samples_so_far
from rrpo.studies.demo.schedule import Stage, run_stages
from rrpo.studies.demo.second_act import write_second_act
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.stages import do, prepare, stages
from rrpo.studies.demo.systems import (
    FULL,
    PRETRAINED,
    QUICK,
    REWARD_OF,
    SMOKE,
    SYSTEMS,
    TABLE_2,
    Plan,
    is_of,
)
from rrpo.studies.study import begin

GROWS = ("systems", "ablation")
"""What a later call may ask for more or less of: each system and reward model has its own run."""
PAGE_EVERY = 20.0
"""Seconds after which the growing page is written again, if no system spoke sooner."""


def run(
    out: Path,
    seed: int = 0,
    plan: Plan = FULL,
    ablation: bool = False,
    world: World | None = None,
    command: str = "rrpo demo",
    workers: int = 1,
) -> dict[str, Any]:
    """Run or continue the demo in a folder; return what `results.json` holds.

    The page is there as soon as something can be heard, and is written again as stages end.

    Args:
        plan: `DEMO`, `QUICK`, `SMOKE`, or that of a study.
        ablation: also fine-tune the reward models between plain and hardened.
        world: another world than the bundled one.
        command: what the page says the figures were made with.
        workers: stages at once, each in a process of one thread.

    Raises:
        UserError: the folder holds a demo of another seed or size, or cannot be written.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    world = world or World()
    world.check()
    _claim(
        out,
        {"seed": seed, "ablation": ablation, "world": sha256(world.folder / HASHES)} | asdict(plan),
    )
    write_second_act(out, world)
    demo = Demo(out, seed, plan, _reward_names(plan, ablation), world)
    console, clock = Console(), _Clock(demo)
    run_stages(clock.stages, do, prepare, (demo,), workers, clock.changed)
    results = _results(demo, clock.seconds(), command)
    _write(demo, results)
    print_table(results, console)
    if results["taste"]:
        console.print(
            "\nThis was a taste: one emotion, a fifth of the steps. All of it: rrpo demo."
        )
    console.print(f"\nListen and look: {out / 'report.html'}")
    return results


class _Clock:
    """Writes what is done and what is running, and the page as it grows."""

    def __init__(self, demo: Demo) -> None:
        self.demo, self.stages = demo, stages(demo)
        self.shown = 0.0
        path = demo.out / "seconds.json"
        spent = read_json(path) if path.is_file() else {}
        for stage in self.stages:
            stage.seconds = spent.get(stage.title, 0.0)

    def seconds(self) -> dict[str, float]:
        """Return what each stage took."""
        return {stage.title: stage.seconds for stage in self.stages if stage.seconds}

    def changed(self, stage: Stage) -> None:
        """Take note of a stage that was begun, has gone on or ended."""
        out = self.demo.out
        write_json(out / "stages.json", [asdict(one) for one in self.stages])
        if stage.state != "running":
            write_json(out / "seconds.json", self.seconds())
        if stage.state == "done":
            done = sum(one.state == "done" for one in self.stages)
            line = f"{done}/{len(self.stages)} {stage.title}: {stage.seconds:.0f} s"
            print(line, file=sys.stderr)
        speaks = stage.name.startswith("speak") and stage.name != "speak reference"
        due = self.shown and time.monotonic() - self.shown > PAGE_EVERY
        if (speaks and stage.state == "done") or due:
            if not self.shown:
                print(f"listen: {out / 'report.html'} (it grows)", file=sys.stderr)
            _write_samples(self.demo)
            write_page(out)
            self.shown = time.monotonic()


def _reward_names(plan: Plan, ablation: bool) -> tuple[str, ...]:
    """Return the reward models that are trained and tested: Table 2's or some, and the systems'."""
    table = TABLE_2 if ablation else (PRETRAINED, "plain", "ls_eam_adv")
    return tuple(dict.fromkeys([*table, *(SYSTEMS[name].reward_model for name in plan.systems)]))


def _claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Write what makes the demo's figures comparable, or check that it is what is there."""
    path = out / "plan.json"
    if not path.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no demo: choose another --out")
    claim(path, {name: value for name, value in plan.items() if name not in GROWS}, "a demo", GROWS)


def _results(demo: Demo, seconds: Mapping[str, float], command: str) -> dict[str, Any]:
    reason = demo.judges.content_reason
    rows = {name: read_rows(demo.out / "samples" / name / "rows.json") for name in _order(demo)}
    reference = summarise(rows["reference"], "plain", reason)
    reference["by_emotion"] = {
        emotion: summarise(
            [row for row in rows["reference"] if row["emotion"] == emotion], "plain", reason
        )
        for emotion in demo.plan.emotions
    }
    return {
        "schema": 1,
        "seed": demo.seed,
        "smoke": is_of(demo.plan, SMOKE),
        "taste": is_of(demo.plan, QUICK),
        **begin(command),
        "seconds": seconds,
        "reference": reference,
        "systems": {
            name: summarise(rows[name], REWARD_OF[name], reason)
            for name in ("base", *demo.plan.systems)
        },
        "reward_models": {
            name: with_intervals(read_json(demo.out / "reward_tests" / f"{name}.json"))
            for name in demo.reward_names
        },
        "training": {name: _training(demo, name) for name in demo.plan.systems},
        "missing_judges": _missing(demo) | ({"content": reason} if reason else {}),
    }


def _missing(demo: Demo) -> dict[str, str]:
    """Return the scorers that were wanted and are not installed, with the reason."""
    wanted = demo.plan.scorers
    return {
        name: reason
        for name, reason in quality.missing().items()
        if wanted is None or name in wanted
    }


def _order(demo: Demo) -> list[str]:
    return ["reference", "base", *demo.plan.systems]


def _training(demo: Demo, name: str) -> dict[str, Any]:
    """Return how a system's training ended: the last step, the step kept, the rule if any."""
    results = read_json(demo.folder_of(name) / "results.json")
    return {key: results[key] for key in ("stopped_at", "best_step", "rule") if key in results}


def _write_samples(demo: Demo) -> None:
    lines = [json.dumps(row) for name in _order(demo) for row in samples_so_far(demo, name)]
    write_text(demo.out / "samples.jsonl", "\n".join(lines) + "\n")


def _write(demo: Demo, results: dict[str, Any]) -> None:
    """Write samples.jsonl, curves.jsonl, results.json and the page."""
    _write_samples(demo)
    points = []
    for name in demo.plan.systems:
        if SYSTEMS[name].method == "best_of":
            continue
        validations = read_json(demo.out / "systems" / name / "results.json")["validations"]
        # SFT is judged less often than its held-out loss is measured.
        points += [curve_point(name, record) for record in validations if "kl" in record]
    write_text(demo.out / "curves.jsonl", "".join(json.dumps(point) + "\n" for point in points))
    write_json(demo.out / "results.json", results)
    write_page(demo.out)
