"""The page of an analysis, `analysis.html`: one file that works without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rrpo.interval import Interval
from rrpo.listen.design import Design
from rrpo.measures import SYSTEMS, plain_name, system_label
from rrpo.report.forest import Bar, forest_svg
from rrpo.report.numbers import number
from rrpo.report.page import write_html
from rrpo.report.tables import Row, Table, cell

CHECKS = {"reference": "Hidden reference", "anchor": "Low anchor"}


def write_analysis_page(path: Path, design: Design, figures: Mapping[str, Any]) -> Path:
    """Write the page of an analysis."""
    questions = figures["questions"]
    means = {name: found for name, found in questions.items() if "systems" in found}
    return write_html(
        path,
        "analysis.html",
        title=f"Listening test: {design.title}",
        listeners=figures["listeners"],
        rules=figures["rules"],
        excluded=figures["excluded"],
        planned=figures["planned"],
        cautions=figures["cautions"],
        seed=figures["seed"],
        table1=_table1(means),
        sections=[_section(found) for found in questions.values()],
    )


def label_of(name: str) -> str:
    """Return what a system, or a pair of two, is called on a page."""
    for between in (" − ", " over "):
        first, found, second = name.partition(between)
        if found:
            return f"{label_of(first)}{between}{label_of(second)}"
    return CHECKS.get(name) or (system_label(name) if name in SYSTEMS else name)


def _table1(means: Mapping[str, Any]) -> Table | None:
    """Return the paper's Table 1: a row for each measure, a column for each system."""
    systems = list(dict.fromkeys(name for found in means.values() for name in found["systems"]))
    rows = [
        Row(found["label"], [cell(found["systems"].get(name)) for name in systems])
        for found in means.values()
    ]
    columns = [(label_of(name), "") for name in systems]
    caption = "Mean with 95 % interval over listeners and items"
    return Table(caption, "", columns, rows) if rows else None


def _section(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of one question."""
    tables = []
    if found.get("by_emotion"):
        tables.append(_by_emotion(found["by_emotion"]))
    if everybody := found.get("with_everybody"):
        tables.append(_list("With those who were left out", everybody))
    if everybody := found.get("strengths_with_everybody"):
        tables.append(_list("Strengths, with those who were left out", everybody))
    if mixed := found.get("mixed_model"):
        caption = "Mixed model: listeners and items as crossed random effects"
        if not mixed["converged"]:
            caption += "; it did not converge, so do not rely on it"
        tables.append(_list(caption, mixed["means"]))
    if found.get("judges"):
        caption = "Rank correlation of mean ratings with judges, over sounds"
        named = {plain_name(name): value for name, value in found["judges"].items()}
        tables.append(_list(caption, named))
    tables += [_confusion(name, rows) for name, rows in found.get("confusion", {}).items()]
    charts = _charts(found)
    alpha = found.get("alpha")
    return {
        "label": found["label"],
        "prompt": found["prompt"],
        "answers": found["answers"],
        "alpha": None if alpha is None else number(alpha),
        "level": found["alpha_level"],
        "notes": [f"{line[0].upper()}{line[1:]}." for line in found["notes"]],
        "mixed": found.get("mixed_model"),
        "detectors": _detectors(found.get("detectors")),
        "charts": charts,
        "tables": tables,
    }


def _charts(found: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """Return the charts of one question with their titles, with a line at 0 or at chance."""
    chance = found["chance"]
    by_chance = "" if chance is None else f"; the line is chance, {number(chance)}"
    return [
        (title, Markup(forest_svg(title, bars, level)))
        for title, key, level in (
            (f"Means{by_chance}", "systems", chance),
            ("Differences", "differences", 0.0),
            ("Comparisons", "comparisons", 0.0),
            ("Strengths (Bradley and Terry)", "strengths", 0.0),
            (f"Shares of preferences{by_chance}", "shares", chance),
        )
        if (bars := _bars(found.get(key, {})))
    ]


def _bars(values: Mapping[str, Interval]) -> list[Bar]:
    return [Bar(name if name in SYSTEMS else "", label_of(name), v) for name, v in values.items()]


def _by_emotion(by_emotion: Mapping[str, Mapping[str, Interval]]) -> Table:
    systems = list(dict.fromkeys(name for means in by_emotion.values() for name in means))
    rows = [
        Row(emotion, [cell(means.get(name)) for name in systems])
        for emotion, means in by_emotion.items()
    ]
    return Table("By emotion", "emotion", [(label_of(name), "") for name in systems], rows)


def _list(caption: str, values: Mapping[str, Interval]) -> Table:
    rows = [Row(label_of(name), [cell(value)]) for name, value in values.items()]
    return Table(caption, "", [("mean", "")], rows)


def _confusion(system: str, rows: Mapping[str, Mapping[str, int]]) -> Table:
    from rrpo.report.tables import Cell

    choices: Sequence[str] = list(dict.fromkeys(name for row in rows.values() for name in row))
    return Table(
        f"{label_of(system)}: the emotion that was meant, and what it was taken for",
        "meant",
        [(name, "") for name in choices],
        [
            Row(name, [Cell(str(row.get(choice, 0)), strong=choice == name) for choice in choices])
            for name, row in rows.items()
        ],
    )


def _detectors(found: Mapping[str, Any] | None) -> list[str]:
    """Return in words how the marks lie beside what the detectors find."""
    if found is None:
        return []
    tolerance = f"within {found['tolerance']:g} s"
    lines = [f"{found['marks']} marks; the detectors find {found['events']} clicks and pops."]
    if found["precision"] is not None:
        lines.append(
            f"Precision of the detectors: of every event and listener who heard it, "
            f"{found['precision']} are marked {tolerance}."
        )
    if found["recall"] is not None:
        lines.append(
            f"Recall: {found['recall']} of the marks lie {tolerance} of an event; marks anywhere "
            f"in the sounds would, in {number(found['chance'])}."
        )
    return lines
