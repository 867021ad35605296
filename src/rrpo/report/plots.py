"""Line charts as SVG that follows the page's colours, and the README's picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrpo.files import atomic_path
from rrpo.interval import Interval
from rrpo.measures import (
    JUDGE_PROBABILITY,
    Entry,
    Measure,
    figure_of,
    quality_measures,
    section,
    system_label,
)
from rrpo.report.curves import by_system, points
from rrpo.report.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 340.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 60.0, 12.0, 38.0
COLOURS = {
    "base": "#5f6b7a",
    "sft": "#0b6bb0",
    "dpo": "#7b3fa0",
    "grpo": "#7d6608",
    "diffro": "#b8480a",
    "rrpo": "#0a7558",
    "multitask": "#a3155b",
}
"""Colours on white; the pages' style sheet holds the same ones, and others for a dark page."""
MARKERS = {
    "base": "o",
    "sft": "s",
    "best_of_8": "P",
    "sft_best_of_8": "P",
    "dpo": "v",
    "grpo": "P",
    "diffro_published": "v",
    "diffro_paper": ">",
    "diffro": "^",
    "rrpo_paper": "X",
    "rrpo": "D",
    "rrpo_best_of_8": "d",
    "rrpo_dpo": "*",
    "multitask": "X",
}


@dataclass(frozen=True)
class Point:
    """One point of a line: where, how high, and what to say on hover."""

    x: float
    y: Interval
    note: str


@dataclass(frozen=True)
class Line:
    """A line of a chart; `name` chooses its colour and marker."""

    name: str
    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """A small line chart; `level` is a horizontal line such as the reference's mean."""

    title: str
    across: str
    lines: Sequence[Line]
    level: float | None = None
    note: str = ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers 1, 2 or 5 times a power of ten apart that lie within [low, high].

    Examples:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * count >= span * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float, step: float) -> str:
    """Write a tick with as many digits as the step between ticks asks for."""
    if abs(value) >= 10_000 or 0 < step < 1e-4:
        return f"{value:.1e}".replace("-", "−") if value else "0"
    return number(value, max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0)


def extent(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


@dataclass(frozen=True)
class _Frame:
    """The mapping from data to the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    right: float

    def across(self, value: float) -> float:
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return LEFT + share * (self.right - LEFT)

    def up(self, value: float) -> float:
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def chart_svg(chart: Chart) -> str:
    """Draw a chart as an SVG element for inlining in HTML; an empty string without any point.

    The colours are CSS classes (`line NAME`), so the picture follows light and dark pages. Every
    text is escaped.
    """
    drawn = [point for line in chart.lines for point in line.points]
    if not drawn:
        return ""
    values = [value for p in drawn for value in (p.y.mean, p.y.low, p.y.high)]
    heights = [value for value in values if math.isfinite(value)]
    heights += [] if chart.level is None else [chart.level]
    named = chart.level is not None or any(line.label for line in chart.lines)
    longest = max((len(line.label) for line in chart.lines), default=0)
    right = WIDTH - (min(max(RIGHT, 6.4 * longest + 8.0), 130.0) if named else 12.0)
    frame = _Frame(extent([point.x for point in drawn]), extent(heights), right)
    ends = [
        f"{line.label} {number(line.points[-1].y.mean, 3)}".strip()
        for line in chart.lines
        if line.points
    ]
    label = f"{chart.title} over {chart.across}; at the last point: {', '.join(ends)}"
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(label)}">',
        *_axes(frame, chart),
        *[_line(frame, line) for line in chart.lines],
        *_labels(frame, chart),
        "</svg>",
    ]
    return "".join(parts)


def _axes(frame: _Frame, chart: Chart) -> list[str]:
    right, bottom = frame.right, HEIGHT - BOTTOM
    parts = []
    marks = ticks(*frame.y)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        y = frame.up(value)
        parts.append(f'<path class="rule" d="M{LEFT:.1f} {y:.1f}H{right:.1f}"/>')
        text = tick_text(value, step)
        parts.append(f'<text class="tick end" x="{LEFT - 6:.1f}" y="{y + 3.5:.1f}">{text}</text>')
    marks = ticks(*frame.x, count=4)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        x = frame.across(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom:.1f}v4"/>')
        text = tick_text(value, step)
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{bottom + 16:.1f}">{text}</text>')
    parts.append(f'<path class="axis" d="M{LEFT:.1f} {bottom:.1f}H{right:.1f}"/>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="tick middle" x="{middle:.1f}" y="{HEIGHT - 5:.1f}">'
        f"{escape(chart.across)}</text>"
    )
    if chart.level is not None:
        y = frame.up(chart.level)
        parts.append(f'<path class="level" d="M{LEFT:.1f} {y:.1f}H{right:.1f}"/>')
    return parts


def _line(frame: _Frame, line: Line) -> str:
    if not line.points:
        return ""
    spots = [(frame.across(point.x), frame.up(point.y.mean)) for point in line.points]
    parts = [f'<g class="line {escape(line.name)}">']
    if len(spots) > 1 and all(point.y.known for point in line.points):
        upper = [(frame.across(p.x), frame.up(p.y.high)) for p in line.points]
        lower = [(frame.across(p.x), frame.up(p.y.low)) for p in line.points]
        parts.append(f'<path class="band" d="M{_path(upper)}L{_path(lower[::-1])}Z"/>')
    if len(spots) > 1:
        parts.append(f'<path class="stroke" d="M{_path(spots)}"/>')
    if len(spots) <= 60:
        for (x, y), point in zip(spots, line.points, strict=True):
            parts.append(
                f'<path class="mark" d="{marker_path(line.name, x, y)}">'
                f"<title>{escape(point.note)}</title></path>"
            )
    return "".join([*parts, "</g>"])


def _path(spots: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)


def marker_path(name: str, x: float, y: float, r: float = 2.8) -> str:
    """Return the path of a marker: the shape distinguishes the systems without colour."""
    shape = MARKERS.get(name, "o")
    if shape == "s":
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}Z"
    if shape == "^":
        return f"M{x:.1f} {y - 1.25 * r:.1f}l{1.2 * r:.1f} {2.2 * r:.1f}h{-2.4 * r:.1f}Z"
    if shape == "v":
        return f"M{x:.1f} {y + 1.25 * r:.1f}l{1.2 * r:.1f} {-2.2 * r:.1f}h{-2.4 * r:.1f}Z"
    if shape == "P":
        w, s = 0.45 * r, 1.25 * r
        upright = f"M{x - w:.1f} {y - s:.1f}h{2 * w:.1f}v{2 * s:.1f}h{-2 * w:.1f}Z"
        return upright + f"M{x - s:.1f} {y - w:.1f}h{2 * s:.1f}v{2 * w:.1f}h{-2 * s:.1f}Z"
    if shape == "X":
        s = 1.1 * r
        return f"M{x - s:.1f} {y - s:.1f}h{2 * s:.1f}l{-2 * s:.1f} {2 * s:.1f}h{2 * s:.1f}Z"
    if shape == "D":
        s = 1.3 * r
        return f"M{x:.1f} {y - s:.1f}l{s:.1f} {s:.1f}l{-s:.1f} {s:.1f}l{-s:.1f} {-s:.1f}Z"
    return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z"


def legend_mark(name: str) -> str:
    """Return the line and marker of a system as a small SVG for a legend."""
    return (
        '<svg class="chart key" viewBox="0 0 28 12" aria-hidden="true">'
        f'<g class="line {escape(name)}"><path class="stroke" d="M1 6H27"/>'
        f'<path class="mark" d="{marker_path(name, 14, 6)}"/></g></svg>'
    )


def _labels(frame: _Frame, chart: Chart) -> list[str]:
    """Name each line at its end; labels that would touch are moved apart."""
    wanted = [
        (frame.up(line.points[-1].y.mean), frame.across(line.points[-1].x), line)
        for line in chart.lines
        if line.points and line.label
    ]
    texts = [(y, line.label, escape(line.name)) for y, _, line in wanted]
    if chart.level is not None:
        texts.append((frame.up(chart.level), "Reference", "reference"))
    texts.sort()
    placed = spread([y for y, _, _ in texts], 12.0, TOP, HEIGHT - BOTTOM)
    x = frame.right + 5
    return [
        f'<text class="name {name}" x="{x:.1f}" y="{y + 3.5:.1f}">{escape(label)}</text>'
        for y, (_, label, name) in zip(placed, texts, strict=True)
    ]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move sorted positions so that neighbours are at least `gap` apart, staying in [low, high]."""
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, placed[-1] + gap if placed else low))
    limit = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


def figure(results: Mapping[str, Any], curves: Sequence[Entry], path: Path) -> None:
    """Draw the judge's probability and a quality score against KL, with the reference's level.

    The quality scorer is DistillMOS where present, otherwise the first in display order; without
    any, only the judge is drawn. The suffix of `path` chooses the format (svg or png); the file is
    written atomically.
    """
    # Every command with a page imports this module, and matplotlib takes a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scorers = quality_measures([row for rows in by_system(curves).values() for row in rows])
    scorers.sort(key=lambda measure: measure.key != "quality.distillmos")
    measures = [JUDGE_PROBABILITY, *scorers[:1]]
    drawing = Figure(figsize=(4.6 * len(measures), 3.5), layout="constrained")
    drawing.patch.set_facecolor("white")
    FigureCanvasAgg(drawing)
    for index, measure in enumerate(measures):
        axes = drawing.add_subplot(1, len(measures), index + 1)
        _panel(axes, measure, results, curves)
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=160)


def _panel(
    axes: Axes, measure: Measure, results: Mapping[str, Any], curves: Sequence[Entry]
) -> None:
    level = figure_of(section(results, "reference"), measure.key)
    if level is not None:
        axes.axhline(level.mean, color="#555555", linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate(
            "real tokens", (0.99, level.mean), xycoords=("axes fraction", "data"),
            textcoords="offset points", xytext=(0, 3), ha="right", fontsize=8, color="#555555",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}, zorder=5,
        )  # fmt: skip
    for name, rows in by_system(curves).items():
        path = points(rows, "kl", measure.key)
        if not path:
            continue
        colour = COLOURS.get(name, "#444444")
        across, up = [x for x, _, _ in path], [y.mean for _, y, _ in path]
        marker = MARKERS.get(name, "o")
        axes.plot(across, up, color=colour, marker=marker, markersize=5, label=system_label(name))
        if len(path) > 1 and all(y.known for _, y, _ in path):
            low, high = [y.low for _, y, _ in path], [y.high for _, y, _ in path]
            axes.fill_between(across, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("KL to the base, nats per token", fontsize=9)
    title = "Judge’s probability of the asked emotion"
    axes.set_title(
        title if measure is JUDGE_PROBABILITY else measure.label, fontsize=10, loc="left"
    )
    axes.tick_params(labelsize=8, length=3, color="#888888")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if measure is JUDGE_PROBABILITY and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
