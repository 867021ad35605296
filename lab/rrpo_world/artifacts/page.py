"""The pages of the artifact study: tables, ROC curves, and examples to hear."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from rrpo.evaluate.artifacts import KINDS, THRESHOLDS, Artifact
from rrpo.interval import MISSING
from rrpo.report import markdown
from rrpo.report.listening import Player, Sound, player_of
from rrpo.report.page import write_html
from rrpo.report.sound import flac_uri
from rrpo.studies.study import new_picture, save_picture
from rrpo_world.artifacts.insertions import WAYS, Inserted
from rrpo_world.artifacts.roc import roc_curve
from rrpo_world.artifacts.speech import SYNTHETIC
from rrpo_world.artifacts.trials import NEAR

COLOURS = ("#bdbdbd", "#86c5e8", "#2b8cbe", "#0b5394", "#1b1b3a")
STYLES = ("-", "--")
"""Of the lines of the first group of corpora and of the second."""

Curves = Mapping[str, Mapping[str, Mapping[float, Sequence[Sequence[float]]]]]
"""Group of corpora → way → level → scores of artifacts and of clean speech."""


@dataclass(frozen=True)
class Example:
    """A sound with an artifact of a kind in it, and what the detectors found."""

    title: str
    corpus: str
    kind: str
    inserted: Inserted
    found: list[Artifact]


@dataclass(frozen=True)
class Card:
    """An example as the page shows it."""

    title: str
    corpus: str
    start: float
    end: float
    hit: bool
    player: Player


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    lines = [
        f"`{study['command']}`, {study['machine']}, seed {study['seed']}: one artifact in each of "
        f"up to {study['inserted']} utterances of each corpus. AUC: area under the ROC curve of "
        "the detector's score within 40 ms of the artifact against windows as long of the same "
        "utterance without it. Found: the share with that score at the threshold or over it. With "
        f"95 % interval, for which whole clusters are resampled: {_clusters(study)}.",
        *(line for text in study["left_out"] for line in ("", f"Left out of {text}.")),
        "",
        "Clicks of every shape with a peak of 0.2 or more, AUC:",
        "",
        *_goal(study),
        "",
        "Every way and level:",
        "",
        *_detectors(study["detectors"], study["ways"]),
    ]
    for part, title in (("corpus", "Marks a minute in clean speech"), ("emotion", "By emotion")):
        if study["false_alarms"][part]:
            lines += ["", f"{title}:", "", *_alarms(study["false_alarms"][part])]
    lines += ["", _quality(study["quality"]), "", *_tokens(study["tokens"])]
    return "\n".join(lines) + "\n"


def _clusters(study: Mapping[str, Any]) -> str:
    return ", ".join(f"{over} ({corpus})" for corpus, over in study["drawn_by"].items())


def _quality(found: Mapping[str, Any]) -> str:
    if "reason" in found:
        return f"Drops of quality were not measured: {found['reason']}."
    return (
        f"Drops of quality ({found['scorer']}), a second of white noise at 0 dB in each of "
        f"{found['utterances']} utterances of 3 s or more (intervals over {found['drawn_by']}): "
        "AUC of an utterance's worst window against that of the same utterance without the noise "
        f"{found['auc']:.3f}; found in {found['found']}; "
        f"marks a minute in the clean ones {found['false_per_minute']}."
    )


def _goal(study: Mapping[str, Any]) -> list[str]:
    rows = [("ours", [f"{found:.3f}" for found in study["goal"].values()])]
    return markdown.table("", list(study["goal"]), rows)


def _detectors(found: Mapping[str, Any], ways: Mapping[str, Any]) -> list[str]:
    groups = [name for name in ("real speech", "mini world") if _has(found, name)]
    columns = ["level"]
    columns += [f"{name}, {figure}" for name in groups for figure in ("AUC", "found")]
    rows = []
    for way, levels in found.items():
        for level, corpora in levels.items():
            cells = [
                text
                for name in groups
                for text in (f"{corpora[name]['auc']:.3f}", str(corpora[name]["hit"]))
            ]
            rows.append((way, [f"{level} {ways[way]['unit']}", *cells]))
    return markdown.table("", columns, rows)


def _has(found: Mapping[str, Any], group: str) -> bool:
    return any(group in corpora for levels in found.values() for corpora in levels.values())


def _alarms(groups: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, [f"{row['minutes']:.1f}", row["drawn_by"], *(str(row[k]) for k in KINDS)])
        for name, row in groups.items()
    ]
    return markdown.table("", ["minutes", "intervals over", *KINDS], rows)


def _tokens(tokens: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} a {kind}" for kind, count in tokens["carriers"].items())
    heard = [
        (kind, [str(row["carriers"]), str(row["others"])])
        for kind, row in tokens["listening"].items()
    ]
    lines = [
        f"Token ids that the decoder says an artifact at in half of {tokens['contexts']} "
        f"sentences: {counts}. Decoded in other sentences, the share in which one is "
        "detected (intervals over ids):",
        "",
        *markdown.table("", ["such ids", "other ids"], heard),
        "",
        "Marks on the tokens of speech with one such id, or a loop, against the detector on its "
        "sound, within one token (intervals over utterances):",
        "",
    ]
    rows = [
        (kind, [_share(row, name) for name in ("marks", "sounds")])
        for kind, row in tokens["speech"].items()
    ]
    columns = ["precision of the marks", "recall of the marks"]
    return lines + markdown.table("", columns, rows)


def _share(row: Mapping[str, Any], name: str) -> str:
    value = row["marks_heard" if name == "marks" else "sounds_marked"]
    return MISSING if value is None else f"{value} of {row[name]}"


def draw(curves: Curves, path: Path) -> None:
    """Draw a panel of ROC curves for each way, each group of corpora in its own line style."""
    curves = {group: ways for group, ways in curves.items() if _measured(ways)}
    drawing = new_picture(8.4, 8.4)
    panels = drawing.subplots(-(-len(WAYS) // 3), 3, sharex=True, sharey=True, squeeze=False)
    for axes, (name, way) in zip(panels.flat, WAYS.items(), strict=True):
        for group, style in zip(curves, STYLES, strict=False):
            for index, (level, (positive, negative)) in enumerate(curves[group][name].items()):
                reading = (positive, negative, THRESHOLDS[way.kind])
                label = f"{level:g}" if style == STYLES[0] else None
                _curve(axes, reading, COLOURS[index], style, label)
        axes.set_title(f"{name} ({way.unit})", fontsize=8, loc="left")
        axes.set_xlim(-0.01, 0.5)
        axes.tick_params(labelsize=7, length=2, color="#888888")
        axes.grid(color="#eeeeee", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    for axes in panels[-1]:
        axes.set_xlabel("share of clean stretches marked", fontsize=8)
    for row in panels:
        row[0].set_ylabel("share of artifacts found", fontsize=8)
    drawing.suptitle(", ".join(f"{s}: {g}" for g, s in _named(curves)), fontsize=9)
    save_picture(drawing, path)


def _named(curves: Curves) -> list[tuple[str, str]]:
    names = {"-": "solid lines", "--": "dashed"}
    return [(group, names[style]) for group, style in zip(curves, STYLES, strict=False)]


def _measured(ways: Mapping[str, Mapping[float, Sequence[Sequence[float]]]]) -> bool:
    return all(len(positive) > 0 for way in ways.values() for positive, _ in way.values())


def _curve(
    axes: Axes,
    reading: tuple[Sequence[float], Sequence[float], float],
    colour: str,
    style: str,
    label: str | None,
) -> None:
    positive, negative, threshold = reading
    false, true = roc_curve(positive, negative)
    axes.plot(false, true, color=colour, linewidth=1.2, linestyle=style, label=label)
    reached = [sum(x >= threshold for x in part) / len(part) for part in (negative, positive)]
    axes.plot(*reached, marker="o" if style == "-" else "s", markersize=3, color=colour)


def write(folder: Path, examples: Sequence[Example], study: Mapping[str, Any]) -> Path:
    """Write `report.html`: the curves of `figure.svg`, the examples and the tables.

    `examples.html` beside it holds no recording of a person, so that it can be shown to others.
    """
    drawn = base64.b64encode((folder / "figure.svg").read_bytes()).decode("ascii")
    cards = [_card(example) for example in examples]
    synthetic = [card for card in cards if card.corpus == SYNTHETIC]
    for name, heard in (("examples.html", synthetic), ("report.html", cards)):
        written = write_html(
            folder / name,
            "artifacts.html",
            title="How well artifacts are detected",
            figure=f"data:image/svg+xml;base64,{drawn}",
            examples=heard,
            figures=page(study),
        )
    return written


def _card(example: Example) -> Card:
    audio, start, end = example.inserted.audio, example.inserted.start, example.inserted.end
    label = f"{example.title}, {example.corpus}"
    hit = any(
        one.kind == example.kind and one.start <= end + NEAR and one.end >= start - NEAR
        for one in example.found
    )
    return Card(
        example.title,
        example.corpus,
        start,
        end,
        hit,
        player_of(
            label,
            Sound.of(audio, flac_uri(audio)),
            {"artifacts": [vars(one) for one in example.found]},
            len(audio),
        ),
    )
