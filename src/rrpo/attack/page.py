"""What attacks found, for the terminal and as a page that works offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console

from rrpo.attack.assess import EMBEDDINGS, EXCHANGES, SOUNDS, SPEECH
from rrpo.interval import Interval
from rrpo.interval import cell as text_of
from rrpo.report.page import write_html
from rrpo.report.plots import Chart, Line, Point, chart_svg
from rrpo.report.tables import Cell, Row, Table, cell
from rrpo.report.terminal import print_rows

COLUMNS = (
    ("deceived", "Deceived", ""),
    ("gain", "Gain, nats", ""),
    ("judge_gain", "Judge, gain", ""),
    ("unheard", "Deceived, unheard", ""),
)
HEADINGS = {
    EMBEDDINGS: "Embeddings moved along the gradient",
    EXCHANGES: "Speech tokens exchanged or appended",
    SOUNDS: "Sounds put into the audio, which is tokenized again",
    SPEECH: "Speech of a policy that DiffRO trains on this reward model alone",
}
TONES = ("diffro", "rrpo", "sft", "dpo", "grpo", "base")
"""Colours of the pages, one for each reward model in the chart."""
Figures = Mapping[str, Any]


def print_attacks(figures: Figures, console: Console) -> None:
    """Print a table for each reward model, the verdict, and the warnings."""
    for name, found in figures["models"].items():
        rows = [
            (row["name"], [text_of(row["deceived"], ".2f"), text_of(row.get("unheard"), ".2f")])
            for row in found["attacks"]
        ]
        print_rows(str(name), ["deceived", "and not heard"], rows, console)
    for line in [*verdict(figures), *warnings(figures)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def verdict(figures: Figures) -> list[str]:
    """Say in a few sentences how little deceives each reward model."""
    lines = []
    for name, found in figures["models"].items():
        worst: Mapping[str, Interval] = found["worst"]
        most = max(figures["size"]["exchanges"])
        parts = [
            f"in {_share(worst[EXCHANGES])} by at most {most} of some "
            f"{figures['tokens']:.0f} tokens"
        ]
        if SOUNDS in worst:
            parts.append(f"in {_share(worst[SOUNDS])} by a sound put in")
        lines.append(
            f"{name} is deceived {' and '.join(parts)} (worst case of "
            f"{figures['utterances']} utterances; a longer search may find more)."
        )
        lines += _unheard(found)
        said = [row for row in found["attacks"] if row["changes"] == SPEECH]
        if said and said[-1].get("unheard") is not None:
            lines.append(
                f"A policy that it alone pays deceives it in {_share(said[-1]['unheard'])} while "
                f"the judge does not hear the emotion ({_share(said[0]['unheard'])} before)."
            )
    return lines


def _unheard(found: Figures) -> list[str]:
    """Say in how many utterances an attack raises the reward while the judge hears nothing."""
    worst: Mapping[str, Interval] = found["worst_unheard"]
    if not worst:
        return []
    parts = [f"in {_share(worst[EXCHANGES])} by tokens"]
    if SOUNDS in worst:
        parts.append(f"in {_share(worst[SOUNDS])} by a sound")
    line = f"It is deceived while the judge does not hear the emotion {' and '.join(parts)}"
    if not any(share.mean for share in worst.values()):
        return [f"{line}."]
    return [f"{line}: there a policy would be paid for nothing."]


def warnings(figures: Figures) -> list[str]:
    """Return what speaks against an attack, and so against the robustness that it shows."""
    return [
        f"warning: {name}: {line}"
        for name, found in figures["models"].items()
        for line in found["warnings"]
    ]


def _share(value: Interval) -> str:
    """Write a share in percent with its interval."""
    return f"{100 * value.mean:.0f} % [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def write_page(figures: Figures, path: Path) -> Path:
    """Write the page of `rrpo reward attack`."""
    lines = [
        Line(TONES[place % len(TONES)], Path(str(name)).name, _points(found))
        for place, (name, found) in enumerate(figures["models"].items())
    ]
    chart = Chart("Deceived by exchanged tokens", "tokens exchanged", lines)
    return write_html(
        path,
        "attack.html",
        title="Does this reward model deserve to be optimized?",
        verdict=verdict(figures),
        warnings=warnings(figures),
        notes=figures["left_out"],
        charts=[{"title": chart.title, "note": "", "svg": Markup(chart_svg(chart))}],
        tables=[_table(str(name), found) for name, found in figures["models"].items()],
        transfer=_transfer(figures) if len(figures["models"]) > 1 else None,
        facts=[
            ("Command", figures["command"]),
            ("Seed", str(figures["seed"])),
            ("Machine", figures["machine"]),
            ("Data", figures["data"]),
            ("Utterances", str(figures["utterances"])),
            ("Judge", figures["judge"]),
            ("Policy", figures["policy"]),
        ],
    )


def _points(found: Figures) -> Sequence[Point]:
    points = []
    for row in found["attacks"]:
        count, _, rest = row["name"].partition(" ")
        if rest in ("token exchanged", "tokens exchanged"):
            value = row["deceived"]
            points.append(Point(float(count), value, f"{row['name']}: {_share(value)}"))
    untouched = found["attacks"][0]["deceived"]
    return [Point(0.0, untouched, f"untouched: {_share(untouched)}"), *points]


def _table(name: str, found: Figures) -> Table:
    rows: list[Row] = []
    changes = ""
    for row in found["attacks"]:
        if row["changes"] != changes:
            changes = row["changes"]
            rows.append(Row(HEADINGS[changes], [], heading=True))
        cells = [cell(row.get(key)) for key, _, _ in COLUMNS]
        title = ", ".join(filter(None, (row["name"], row["note"])))
        rows.append(Row(title, [*cells, Cell(str(row["passes"]))]))
    columns = [*((title, remark) for _, title, remark in COLUMNS), ("Passes", "")]
    return Table(f"Attacks on {name}", "Attack", columns, rows)


def _transfer(figures: Figures) -> Table:
    names = list(figures["models"])
    rows = [
        Row(first, [cell(figures["transfer"][first][second]) for second in names])
        for first in names
    ]
    return Table(
        f"Found on the row's model, tried on the column's: {figures['carried']}",
        "Found on",
        [(name, "") for name in names],
        rows,
    )
