"""Figures with their intervals below each other, as SVG that follows the page's colours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from rrpo.interval import Interval
from rrpo.report.numbers import with_ends
from rrpo.report.plots import extent, marker_path, tick_text, ticks

WIDTH, ROW, TOP, BOTTOM = 460.0, 26.0, 8.0, 30.0
LEFT, RIGHT = 122.0, 122.0
LONGEST = 20
"""Signs of a label."""


@dataclass(frozen=True)
class Bar:
    """A row: `name` chooses colour and marker."""

    name: str
    label: str
    value: Interval


def forest_svg(title: str, bars: Sequence[Bar], level: float | None = None) -> str:
    """Draw a row for each figure, with a line at a level if one is given; every text is escaped.

    Without any finite figure the text is empty.
    """
    shown = [bar for bar in bars if math.isfinite(bar.value.mean)]
    if not shown:
        return ""
    ends = [end for bar in shown for end in (bar.value.low, bar.value.mean, bar.value.high)]
    ends += [] if level is None else [level]
    low, high = extent([end for end in ends if math.isfinite(end)])
    height, bottom = TOP + ROW * len(shown) + BOTTOM, TOP + ROW * len(shown)

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    told = "; ".join(f"{bar.label} {with_ends(bar.value)}" for bar in shown)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}: {escape(told)}">'
    ]
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        x = across(value)
        parts.append(
            f'<path class="rule" d="M{x:.1f} {TOP:.1f}V{bottom:.1f}"/><text class="tick middle" '
            f'x="{x:.1f}" y="{bottom + 18:.1f}">{tick_text(value, step)}</text>'
        )
    if level is not None:
        parts.append(f'<path class="level" d="M{across(level):.1f} {TOP:.1f}V{bottom:.1f}"/>')
    for row, bar in enumerate(shown):
        parts.append(_row(bar, TOP + ROW * (row + 0.5), across))
    return "".join([*parts, "</svg>"])


def _row(bar: Bar, y: float, across: Callable[[float], float]) -> str:
    label = bar.label if len(bar.label) <= LONGEST else f"{bar.label[: LONGEST - 1]}…"
    line = ""
    if bar.value.known:
        ends = f"M{across(bar.value.low):.1f} {y:.1f}H{across(bar.value.high):.1f}"
        line = f'<path class="stroke" d="{ends}"/>'
    spot = marker_path(bar.name, across(bar.value.mean), y, 4.0)
    return (
        f'<text class="tick end" x="{LEFT - 10:.0f}" y="{y + 4:.1f}">{escape(label)}</text>'
        f'<g class="line {escape(bar.name)}">{line}<path class="mark" d="{spot}"/></g>'
        f'<text class="tick" x="{WIDTH - RIGHT + 10:.0f}" y="{y + 4:.1f}">'
        f"{escape(with_ends(bar.value))}</text>"
    )
