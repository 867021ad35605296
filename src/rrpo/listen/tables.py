"""The tables of an analysis as CSV: every figure, and every answer."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rrpo.listen.answers import Judgement


def figures_csv(figures: Mapping[str, Any]) -> str:
    """Return every interval as a row."""
    rows = []
    for question, found in figures["questions"].items():
        for kind in ("systems", "differences", "comparisons", "strengths", "shares", "judges"):
            for name, value in found.get(kind, {}).items():
                rows.append([question, kind, "", name, value.mean, value.low, value.high])
        for emotion, means in found.get("by_emotion", {}).items():
            for name, value in means.items():
                rows.append([question, "systems", emotion, name, value.mean, value.low, value.high])
    header = ["question", "figure", "emotion", "name", "mean", "low", "high"]
    return csv_text(header, [[*row[:4], *map(_cell, row[4:])] for row in rows])


def _cell(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def ratings_csv(answers: Sequence[Judgement], excluded: Mapping[str, Sequence[str]]) -> str:
    """Return every answer as a row, with what the listener was not told."""
    header = ["listener", "left_out", "page", "role", "system", "second_system"]
    header += ["item", "emotion", "question", "answer", "seconds", "plays"]
    rows = [
        [
            one.listener,
            "yes" if one.listener in excluded else "",
            one.page.id,
            one.role,
            *(*one.systems, "", "")[:2],
            one.item,
            one.emotion or "",
            one.question.name,
            " ".join(map(str, one.value)) if isinstance(one.value, tuple) else one.value,
            round(one.seconds, 2),
            one.plays,
        ]
        for one in answers
    ]
    return csv_text(header, rows)


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows below a header as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return stream.getvalue()
