"""The demo over several seeds: pooled tables, paired differences and the picture of the README.

Each seed trains anew and says other sentences, so the means of the seeds are independent, and every
interval is Student's over them: it holds for other trainings and other sentences. Differences are
paired within a seed, utterance by utterance; the goal of word error also by sentence, with a
bootstrap over sentences. The curves of the systems are also compared where their KL, or the judge's
probability, is the same.
"""

import json
import multiprocessing
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo import __version__
from rrpo.checkpoint import read_json, write_json, write_text
from rrpo.evaluate.matched import mean_difference, run_interval
from rrpo.evaluate.statistics import paired_interval
from rrpo.report import markdown
from rrpo.report.measures import MISSING, SYSTEMS, reward_model_label
from rrpo.report.plots import figure
from rrpo.report.terminal import MEASURES, shown, signed
from rrpo.studies.demo import demo
from rrpo.studies.demo.plan import DEPARTURES, FULL, Plan
from rrpo.studies.demo.plan import SYSTEMS as TRAINED

PAIRS = (
    ("diffro", "sft"),
    ("rrpo", "sft"),
    ("rrpo", "diffro"),
    ("diffro", "base"),
    ("diffro", "reference"),
    ("rrpo", "reference"),
    ("rrpo", "best_of_8"),
    ("rrpo", "diffro_published"),
    ("rrpo", "rrpo_paper"),
    ("rrpo_paper", "diffro_published"),
    ("rrpo_paper", "sft"),
    ("diffro_published", "sft"),
    ("best_of_8", "sft"),
    ("rrpo", "base"),
    ("sft", "base"),
    ("diffro", "grpo"),
    ("diffro", "dpo"),
    *((f"paper_{name}", "rrpo_paper") for name in DEPARTURES),
)
"""Which differences are tested, first minus second, where both were measured."""
ACCURACIES = {"accuracy": "weighted", "unweighted_average_recall": "unweighted"}
"""Accuracies of a reward model: of all utterances, and the mean of the classes' recalls."""
COMPARED = ("plain", "ls_eam_adv")
"""The reward models without and with all regularizers."""
KEYS = {"kl": "KL", "judge_probability": "judge probability"}
CURVE_LABELS = {
    "kl": "KL / token",
    "judge_probability": "judge probability",
    "judge_accuracy": "judge accuracy",
    "plcmos": "PLCMOS",
    "distillmos": "DistillMOS",
    "artifacts_per_second": "artifacts / s",
    "content_error": "word error",
    "tokens": "tokens",
}
"""Measures of the curves, by their names there."""
MEASURED = {
    label: path for label, path in MEASURES if label not in ("own reward", "instruction heard")
}


def run(
    out: Path, seeds: int, plan: Plan = FULL, command: str = "", ablation: bool = False
) -> Path:
    """Run the demo for seeds 0 … seeds-1; write `study.md`, `study.json` and `figure.svg`.

    Also writes `results.json`, the figures alone. Seeds run side by side, one on each core.

    Args:
        ablation: also fine-tune the reward models between plain and hardened.
    """
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    asked = [(folder, seed, plan, ablation, command) for seed, folder in enumerate(folders)]
    workers = min(seeds, os.cpu_count() or 1)
    if workers == 1:
        results = [_demo(one) for one in asked]
    else:
        # `spawn` keeps the workers free of the parent's threads.
        with ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _one_thread
        ) as pool:
            results = list(pool.map(_demo, asked))
    return pool_seeds(out, folders, results, plan, command)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _demo(asked: tuple[Path, int, Plan, bool, str]) -> dict[str, Any]:
    folder, seed, plan, ablation, command = asked
    return demo.run(folder, seed, plan, ablation, command=command)


def pool_seeds(
    out: Path,
    folders: Sequence[Path],
    results: Sequence[Mapping[str, Any]],
    plan: Plan,
    command: str,
) -> Path:
    """Pool the results of finished demos, one of each seed, and write the study."""
    seeds = len(folders)
    rows = [_rows(folder) for folder in folders]
    systems = ["reference", "base", *plan.systems]
    figures = {
        name: {label: values_of(rows, name, label) for label in MEASURED} for name in systems
    }
    study = {
        "command": command,
        "machine": results[0]["machine"],
        "seeds": seeds,
        "systems": {
            name: {label: pooled(values) for label, values in measured.items()}
            for name, measured in figures.items()
        },
        "differences": _differences(figures, plan.systems),
        "matched": _matched([_points(folder) for folder in folders]),
        "reward_models": _reward_models(results),
        "hardening": _hardening(results),
        "words": {name: _words(rows, name) for name in plan.systems},
        "seconds": [sum(result["seconds"].values()) for result in results],
    }
    write_json(out / "study.json", study)
    write_json(out / "results.json", summary(study))
    write_text(out / "study.md", page(study))
    # Each seed's real tokens are of its own sentences.
    reference = _mean([result["reference"] for result in results])
    figure({**results[0], "reference": reference}, _curves(folders), out / "figure.svg")
    return out / "study.md"


def summary(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures alone: of each system and each reward model, mean and interval."""

    def plain(value: Mapping[str, Any] | None) -> dict[str, float] | None:
        return None if value is None else {end: value[end] for end in ("mean", "low", "high")}

    return {
        "command": study["command"],
        "commit": commit(),
        "machine": study["machine"],
        "seeds": study["seeds"],
        "systems": {
            name: {measure: plain(value) for measure, value in found.items()}
            | (
                {"word error less the base's, by sentence": study["words"][name]}
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


def _words(
    rows: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]], system: str
) -> dict[str, float] | None:
    """Return the word error less the base's, paired by utterance, its interval over sentences."""
    own, base = ([row for seed in rows for row in seed[name]] for name in (system, "base"))
    if own[0]["word_error"] is None:
        return None
    return paired_interval(
        [row["word_error"] for row in own],
        [row["word_error"] for row in base],
        groups=[row["text"] for row in own],
    )


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    names = list(study["systems"])
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}, "
        f"{max(study['seconds']):.0f} s a seed at most. Mean with Student's 95 % interval over the "
        "seeds, each of which trains anew and says other sentences; in brackets their means.",
        "",
        *by_measure({title_of(name): study["systems"][name] for name in names}, MEASURED),
        "",
        "Differences, first minus second, paired within each seed:",
        "",
        *by_measure(study["differences"], MEASURED),
    ]
    words = {title_of(name): value for name, value in study["words"].items() if value}
    if words:
        lines += [
            "",
            "Word error less the base's, paired by utterance; bootstrap over sentences, those of "
            "all seeds together:",
            "",
            *markdown.table("", ["less the base's"], [(n, [signed(v)]) for n, v in words.items()]),
        ]
    for key, title in KEYS.items():
        lines += [
            "",
            f"At equal {title}, a mean over all values that both curves reach, with Student's 95 % "
            "interval over the seeds in which they overlap (in brackets):",
            "",
        ]
        matched = study["matched"][key]
        lines += by_measure(
            matched, dict.fromkeys(name for one in matched.values() for name in one)
        )
    models = study["reward_models"]
    sets = list(next(iter(models.values())))
    right = [
        (reward_model_label(name), [cell(found[test]) for test in sets])
        for name, found in models.items()
    ]
    changed = [(name, list(map(cell, values))) for name, values in study["hardening"].items()]
    lines += ["", "Reward models by test set:", "", *markdown.table("", sets, right)]
    lines += [
        "",
        "What hardening changes in the reward model (means over seeds, Student's 95 % interval):",
        "",
        *markdown.table("", ["plain", "hardened", "hardened − plain"], changed),
    ]
    return "\n".join(lines) + "\n"


def by_measure(columns: Mapping[str, Mapping[str, Any]], measures: Iterable[str]) -> list[str]:
    """Return a table with a row for each measure that a column knows."""
    rows = [(name, [cell(found.get(name)) for found in columns.values()]) for name in measures]
    return markdown.table("", list(columns), markdown.measured(rows))


def _matched(
    seeds: Sequence[Mapping[str, Sequence[Mapping[str, float]]]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return key → pair of systems → measure → mean difference with its interval over seeds."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for key in KEYS:
        table[key] = {}
        for first, second in PAIRS:
            if first not in seeds[0] or second not in seeds[0]:  # best of several: no curve
                continue
            measured = table[key][f"{title_of(first)} − {title_of(second)}"] = {}
            for name in seeds[0][first][0]:
                if name in (key, "step"):
                    continue
                found = [mean_difference(seed[first], seed[second], key, name) for seed in seeds]
                kept = [value for value in found if value is not None]
                if len(kept) > 1:
                    measured[CURVE_LABELS.get(name, name)] = {**run_interval(kept), "seeds": kept}
    return table


def _points(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return system → the points of its curve in the order of steps, flat, without its rewards."""
    systems: dict[str, list[dict[str, float]]] = {}
    for line in (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines():
        point = json.loads(line)
        flat = {name: float(point[name]) for name in CURVE_LABELS if name in point}
        flat |= {name: float(value) for name, value in point["quality"].items()}
        systems.setdefault(point["system"], []).append(flat)
    return systems


def _rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.parent.name: read_json(path) for path in sorted(folder.glob("samples/*/rows.json"))
    }


def values_of(
    rows: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]], system: str, label: str
) -> list[list[float]] | None:
    """Return the figure of each utterance (n) by seed (S), or None where it was not measured."""
    table = [[_figure(row, label) for row in seed[system]] for seed in rows]
    if any(value is None for seed in table for value in seed):
        return None
    return [[float(value) for value in seed if value is not None] for seed in table]


def _figure(row: Mapping[str, Any], label: str) -> float | None:
    """Return one sample's figure under the name the tables use."""
    if label == "judge accuracy":
        return float(row["judge_emotion"] == row["emotion"])
    if label == "artifacts / s":
        return len(row["artifacts"]) / float(row["seconds"])
    if label == "never ended":
        return None if row["ended"] is None else float(not row["ended"])
    path = MEASURED[label]
    if path[0] == "quality":
        value = row["quality"].get(path[1])
    else:
        value = row[{"content_error": "word_error"}.get(path[0], path[0])]
    return None if value is None else float(value)


def pooled(values: list[list[float]] | None) -> dict[str, Any] | None:
    """Return the mean with its interval over seeds, and the means of the seeds."""
    if values is None:
        return None
    means = [float(np.mean(seed)) for seed in values]
    return {**run_interval(means), "seeds": means}


def _differences(
    figures: Mapping[str, Mapping[str, list[list[float]] | None]], systems: Sequence[str]
) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for first, second in PAIRS:
        if first not in systems or second not in figures:
            continue
        measured = table[f"{title_of(first)} − {title_of(second)}"] = {}
        for label in MEASURED:
            one, other = figures[first][label], figures[second][label]
            if one is not None and other is not None:
                apart = np.subtract(one, other).mean(1).tolist()
                measured[label] = {**run_interval(apart), "seeds": apart}
    return table


def _reward_models(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return reward model → test set and measure → figure; all seeds have the same test sets."""
    found = [result["reward_models"] for result in results]
    return {
        name: {
            f"{test}, {title}": pooled([[one[name][measure][test]["mean"]] for one in found])
            for measure, title in ACCURACIES.items()
            for test in figures[measure]
        }
        for name, figures in found[0].items()
    }


def _hardening(results: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return label → figure of the plain and the hardened reward model, and their difference."""
    table: dict[str, list[dict[str, Any]]] = {}
    both = [[result["reward_models"][name] for result in results] for name in COMPARED]
    for kind, label in (("accuracy", "accuracy"), ("robustness", "accuracy under")):
        for name in both[0][0][kind]:
            values = [[figures[kind][name]["mean"] for figures in runs] for runs in both]
            table[f"{label}, {name}" if kind == "accuracy" else f"{label} {name}"] = _pair(values)
    for name in both[0][0]["calibration_error"]:
        values = [[figures["calibration_error"][name]["mean"] for figures in runs] for runs in both]
        table[f"calibration error, {name}"] = _pair(values)
    return table


def _pair(values: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Return the figures of two systems by seed and of second minus first, with intervals."""
    plain, hardened = values
    difference = [second - first for first, second in zip(plain, hardened, strict=True)]
    return [{**run_interval(each), "seeds": list(each)} for each in (plain, hardened, difference)]


def _curves(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Average the curves over seeds, point by point."""
    points: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for folder in folders:
        for line in (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines():
            point = json.loads(line)
            points.setdefault((point["system"], point["step"]), []).append(point)
    return [_mean(group) for group in points.values()]


def _mean(points: Sequence[Any]) -> Any:
    """Average numbers inside equal dictionaries; keep text as it is."""
    if isinstance(points[0], dict):
        return {key: _mean([point[key] for point in points]) for key in points[0]}
    if isinstance(points[0], str | None):
        return points[0]
    return float(np.mean(points))


def title_of(name: str) -> str:
    """Return a system's name as the tables say it."""
    titled = TRAINED[name].title if name in TRAINED else name
    return {"reference": "real tokens", "base": "base"}.get(name, SYSTEMS.get(name, titled))


def cell(value: Mapping[str, Any] | None) -> str:
    """Return a figure as mean, interval and the means of the seeds."""
    if value is None:
        return MISSING
    digits = 1 if abs(value["mean"]) >= 10 else 2
    seeds = ", ".join(f"{one:.{digits}f}" for one in value["seeds"])
    return f"{shown(value)} ({seeds})"
