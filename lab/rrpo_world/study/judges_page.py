"""The page of what each judge can hear: rank correlations, what is asked of them, curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.report import markdown
from rrpo.studies import aims
from rrpo.studies.aims import Aim
from rrpo.studies.study import new_picture, save_picture
from rrpo_world.study.degraded import LEVELS, UNITS


def asked_of_judges(ways: Mapping[str, Any]) -> list[Aim]:
    """Return what judges should hear, by rank correlation with how much an utterance is degraded.

    A correlation that cannot be told from 0 is of a judge that hears nothing, so its whole interval
    is asked.

    Args:
        ways: the curves of their study (`rrpo_world.study.judges`).
    """
    falls = [
        Aim(
            f"{scorer} falls with {way}",
            ways[way]["measures"][scorer]["rank"],
            most=0.0,
            surely=True,
        )
        for way in ("clicks", "noise", "held token", "repeated tokens")
        for scorer in ("DNSMOS overall", "DNSMOS P.808", "PLCMOS", "DistillMOS")
        if scorer in ways[way]["measures"]
    ]
    rises = ways["exchanged tokens"]["measures"].get("word error", {}).get("rank")
    return [*falls, Aim("word error rises with exchanged tokens", rises, least=0.0, surely=True)]


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    ways = study["curves"]
    labels = list(next(iter(ways.values()))["measures"])
    lines = [
        f"`{study['command']}`, {study['machine']}: {study['utterances']} unseen utterances of "
        "real tokens through the codec, each of another sentence; mean with 95 % interval over "
        "utterances.",
        "",
        "Rank correlation of a judge's figure with how much an utterance is degraded (−1: it falls "
        "at every level, 1: it rises at every level, 0: it does not hear it):",
        "",
    ]
    ranks = [
        (label, [str(way["measures"][label]["rank"]) for way in ways.values()]) for label in labels
    ]
    lines += markdown.table("", list(ways), ranks)
    if set(ways) == set(LEVELS):
        lines += [
            "",
            "What is asked of them (met or missed: the interval of that correlation):",
            "",
        ]
        lines += markdown.table("", aims.COLUMNS, aims.rows(asked_of_judges(ways)))
    level = study["level"]
    lines += [
        "",
        f"The judge's probability of the asked emotion is {level['own']} at the level of the "
        f"speech and {level['levelled']} at a peak of 0.7, which all speech below is brought to: "
        f"{level['difference']}.",
    ]
    for name, way in ways.items():
        at = [(label, list(map(str, way["measures"][label]["at"]))) for label in labels]
        lines += ["", f"{name.capitalize()} ({UNITS[name]}):", ""]
        lines += markdown.table("", [f"{level:g}" for level in way["levels"]], at)
    real = [
        (name, [str(figures[label]) for label in labels])
        for name, figures in study["acted"].items()
    ]
    lines += [
        "",
        f"Real tokens by emotion and intensity, {study['sentences']} unseen sentences:",
        "",
        *markdown.table("", labels, real),
    ]
    return "\n".join(lines) + "\n"


def draw(ways: Mapping[str, Any], path: Path) -> None:
    """Draw a row for each judge and a column for each way of degrading."""
    labels = list(next(iter(ways.values()))["measures"])
    drawing = new_picture(2.4 * len(ways), 1.5 * len(labels) + 0.4)
    panels = drawing.subplots(len(labels), len(ways), sharey="row", squeeze=False)
    for row, label in enumerate(labels):
        for column, (name, way) in enumerate(ways.items()):
            axes, at = panels[row][column], way["measures"][label]["at"]
            steps = np.arange(len(at))
            axes.plot(steps, [one.mean for one in at], color="#0b6bb0", marker="o", markersize=3)
            low, high = [one.low for one in at], [one.high for one in at]
            axes.fill_between(steps, low, high, color="#0b6bb0", alpha=0.15, linewidth=0)
            axes.set_xticks(steps, [f"{level:g}" for level in way["levels"]], fontsize=7)
            axes.tick_params(labelsize=7, length=2, color="#888888")
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(name, fontsize=9, loc="left")
            if column == 0:
                axes.set_ylabel(label, fontsize=8)
    save_picture(drawing, path)
