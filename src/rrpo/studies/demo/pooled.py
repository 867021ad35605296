"""Figures of several seeds pooled: means with Student's interval, paired differences."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.evaluate.matched import mean_difference, run_interval
from rrpo.evaluate.statistics import paired_interval
from rrpo.interval import Interval
from rrpo.measures import BY_KEY, BY_TITLE, MEASURES, SYSTEMS, scorer
from rrpo.studies.demo.judged import Rows, read_rows
from rrpo.studies.demo.systems import DEPARTURES
from rrpo.studies.demo.systems import SYSTEMS as TRAINED

PAIRS = (
    ("diffro", "sft"),
    ("rrpo", "sft"),
    ("rrpo", "diffro"),
    ("diffro", "base"),
    ("diffro", "reference"),
    ("rrpo", "reference"),
    ("rrpo", "best_of_8"),
    ("rrpo_best_of_8", "rrpo"),
    ("rrpo_best_of_8", "sft_best_of_8"),
    ("rrpo_best_of_8", "sft"),
    ("rrpo_best_of_8", "base"),
    ("sft_best_of_8", "sft"),
    ("rrpo", "diffro_published"),
    ("rrpo", "rrpo_paper"),
    ("rrpo_paper", "diffro_paper"),
    ("rrpo_paper", "diffro_published"),
    ("rrpo_paper", "sft"),
    ("diffro_paper", "sft"),
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
MEASURED = [one.title for one in MEASURES if one.key not in ("reward", "instruction_heard")]
"""Titles of what is pooled, in the order of a table."""


@dataclass(frozen=True)
class Pooled(Interval):
    """A mean over seeds with its interval, and the means of the seeds."""

    seeds: tuple[float, ...] = ()


def over_seeds(means: Sequence[float]) -> Pooled:
    """Pool one figure a seed; seeds that agree to the last digit say nothing of how others fall."""
    found = run_interval(means) if len(set(means)) > 1 else Interval(means[0])
    return Pooled(found.mean, found.low, found.high, tuple(means))


def pooled(values: Sequence[Sequence[float]] | None) -> Pooled | None:
    """Pool the figures of each utterance (n) by seed (S); None where they were not measured."""
    return None if values is None else over_seeds([float(np.mean(seed)) for seed in values])


def title_of(name: str) -> str:
    """Return a system's name as the tables say it."""
    titled = TRAINED[name].title if name in TRAINED else name
    return {"reference": "real tokens", "base": "base"}.get(name, SYSTEMS.get(name, titled))


def rows_of(folder: Path) -> dict[str, Rows]:
    """Return system → what judges said of its samples in a finished demo."""
    return {
        path.parent.name: read_rows(path) for path in sorted(folder.glob("samples/*/rows.json"))
    }


def values_of(
    rows: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]], system: str, title: str
) -> list[list[float]] | None:
    """Return the figure of each utterance (n) by seed (S), or None where it was not measured."""
    table = [[BY_TITLE[title].of(row) for row in seed[system]] for seed in rows]
    if any(value is None for seed in table for value in seed):
        return None
    return [[value for value in seed if value is not None] for seed in table]


def differences(
    rows: Sequence[Mapping[str, Rows]], pairs: Sequence[tuple[str, str]] = PAIRS
) -> dict[str, dict[str, Pooled]]:
    """Return "first − second" → measure → mean difference, paired within each seed."""
    table: dict[str, dict[str, Pooled]] = {}
    for first, second in pairs:
        if not {first, second} <= rows[0].keys():
            continue
        found = table[f"{title_of(first)} − {title_of(second)}"] = {}
        for title in MEASURED:
            one, other = values_of(rows, first, title), values_of(rows, second, title)
            if one is not None and other is not None:
                found[title] = over_seeds(np.subtract(one, other).mean(1).tolist())
    return table


def word_error_less_base(rows: Sequence[Mapping[str, Rows]], system: str) -> Interval | None:
    """Return the word error less the base's, paired by utterance.

    Its interval is over the seeds; of a single one over its sentences.
    """
    own, base = (values_of(rows, name, "word error") for name in (system, "base"))
    if own is None or base is None:
        return None
    if len(rows) > 1:
        return over_seeds(np.subtract(own, base).mean(1).tolist())
    return paired_interval(own[0], base[0], groups=[row["text"] for row in rows[0][system]])


def matched(
    seeds: Sequence[Mapping[str, Sequence[Mapping[str, float]]]],
) -> dict[str, dict[str, dict[str, Pooled]]]:
    """Return key → pair of systems → measure → mean difference with its interval over seeds.

    Args:
        seeds: of each the points of its curves (`points_of`).
    """
    table: dict[str, dict[str, dict[str, Pooled]]] = {}
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
                    known = (
                        BY_KEY.get(name) or BY_KEY.get(f"quality.{name}") or scorer(name, name, "")
                    )
                    measured[known.title] = over_seeds(kept)
    return table


def curves_of(folder: Path) -> list[dict[str, Any]]:
    """Return the points of all curves of a finished demo."""
    lines = (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def points_of(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return system → the points of its curve in the order of steps, flat, without its rewards."""
    systems: dict[str, list[dict[str, float]]] = {}
    for point in curves_of(folder):
        flat = {name: float(point[name]) for name in BY_KEY if name in point and name != "reward"}
        flat |= {name: float(value) for name, value in point["quality"].items()}
        systems.setdefault(point["system"], []).append(flat)
    return systems


def reward_models(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Pooled]]:
    """Return reward model → test set and measure → figure; all seeds have the same test sets.

    The intervals are over trainings alone; one that no seed trains, the pre-trained one, has none.
    """
    found = [result["reward_models"] for result in results]
    return {
        name: {
            f"{test}, {title}": over_seeds([one[name][measure][test].mean for one in found])
            for measure, title in ACCURACIES.items()
            for test in figures[measure]
        }
        for name, figures in found[0].items()
    }


def hardening(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Pooled]]:
    """Return label → figure of the plain and the hardened reward model, and their difference."""
    table: dict[str, list[Pooled]] = {}
    both = [[result["reward_models"][name] for result in results] for name in COMPARED]
    kinds = {
        "accuracy": "accuracy, ",
        "robustness": "accuracy under ",
        "calibration_error": "calibration error, ",
    }
    for kind, label in kinds.items():
        for name in both[0][0][kind]:
            plain, hardened = ([seed[kind][name].mean for seed in model] for model in both)
            apart = np.subtract(hardened, plain).tolist()
            table[f"{label}{name}"] = [over_seeds(one) for one in (plain, hardened, apart)]
    return table


def averaged(points: Sequence[Any]) -> Any:
    """Average numbers and means inside equal dictionaries; keep text as it is."""
    first = points[0]
    if isinstance(first, dict):
        return {key: averaged([point[key] for point in points]) for key in first}
    if isinstance(first, Interval):
        return float(np.mean([point.mean for point in points]))
    if isinstance(first, str | None):
        return first
    return float(np.mean(points))


def averaged_curves(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Average the curves over seeds, point by point."""
    points: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for folder in folders:
        for point in curves_of(folder):
            points.setdefault((point["system"], point["step"]), []).append(point)
    return [averaged(group) for group in points.values()]
