"""How well a reward model recognises emotion, for its page: where it fails, notes and tables.

Everything is read from the reports that `rrpo.evaluate.ser.report` makes, by test set.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from rich.console import Console

from rrpo.interval import MISSING, Interval
from rrpo.interval import cell as in_text
from rrpo.measures import RECOGNITION, figure_of, section
from rrpo.report.cautions import Caution
from rrpo.report.numbers import number, with_ends
from rrpo.report.tables import Cell, Row, Table, cell

Reports = Mapping[str, Mapping[str, Any]]
"""Test set → report."""

LITTLE_RECALL = 0.5
"""A class collapses where its recall is under this share of chance …"""
CLAIMED, TRUE = 0.6, 0.4
"""… or where over 60 % of the utterances are taken for it, while under 40 % are of it."""
NEAR_CHANCE = 0.1
"""A language collapses where less than this of the way from chance to perfect is reached …"""
BEHIND = 0.2
"""… or where it is further than this behind the best language, on the same scale."""
POOR_CALIBRATION = 0.15
UAR = "unweighted_average_recall"
COLUMNS = [("Utterances", "")] + [
    (title, f"{better} is better") for title, better in RECOGNITION.values()
]


def find_collapses(reports: Reports) -> list[Caution]:
    """Find where a reward model is no fair recogniser: classes, languages, calibration.

    - A class: its recall is under half of chance (1 / K), or over 60 % of the utterances are taken
      for it while it is under 40 % of them.
    - A language: its unweighted average recall, put on a scale from 0 at chance to 1, is under
      0.10, or more than 0.20 behind that of the best language. The scale makes test sets with
      different numbers of classes comparable. This is the failure to look for first: a reward
      model that is fine in the language it was fine-tuned on and poor in others.
    - Calibration: the expected calibration error is over 0.15.

    A caution is significant where the whole interval, or both of them, lie beyond the bound;
    otherwise it may be chance.
    """
    found = []
    for name, report in reports.items():
        found += [*_lost(name, report), *_swollen(name, report)]
    found += _languages(reports)
    for name, report in reports.items():
        error = figure_of(report, "calibration_error")
        if error is not None and error.mean > POOR_CALIBRATION:
            text = (
                f"Confidence and accuracy differ by {with_ends(error)} on average: do not read the "
                "posteriors as probabilities."
            )
            significant = error.low > POOR_CALIBRATION
            found.append(Caution(f"Calibration on {name}", text, significant))
    return found


def _lost(name: str, report: Mapping[str, Any]) -> list[Caution]:
    """Classes whose recall is far under chance."""
    bound = LITTLE_RECALL * float(report["chance"])
    lost = {
        emotion: value
        for emotion, entry in section(report, "emotions").items()
        if (value := figure_of(entry, "recall")) is not None and value.mean < bound
    }
    if not lost:
        return []
    figures = ", ".join(f"{emotion} {with_ends(value)}" for emotion, value in lost.items())
    text = f"Recall is under half of chance ({number(report['chance'])}): {figures}."
    significant = any(value.high < bound for value in lost.values())
    return [Caution(f"Emotions lost on {name}", text, significant)]


def _swollen(name: str, report: Mapping[str, Any]) -> list[Caution]:
    """Classes that most utterances are taken for."""
    found = []
    for emotion, entry in section(report, "emotions").items():
        claimed, true = figure_of(entry, "predicted"), entry["count"] / report["count"]
        if claimed is not None and claimed.mean > CLAIMED and true < TRUE:
            text = (
                f"Of the utterances {with_ends(claimed)} are taken for {emotion}, while "
                f"{number(true)} are."
            )
            significant = claimed.low > CLAIMED
            found.append(Caution(f"Everything is {emotion} on {name}", text, significant))
    return found


def _languages(reports: Reports) -> list[Caution]:
    """Languages near chance or far behind the best, each test set by itself."""
    values = {
        (name, language): (value, float(report["chance"]))
        for name, report in reports.items()
        for language, entry in (section(report, "languages") or {"": report}).items()
        if (value := figure_of(entry, UAR)) is not None
    }
    scaled = {key: _above_chance(*pair) for key, pair in values.items()}
    best = max(scaled, key=lambda key: scaled[key].mean, default=("", ""))
    found = []
    for (name, language), own in scaled.items():
        value, chance = values[name, language]
        lead = f"Mean recall is {with_ends(value)}"
        if own.mean < NEAR_CHANCE:
            text = f"{lead}, hardly above chance ({number(chance)})."
            significant = own.high < NEAR_CHANCE
        elif language != best[1] and language and own.mean < scaled[best].mean - BEHIND:
            other, level = values[best]
            text = (
                f"{lead} (chance {number(chance)}), against {with_ends(other)} (chance "
                f"{number(level)}) in {best[1]} ({best[0]})."
            )
            significant = bool(own.apart(scaled[best]))
        else:
            continue
        found.append(
            Caution(f"Language {language} on {name}" if language else name, text, significant)
        )
    return found


def _above_chance(value: Interval, chance: float) -> Interval:
    """Put a recall on the scale from 0 at chance to 1, as scikit-learn's adjusted accuracy does."""
    return Interval(*((end - chance) / (1 - chance) for end in (value.mean, value.low, value.high)))


def notes(reports: Reports) -> list[str]:
    """Say what was scored, what was left out and what the intervals are over."""
    found = []
    for name, report in reports.items():
        over, count = report["interval_over"], report["clusters"]
        languages = " and ".join(section(report, "languages"))
        text = f"{name}: {report['count']} utterances of {len(report['classes'])} emotions"
        text += f" in {languages}; " if languages else "; "
        text += f"intervals over {f'its {count} speakers' if over == 'speakers' else over}"
        if report["left_out"]:
            others = ", ".join(f"{key} ({rows})" for key, rows in report["left_out"].items())
            text += f"; left out, unknown to the reward model: {others}"
        if report["untested"]:
            text += f"; not in the test set and never chosen: {', '.join(report['untested'])}"
        found.append(f"{text}.")
    return found


def print_reports(label: str, reports: Reports, console: Console, details: bool) -> None:
    """Print a reward model's notes and warnings, with details also its table by test set.

    Without details only the notes on what could not be scored are printed.
    """
    lead = "" if details else f"{label}: "
    if details:
        table = rich.table.Table(title=f"{label}: emotion recognition, with 95 % intervals")
        table.add_column("Measure", max_width=16)
        for name in reports:
            table.add_column(name, justify="right", min_width=17)
        table.add_row("Utterances", *(str(report["count"]) for report in reports.values()))
        for key, (title, _) in RECOGNITION.items():
            table.add_row(title, *(in_text(report[key]) for report in reports.values()))
        console.print(table)
    partly = {
        name: report
        for name, report in reports.items()
        if details or report["left_out"] or report["untested"]
    }
    lines = [f"{lead}{note}" for note in notes(partly)]
    for caution in find_collapses(reports):
        ending = "" if caution.significant else " (may be chance)"
        lines.append(f"warning: {lead}{caution.subject}: {caution.text}{ending}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def set_table(reports: Reports) -> Table:
    """Build test sets by figures."""
    rows = [Row(name, _figures(report)) for name, report in reports.items()]
    return Table("Emotion recognition by test set", "Test set", COLUMNS, rows)


def emotion_table(reports: Reports) -> Table:
    """Build the recall of emotions by test set."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report["emotions"]))
    rows = []
    for name in names:
        entries = [section(report["emotions"], name) for report in reports.values()]
        rows.append(Row(name, [_recall(entry) for entry in entries]))
    return Table("Recall by emotion", "Emotion", [(name, "") for name in reports], rows)


def _recall(entry: Mapping[str, Any]) -> Cell:
    found = cell(figure_of(entry, "recall"))
    return Cell(found.text, f"{found.interval}, n {entry['count']}") if entry else Cell(MISSING)


def group_table(reports: Reports, kind: str) -> Table | None:
    """Build figures by "languages" or "speakers" of the test sets that have several, if any has."""
    groups = {name: section(report, kind) for name, report in reports.items()}
    groups = {name: found for name, found in groups.items() if len(found) > 1}
    if not groups:
        return None
    rows = []
    for name, found in groups.items():
        rows.append(Row(name, [], heading=True))
        rows += [Row(group, _figures(entry)) for group, entry in found.items()]
    singular = kind.removesuffix("s")
    return Table(f"Emotion recognition by {singular}", singular.capitalize(), COLUMNS, rows)


def _figures(entry: Mapping[str, Any]) -> Sequence[Cell]:
    return [Cell(str(entry["count"])), *(cell(figure_of(entry, key)) for key in RECOGNITION)]
