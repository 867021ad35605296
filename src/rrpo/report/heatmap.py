"""A confusion matrix as a small heat map in SVG that follows the page's colours."""

from collections.abc import Sequence
from html import escape

LEFT, TOP, CELL, HEIGHT = 66.0, 58.0, 44.0, 28.0
STRONGEST = 0.5
"""Opacity of a share of one: light enough for the text on it, on light and on dark pages."""


def heatmap_svg(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Draw counts (K, K), rows the truth and columns the prediction, as shares of each row.

    A row without an utterance stays empty. Every text is escaped; hovering tells the counts.
    """
    width, height = LEFT + CELL * len(names) + 28.0, TOP + HEIGHT * len(names) + 4.0
    right = sum(row[index] for index, row in enumerate(counts))
    label = f"{title}: {right} of {sum(map(sum, counts))} right; rows the truth"
    parts = [
        f'<svg class="chart heatmap" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{1.3 * width:.0f}px" role="img" aria-label="{escape(label)}">'
    ]
    for column, name in enumerate(names):
        x = LEFT + CELL * (column + 0.5)
        parts.append(
            f'<text class="tick" transform="translate({x - 4:.1f} {TOP - 7:.1f}) rotate(-40)">'
            f"{escape(name)}</text>"
        )
    for row, (name, line) in enumerate(zip(names, counts, strict=True)):
        y = TOP + HEIGHT * row
        parts.append(
            f'<text class="tick end" x="{LEFT - 7:.1f}" y="{y + HEIGHT / 2 + 3.5:.1f}">'
            f"{escape(name)}</text>"
        )
        parts += _row(name, names, line, y)
    return "".join([*parts, "</svg>"])


def _row(name: str, names: Sequence[str], line: Sequence[int], y: float) -> list[str]:
    total = sum(line)
    parts = []
    for column, (guess, count) in enumerate(zip(names, line, strict=True)):
        x, share = LEFT + CELL * column, count / total if total else 0.0
        parts.append(
            f'<rect class="heat" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{CELL - 2:.1f}" '
            f'height="{HEIGHT - 2:.1f}" style="fill-opacity:{STRONGEST * share:.3f}">'
            f"<title>{escape(name)} taken for {escape(guess)}: {count} of {total}</title></rect>"
        )
        if count:
            weight = " own" if guess == name else ""
            parts.append(
                f'<text class="share{weight}" x="{x + CELL / 2:.1f}" '
                f'y="{y + HEIGHT / 2 + 3.8:.1f}">{share:.2f}</text>'
            )
    return parts
