"""The demo over several seeds: pooled tables, paired differences and the picture of the README.

Each seed trains its own models and says other sentences, so the means are independent, and every
interval is Student's over them: it holds for other trainings and other sentences. Reward models are
tested on the same utterances in every seed: theirs hold for other trainings alone. Differences are
paired within a seed, utterance by utterance. The curves of the systems are also compared where
their KL, or the judge's probability, is the same.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rrpo import __version__
from rrpo.files import read_json, write_json
from rrpo.interval import Interval, with_intervals
from rrpo.report.plots import figure
from rrpo.studies.demo import demo
from rrpo.studies.demo.pooled import (
    MEASURED,
    Pooled,
    averaged,
    averaged_curves,
    differences,
    hardening,
    matched,
    points_of,
    pooled,
    reward_models,
    rows_of,
    values_of,
    word_error_less_base,
)
from rrpo.studies.demo.seeds_page import seeds_page
from rrpo.studies.demo.systems import FULL, Plan
from rrpo.studies.study import finish, require_no_run, side_by_side


def run(
    out: Path, seeds: int, plan: Plan = FULL, command: str = "", ablation: bool = False
) -> Path:
    """Run the demo for seeds 0 … seeds-1; write `study.md`, `study.json` and `figure.svg`.

    Also writes `results.json`, the figures alone. Seeds run side by side, one on each core. In the
    folder of an earlier study other systems join those that are there, and nothing is trained
    again; the tables are of the systems that are asked for.

    Args:
        ablation: also fine-tune the reward models between plain and hardened.
    """
    require_no_run(out)
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    asked = [(folder, seed, plan, ablation, command) for seed, folder in enumerate(folders)]
    side_by_side(_demo, asked, "seeds", workers=1 if seeds == 1 else None)
    results = [with_intervals(read_json(folder / "results.json")) for folder in folders]
    return pool_seeds(out, folders, results, plan, command)


def _demo(asked: tuple[Path, int, Plan, bool, str]) -> None:
    folder, seed, plan, ablation, command = asked
    torch.set_num_threads(1)
    demo.run(folder, seed, plan, ablation, command=command)


def pool_seeds(
    out: Path,
    folders: Sequence[Path],
    results: Sequence[Mapping[str, Any]],
    plan: Plan,
    command: str,
) -> Path:
    """Pool the results of finished demos, one of each seed, and write the study."""
    names = ["reference", "base", *plan.systems]
    rows = [{name: found[name] for name in names} for found in map(rows_of, folders)]
    study = {
        "command": command,
        "machine": results[0]["machine"],
        "seeds": len(folders),
        "systems": {
            name: {title: pooled(values_of(rows, name, title)) for title in MEASURED}
            for name in names
        },
        "differences": differences(rows),
        "matched": matched([points_of(folder) for folder in folders]),
        "reward_models": reward_models(results),
        "hardening": hardening(results),
        "words": {name: word_error_less_base(rows, name) for name in plan.systems},
    }
    write_json(out / "results.json", summary(study))
    # Each seed's real tokens are of its own sentences.
    reference = averaged([result["reference"] for result in results])
    figure({**results[0], "reference": reference}, averaged_curves(folders), out / "figure.svg")
    return finish(out, study, seeds_page(study))


def summary(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures alone: of each system and each reward model, mean and interval."""

    def plain(value: Pooled | None) -> Interval | None:
        return None if value is None else Interval(value.mean, value.low, value.high)

    return {
        "command": study["command"],
        "commit": commit(),
        "machine": study["machine"],
        "seeds": study["seeds"],
        "systems": {
            name: {measure: plain(value) for measure, value in found.items()}
            | (
                {"word error less the base's": study["words"][name]}
                if study["words"].get(name)
                else {}
            )
            for name, found in study["systems"].items()
        },
        "reward_models": {
            name: {test: plain(value) for test, value in found.items()}
            for name, found in study["reward_models"].items()
        },
        "differences": {
            pair: {measure: plain(value) for measure, value in found.items()}
            for pair, found in study["differences"].items()
        },
    }


def commit() -> str:
    """Return the commit of the code, or the version where it is no checkout."""
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or __version__
