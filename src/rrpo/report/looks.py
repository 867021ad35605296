"""The looks of a run that listens to itself, for its page."""

from collections.abc import Sequence
from typing import Any

from rrpo.measures import BY_KEY, Entry, plain_name
from rrpo.report.numbers import number
from rrpo.report.tables import Cell, Row, Table

TITLES = {
    "reward": "Reward, as paid",
    "second_probability": "Second reward model’s probability of the asked emotion",
    "disagreement": "Trained-on model’s probability less the second’s",
    "content_loss": "Loss of the words, nats a symbol",
    "recodec": "Reward lost when the audio is encoded again, nats",
}
"""What is no measure of an evaluation."""
LISTED = 12
"""Looks of which the evidence is listed."""


def looks_section(lines: Sequence[Entry]) -> dict[str, Any] | None:
    """Return what a page says of looks (`monitor.jsonl`): alarms and a table; None without any."""
    if not lines:
        return None
    return {
        "alarms": [(line["step"], line["said"]) for line in lines if line.get("alarm")],
        "looks": len(lines),
        "kept": max((line["step"] for line in lines if line.get("kept")), default=0),
        "last": lines[-1]["step"],
        "seconds": number(sum(line["seconds"] for line in lines) / len(lines), 1),
        "figures": _figures(lines[-1]),
        "evidence": _evidence(lines[-LISTED:]),
    }


def _figures(line: Entry) -> Table:
    """Build the figures of a look: the start, the policy, the evidence that they got worse."""
    rows = []
    for name, figure in line["measures"].items():
        cells = [Cell(number(figure[key], 3)) for key in ("start", "now")]
        rows.append(Row(_title(name), [*cells, Cell(_times(figure["evidence"]))]))
    columns = [("Start", ""), ("Policy", ""), ("Evidence", "")]
    return Table(f"Figures of the look at step {line['step']}", "Figure", columns, rows)


def _evidence(lines: Sequence[Entry]) -> Table:
    rows = [
        Row(
            f"Step {line['step']}",
            [
                Cell(_times(line["measures"]["reward"]["evidence"])),
                Cell(_times(line["harm"])),
                Cell("alarm" if line["alarm"] else "kept" if line["kept"] else "not kept"),
            ],
        )
        for line in lines
    ]
    columns = [("That the reward rose", ""), ("That harm rose", ""), ("Weights", "")]
    return Table("Evidence at each look", "Look", columns, rows)


def _title(name: str) -> str:
    if name in TITLES:
        return TITLES[name]
    return BY_KEY[name].label if name in BY_KEY else plain_name(name)


def _times(evidence: float) -> str:
    """Write evidence as a factor."""
    return f"{evidence:.0e}" if evidence >= 1e4 else number(evidence, 2)
