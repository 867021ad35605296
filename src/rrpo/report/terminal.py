"""The results of a demo as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

MEASURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("own reward", ("reward",)),
    ("judge probability", ("judge_probability",)),
    ("judge accuracy", ("judge_accuracy",)),
    ("DNSMOS overall", ("quality", "dnsmos_overall")),
    ("PLCMOS", ("quality", "plcmos")),
    ("DistillMOS", ("quality", "distillmos")),
    ("artifacts / s", ("artifacts_per_second",)),
    ("word error", ("content_error",)),
    ("instruction heard", ("instruction_heard",)),
    ("KL / token", ("kl",)),
    ("tokens", ("tokens",)),
)


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """Print the systems and the reward models of a demo."""
    print_systems({"real tokens": results["reference"], **results["systems"]}, console)
    table = Table(title="Reward models: accuracy by test set")
    table.add_column("reward model")
    sets = list(next(iter(results["reward_models"].values()))["accuracy"])
    for name in sets:
        table.add_column(name, justify="right")
    for name, figures in results["reward_models"].items():
        table.add_row(name, *(_cell(figures["accuracy"], (test,)) for test in sets))
    console.print(table)


def print_systems(systems: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print systems side by side, each figure as its mean with the 95 % interval."""
    table = Table(title="Mean with 95 % interval over utterances; labels are synthetic")
    table.add_column("measure")
    for name in systems:
        table.add_column(name, justify="right")
    for label, path in MEASURES:
        cells = [_cell(system, path) for system in systems.values()]
        if any(cell != "–" for cell in cells):
            table.add_row(label, *cells)
    console.print(table)


def _cell(figures: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = figures
    for key in path:
        value = None if value is None else value.get(key)
    return "–" if value is None else shown(value)


def shown(value: Mapping[str, float]) -> str:
    """Return a figure as its mean with its interval.

    Examples:
        >>> shown({"mean": 0.5, "low": 0.4, "high": 0.625})
        '0.50 [0.40, 0.62]'
    """
    digits = 1 if abs(value["mean"]) >= 10 else 2
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
