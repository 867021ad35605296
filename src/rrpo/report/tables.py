"""Figures of a run as tables: rows of cells that the templates draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.emotions import EMOTIONS
from rrpo.interval import MISSING, Interval, read_interval
from rrpo.measures import (
    JUDGE_PROBABILITY,
    RECOGNITION,
    SYSTEMS,
    Entry,
    Measure,
    figure_of,
    measures_in,
    plain_name,
    reward_model_label,
    section,
    system_label,
)
from rrpo.report.numbers import narrow_ends, number


@dataclass(frozen=True)
class Cell:
    """A figure: the mean, its interval below, and whether it stands out with intervals apart."""

    text: str
    interval: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Row:
    """A named row; `key` colours the name of a system, `heading` spans the whole table."""

    label: str
    cells: Sequence[Cell]
    key: str = ""
    heading: bool = False


@dataclass(frozen=True)
class Table:
    """A table with columns (label, remark) and, over them, groups (label, columns spanned)."""

    caption: str
    corner: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    groups: Sequence[tuple[str, int]] = ()


def cell(value: Interval | None, digits: int = 2, strong: bool = False) -> Cell:
    """Turn an estimate into a cell; a dash where there is none."""
    if value is None:
        return Cell(MISSING)
    return Cell(number(value.mean, digits), narrow_ends(value, digits), strong)


def ordered_systems(results: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the systems of results.json in display order."""
    systems = section(results, "systems")
    order = [name for name in SYSTEMS if name in systems]
    order += [name for name in systems if name not in SYSTEMS]
    return {name: section(systems, name) for name in order}


def standout(values: Mapping[str, Interval | None], better: str) -> str:
    """Name the best value if its interval overlaps no other's; otherwise an empty string."""
    known = {name: value for name, value in values.items() if value is not None}
    if not better or len(known) < 2:
        return ""
    sign = 1 if better == "higher" else -1
    best = max(known, key=lambda name: sign * known[name].mean)
    alone = all(known[best].apart(known[name]) for name in known if name != best)
    return best if alone else ""


def main_table(results: Mapping[str, Any]) -> Table | None:
    """Build systems by measures, the reference first."""
    systems = ordered_systems(results)
    reference = section(results, "reference")
    measures = measures_in([reference, *systems.values()])
    if not systems or not measures:
        return None
    best = {
        m.key: standout({n: figure_of(e, m.key) for n, e in systems.items()}, m.better)
        for m in measures
    }
    rows = []
    entries = ({"reference": reference} if reference else {}) | systems
    for name, entry in entries.items():
        rows.append(
            Row(
                system_label(name),
                [cell(figure_of(entry, m.key), m.digits, best[m.key] == name) for m in measures],
                key=name,
            )
        )
    remarks = {"higher": "higher is better", "lower": "lower is better", "": ""}
    columns = [(measure.label, remarks[measure.better]) for measure in measures]
    return Table("Systems and measures", "System", columns, rows, _spans(measures))


def _spans(measures: Sequence[Measure]) -> list[tuple[str, int]]:
    spans: list[tuple[str, int]] = []
    for measure in measures:
        if spans and spans[-1][0] == measure.group:
            spans[-1] = (measure.group, spans[-1][1] + 1)
        else:
            spans.append((measure.group, 1))
    return spans


def emotion_table(results: Mapping[str, Any]) -> Table | None:
    """Build the judge's probability by emotion, for whatever entries hold figures by emotion."""
    entries = {"reference": section(results, "reference")} | ordered_systems(results)
    entries = {name: entry for name, entry in entries.items() if section(entry, "by_emotion")}
    found = list(dict.fromkeys(e for entry in entries.values() for e in entry["by_emotion"]))
    emotions = [e for e in EMOTIONS if e in found] + [e for e in found if e not in EMOTIONS]
    if not emotions:
        return None
    rows = []
    for name, entry in entries.items():
        figures = [
            figure_of(section(entry["by_emotion"], emotion), JUDGE_PROBABILITY.key)
            for emotion in emotions
        ]
        rows.append(Row(system_label(name), [cell(value) for value in figures], key=name))
    caption = "The judge’s probability of the asked emotion, by emotion"
    return Table(caption, "System", [(plain_name(e), "") for e in emotions], rows)


def cross_table(results: Mapping[str, Any]) -> Table | None:
    """Build the mean reward of every system under every reward model."""
    systems = ordered_systems(results)
    models = list(dict.fromkeys(m for e in systems.values() for m in section(e, "rewards")))
    if not models:
        return None
    rows = [
        Row(system_label(n), [cell(figure_of(e, f"rewards.{m}")) for m in models], key=n)
        for n, e in systems.items()
    ]
    columns = [(reward_model_label(model), "") for model in models]
    return Table("Reward of every system under every reward model, nats", "System", columns, rows)


def reward_model_table(results: Mapping[str, Any]) -> Table | None:
    """Build measures by reward models: accuracy by test set, calibration error and the others."""
    found = section(results, "reward_models")
    models = {name: section(found, name) for name in found}
    if not models:
        return None
    keys = dict.fromkeys([*RECOGNITION, *(key for model in models.values() for key in model)])
    rows: list[Row] = []
    for key in keys:
        figures = {name: flat(model.get(key)) for name, model in models.items()}
        _, better = RECOGNITION.get(key, ("", ""))
        paths = dict.fromkeys(path for named in figures.values() for path in named)
        if paths:
            ending = f", {better} is better" if better else ""
            rows.append(Row(plain_name(key) + ending, [], heading=True))
        for path in paths:
            values = {name: named.get(path) for name, named in figures.items()}
            best = standout(values, better)
            cells = [cell(value, 3, best == name) for name, value in values.items()]
            rows.append(Row(plain_name(path) if path else "All", cells))
    columns = [(reward_model_label(name), "") for name in models]
    return Table("Reward models by test set", "Measure", columns, rows) if rows else None


def flat(value: object, prefix: str = "") -> dict[str, Interval]:
    """Flatten nested figures to {"name, name": estimate}; the name of a bare figure is empty."""
    found = read_interval(value)
    if found is not None:
        return {prefix: found}
    if not isinstance(value, Mapping):
        return {}
    figures: dict[str, Interval] = {}
    for name, inner in value.items():
        words = str(name).replace("_", " ")
        figures |= flat(inner, f"{prefix}, {words}" if prefix else words)
    return figures


def plain_table(figures: Mapping[str, Interval], caption: str) -> Table | None:
    """Build a table of two columns from flattened figures."""
    rows = [Row(plain_name(name), [cell(value, 4)]) for name, value in figures.items()]
    return Table(caption, "Figure", [("Value", "")], rows) if rows else None
