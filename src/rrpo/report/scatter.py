"""Emotion against words and against quality: a point with intervals for each system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rrpo.interval import Interval
from rrpo.measures import (
    BY_KEY,
    JUDGE_PROBABILITY,
    Entry,
    Measure,
    figure_of,
    quality_measures,
    system_label,
)
from rrpo.report.numbers import number, with_ends
from rrpo.report.plots import extent, marker_path, tick_text, ticks

WIDTH, HEIGHT = 420.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 14.0, 14.0, 44.0
PREFERRED = "quality.distillmos"
"""The quality scorer that is drawn where it was measured; otherwise the first."""


@dataclass(frozen=True)
class Spot:
    """A system's figures on the two axes."""

    name: str
    x: Interval
    y: Interval


def panels(entries: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """Return (title, SVG) of emotion against word error and against quality, where measured."""
    scorers = quality_measures(entries.values())
    scorers.sort(key=lambda measure: measure.key != PREFERRED)
    drawn = []
    for measure in (BY_KEY["content_error"], *scorers[:1]):
        spots = [
            Spot(name, x, y)
            for name, entry in entries.items()
            if (x := figure_of(entry, measure.key)) is not None
            and (y := figure_of(entry, JUDGE_PROBABILITY.key)) is not None
        ]
        if len(spots) > 1:
            against = "words" if measure.key == "content_error" else "quality"
            drawn.append((f"Emotion against {against}", scatter_svg(measure, spots)))
    return drawn


def scatter_svg(across: Measure, spots: Sequence[Spot]) -> str:
    """Draw the judge's probability over a measure; colours are CSS classes, every text escaped."""
    wide = extent([v for spot in spots for v in _ends(spot.x)])
    high = extent([v for spot in spots for v in _ends(spot.y)])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - wide[0]) / (wide[1] - wide[0]) * (right - LEFT),
            bottom - (y - high[0]) / (high[1] - high[0]) * (bottom - TOP),
        )

    told = "; ".join(
        f"{system_label(s.name)} {number(s.x.mean)}, {number(s.y.mean)}" for s in spots
    )
    label = f"Judge’s probability of the asked emotion over {across.label.lower()}: {told}"
    parts = [
        f'<svg class="chart scatter" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    marks = ticks(*high, count=4)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        y = place(wide[0], value)[1]
        parts.append(
            f'<path class="rule" d="M{LEFT:.0f} {y:.1f}H{right:.0f}"/><text class="tick end" '
            f'x="{LEFT - 8:.0f}" y="{y + 4:.1f}">{tick_text(value, step)}</text>'
        )
    marks = ticks(*wide, count=5)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        x = place(value, high[0])[0]
        parts.append(
            f'<text class="tick middle" x="{x:.1f}" y="{bottom + 17:.0f}">'
            f"{tick_text(value, step)}</text>"
        )
    better = "← better" if across.better == "lower" else "better →"
    parts += [
        f'<path class="axis" d="M{LEFT:.0f} {bottom:.0f}H{right:.0f}"/>',
        f'<text class="tick middle" x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 7:.0f}">'
        f"{escape(across.label)}, {better}</text>",
    ]
    centres = [place(spot.x.mean, spot.y.mean) for spot in spots]
    for spot, centre in zip(spots, centres, strict=True):
        parts.append(
            _spot(
                spot, centre, place(spot.x.low, spot.y.low), place(spot.x.high, spot.y.high), across
            )
        )
    parts += _names(spots, centres)
    return "".join([*parts, "</svg>"])


def _ends(value: Interval) -> list[float]:
    return [value.low, value.high] if value.known else [value.mean]


def _spot(
    spot: Spot,
    centre: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
    across: Measure,
) -> str:
    x, y = centre
    note = (
        f"{system_label(spot.name)}: judge’s probability {with_ends(spot.y)}, "
        f"{across.label} {with_ends(spot.x)}"
    )
    bars = f"M{low[0]:.1f} {y:.1f}H{high[0]:.1f}" if spot.x.known else ""
    bars += f"M{x:.1f} {low[1]:.1f}V{high[1]:.1f}" if spot.y.known else ""
    return (
        f'<g class="line {escape(spot.name)}"><path class="whisker" d="{bars}"/>'
        f'<path class="mark" d="{marker_path(spot.name, x, y, 5.5)}">'
        f"<title>{escape(note)}</title></path></g>"
    )


def _names(spots: Sequence[Spot], centres: Sequence[tuple[float, float]]) -> list[str]:
    """Name each point beside it, where the name covers no other name and no point."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in centres]
    texts = []
    for spot, (x, y) in zip(spots, centres, strict=True):
        label = "Real tokens" if spot.name == "reference" else system_label(spot.name)
        size = 7.8 * len(label)
        places = [
            (x + 9, y - 9),
            (x - 9 - size, y - 9),
            (x + 9, y + 18),
            (x - 9 - size, y + 18),
            (x + 9, y - 24),
            (x - 9 - size, y - 24),
            (x + 9, y + 33),
            (x - 9 - size, y + 33),
        ]
        boxes = [(left, base - 11, left + size, base + 3) for left, base in places]
        inside = [box for box in boxes if box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0]
        free = [box for box in inside if not any(_touch(box, other) for other in taken)]
        box = (free or inside or boxes)[0]
        taken.append(box)
        texts.append(
            f'<text class="name {escape(spot.name)}" x="{box[0]:.1f}" y="{box[3] - 3:.1f}">'
            f"{escape(label)}</text>"
        )
    return texts


def _touch(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
