"""The pages of a run: one HTML file each that works without a network."""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rrpo.codec_identity import shown
from rrpo.errors import UserError
from rrpo.files import read_json, write_text
from rrpo.interval import Interval, read_interval
from rrpo.measures import (
    BY_KEY,
    MEASURES,
    Entry,
    Measure,
    figure_of,
    measures_in,
    plain_name,
    section,
    system_label,
)
from rrpo.report import recognition, tables
from rrpo.report.curves import by_system, points, value_of
from rrpo.report.differences import LESS
from rrpo.report.files import read_lines, readable
from rrpo.report.hacked import hacked
from rrpo.report.heatmap import heatmap_svg
from rrpo.report.listening import listening
from rrpo.report.looks import looks_section
from rrpo.report.numbers import number, with_ends
from rrpo.report.plots import Chart, Line, Point, chart_svg, legend_mark
from rrpo.report.scatter import panels
from rrpo.report.stages import read_stages, times
from rrpo.report.summary import summarize
from rrpo.report.templates import TEMPLATES, templates


def write_page(folder: Path) -> Path:
    """Write `report.html` of a demo folder, finished or running, and return its path.

    Reads `results.json`, `samples.jsonl`, `curves.jsonl`, `stages.json` and `hacked.json`, each
    where it exists; what is absent is left out. `stages.json` is a list of stages with `name`,
    `title`, `state` ("waiting", "running" or "done"), `seconds` so far and seconds `left`.

    Raises:
        UserError: none of them exists, or one is not what it should be.
    """
    names = ("results.json", "samples.jsonl", "curves.jsonl", "stages.json")
    if not any((folder / name).is_file() for name in names):
        raise UserError(f"{folder} is not a demo: expected one of {', '.join(names)} there")
    with readable(folder):
        return _write_page(folder)


def _write_page(folder: Path) -> Path:
    results = _results(folder) if (folder / "results.json").is_file() else {}
    samples = read_lines(folder / "samples.jsonl")
    curves = read_lines(folder / "curves.jsonl")
    stages = read_stages(folder / "stages.json")
    summary = summarize(results, samples)
    reference = section(results, "reference")
    entries = ({"reference": reference} if reference else {}) | tables.ordered_systems(results)
    return write_html(
        folder / "report.html",
        "demo.html",
        title="Hear what post-training for emotion changes",
        results=results,
        stages=stages,
        heard=listening(folder, samples),
        hacked=hacked(folder),
        verdict=summary.verdict,
        alarms=[caution for caution in summary.cautions if caution.significant],
        remarks=[caution for caution in summary.cautions if not caution.significant],
        panels=[(name, Markup(svg)) for name, svg in panels(entries)],
        main=tables.main_table(results),
        emotions=tables.emotion_table(results),
        reward_models=tables.reward_model_table(results),
        tests=_tests(results),
        cross=tables.cross_table(results),
        charts=_curve_charts(results, curves),
        legend=_legend(curves),
        times=times(results),
        facts=_facts(results),
        notes=_notes(results),
        judge_commands=_judge_commands(folder) if samples else [],
        glossary=_glossary(results, curves),
    )


def write_run_page(folder: Path) -> Path:
    """Write `report.html` of one training run: curves, results, configuration, and its speech.

    Reads `config.yaml`, `metrics.jsonl` and `results.json`, and what `rrpo evaluate` left there,
    each where it exists.

    Raises:
        UserError: none of the three exists, or one is not what it should be.
    """
    names = ("config.yaml", "metrics.jsonl", "results.json")
    if not any((folder / name).is_file() for name in names):
        raise UserError(f"{folder} is not a run: expected one of {', '.join(names)} there")
    with readable(folder):
        return _write_run_page(folder)


def _write_run_page(folder: Path) -> Path:
    metrics = read_lines(folder / "metrics.jsonl")
    results = _results(folder) if (folder / "results.json").is_file() else {}
    config = folder / "config.yaml"
    evaluation = section(results, "evaluation")
    reports = section(evaluation, "reports")
    if reports:
        # The reports have a section of their own.
        results = results | {"evaluation": None, "robustness": evaluation.get("robustness")}
    return write_html(
        folder / "report.html",
        "run.html",
        title=f"Run {folder.resolve().name}",
        codec=_codec(folder),
        sound=results.get("sound"),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        charts=_metric_charts(metrics),
        validations=_metric_charts(_validations(results)),
        steps=len(metrics),
        monitor=looks_section(read_lines(folder / "monitor.jsonl")),
        recognition=_recognition(reports) if reports else None,
        judged=_judged(folder),
        heard=listening(folder, _said(folder)),
        figures=tables.plain_table(tables.flat(results | _validation(results)), "Results"),
    )


def _codec(folder: Path) -> str:
    """Return which codec the tokens of a run's model are of, as its weights record it."""
    path = folder / "checkpoint" / "model.json"
    model = read_json(path) if path.is_file() else {}
    line = section(model, "config").get("codec")
    return shown(line) if isinstance(line, str) else ""


def _judged(folder: Path) -> tables.Table | None:
    """Return the figures of the policy's speech, where it was evaluated."""
    path = folder / "evaluation.json"
    found = read_json(path) if path.is_file() else {}
    system = section(found, "system")
    own = {name: value for name, value in system.items() if not name.startswith(LESS)}
    return tables.plain_table(tables.flat(own), "Speech, as judged")


def _said(folder: Path) -> list[dict[str, Any]]:
    """Return the policy's utterances, where it was evaluated."""
    return [{**row, "system": "speech"} for row in read_lines(folder / "samples" / "samples.jsonl")]


def _results(folder: Path) -> dict[str, Any]:
    results = read_json(folder / "results.json")
    if not isinstance(results, dict):
        raise UserError(f"{folder / 'results.json'} is not a JSON object: make it again")
    return results


def write_html(path: Path, template: str, **context: Any) -> Path:
    """Render a template with the style and the script inside, and write it atomically.

    The page forbids itself every request, and every script but the one named by its hash.
    """
    script = (TEMPLATES / "player.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    html = (
        templates()
        .get_template(template)
        .render(
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=digest,
            **context,
        )
    )
    write_text(path, html)
    return path


def _curve_charts(results: Mapping[str, Any], curves: Sequence[Entry]) -> list[dict[str, Any]]:
    """Draw a chart over KL for each measure that the curves hold."""
    groups = by_system(curves)
    rows = [row for found in groups.values() for row in found]
    rewards = [{"reward": row.get("own_reward")} for row in rows]
    reference = section(results, "reference")
    charts = []
    wanted = [measure for measure in measures_in([*rows, *rewards]) if measure.key != "kl"]
    wanted.sort(key=lambda measure: measure.key != "reward")
    for measure in wanted:
        lines = [
            Line(name, system_label(name), _points(name, found, measure))
            for name, found in groups.items()
            if points(found, "kl", measure.key)
        ]
        level = None if measure.key == "reward" else figure_of(reference, measure.key)
        title = plain_name(measure.phrase.removeprefix("the "))
        note = {"reward": "each under its own reward model"}.get(measure.key, "")
        height = level.mean if level is not None else None
        charts.append(_drawn(Chart(title, "KL, nats per token", lines, height, note)))
    return [chart for chart in charts if chart["svg"]]


def _points(system: str, rows: Sequence[Entry], measure: Measure) -> list[Point]:
    found = []
    for kl, value, row in points(rows, "kl", measure.key):
        step = value_of(row, "step")
        where = f", step {step.mean:.0f}" if step is not None else ""
        note = (
            f"{system_label(system)}{where}: {measure.label} {with_ends(value, measure.digits)} "
            f"at KL {number(kl, 3)}"
        )
        found.append(Point(kl, value, note))
    return found


def _recognition(reports: recognition.Reports) -> dict[str, Any]:
    """Draw what a reward model makes of its test sets."""
    cautions = recognition.find_collapses(reports)
    return {
        "alarms": [caution for caution in cautions if caution.significant],
        "remarks": [caution for caution in cautions if not caution.significant],
        "notes": recognition.notes(reports),
        "sets": recognition.set_table(reports),
        "emotions": recognition.emotion_table(reports),
        "languages": recognition.group_table(reports, "languages"),
        "speakers": recognition.group_table(reports, "speakers"),
        "maps": [
            {
                "title": name,
                "note": "",
                "svg": Markup(heatmap_svg(name, report["classes"], report["confusion"])),
            }
            for name, report in reports.items()
        ],
    }


def _drawn(chart: Chart) -> dict[str, Any]:
    return {"title": chart.title, "note": chart.note, "svg": Markup(chart_svg(chart))}


def _legend(curves: Sequence[Entry]) -> list[tuple[Markup, str, str]]:
    return [(Markup(legend_mark(name)), name, system_label(name)) for name in by_system(curves)]


def _metric_charts(metrics: Sequence[Entry]) -> list[dict[str, Any]]:
    """Draw a chart over the steps for each number that the metrics hold."""
    names = dict.fromkeys(name for row in metrics for name in row if name != "step")
    charts = []
    for name in names:
        found: list[tuple[float, Interval]] = []
        for count, row in enumerate(metrics):
            step, value = read_interval(row.get("step")), read_interval(row.get(name))
            if value is not None:
                found.append((step.mean if step is not None else float(count), value))
        line = Line("metric", "", [Point(x, y, f"step {x:.0f}: {y.mean:.4g}") for x, y in found])
        charts.append(_drawn(Chart(plain_name(name), "step", [line])))
    return [chart for chart in charts if chart["svg"]]


def _validations(results: Mapping[str, Any]) -> list[Entry]:
    found = results.get("validations")
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _validation(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the weights that were kept, as they were validated."""
    rows = _validations(results)
    kept = [row for row in rows if row.get("step") == results.get("best_step")]
    row = (kept or rows or [{}])[-1]
    found = {name: value for name, value in row.items() if name != "step"}
    return {"validation": found} if found else {}


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = (("command", "Command"), ("seed", "Seed"), ("machine", "Machine"))
    return [(label, str(results[key])) for key, label in names if results.get(key) is not None]


def _notes(results: Mapping[str, Any]) -> list[str]:
    """What the reader has to know under the main table."""
    notes = []
    stop = section(section(results, "training"), "sft")
    if stop:
        best = stop.get("best_step")
        kept = "" if best is None else f" and kept the weights of step {best}"
        rule = f", by this rule: {stop['rule']}" if stop.get("rule") else ""
        notes.append(f"SFT stopped at step {stop.get('stopped_at')}{kept}{rule}")
    reasons = {_missing(name): why for name, why in section(results, "missing_judges").items()}
    for entry in tables.ordered_systems(results).values():
        if entry.get("content_error") is None and entry.get("content_error_reason"):
            reasons.setdefault("Word error", entry["content_error_reason"])
    notes += [f"{name} was not measured: {reason}" for name, reason in reasons.items()]
    return [f"{note.rstrip('.')}." for note in notes]


def _missing(judge: str) -> str:
    """Name what a judge that is not installed would have measured."""
    key = "content_error" if judge == "content" else f"quality.{judge}"
    return BY_KEY[key].label if key in BY_KEY else plain_name(judge)


def _judge_commands(folder: Path) -> list[str]:
    """Return the commands of a listening test of a demo; a whole path would tell of the machine."""
    name = shlex.quote(folder.name if folder.is_absolute() else str(folder))
    test = shlex.quote(f"{folder.name}-heard")
    return [f"rrpo listen build {name} --out {test}", f"rrpo listen serve {test}"]


def _tests(results: Mapping[str, Any]) -> list[str]:
    """What the test sets are, of those that a reward model was tested on."""
    meanings = {
        "same": "“same” is the fine-tuning voice speaking unseen text",
        "altered": "“altered” is altered voices, noise and any intensity of emotion",
        "mandarin": "“mandarin” is another voice speaking another language",
    }
    models = section(results, "reward_models")
    names = {test for name in models for test in section(models[name], "accuracy")}
    return [meaning for name, meaning in meanings.items() if name in names]


def _glossary(results: Mapping[str, Any], curves: Sequence[Entry]) -> list[tuple[str, str]]:
    entries: list[Entry] = [section(results, "reference"), *section(results, "systems").values()]
    measures = measures_in([*entries, *curves]) or MEASURES
    terms = [(measure.label, measure.meaning) for measure in measures]
    return [
        *terms,
        ("Small figures", "The 95 % bootstrap interval over sentences, of reward models over "
         "speakers where a test set names several: low–high."),
        ("Base", "The pre-trained policy before any post-training."),
        ("SFT", "The base fine-tuned on labelled speech; stopped on held-out loss."),
        ("DiffRO", "The base optimized by gradient through a plain reward model."),
        ("RRPO", "The same optimization against a reward model hardened by label smoothing (LS), "
         "energy-adaptive mixup (EAM) and adversarial training (Adv)."),
        ("Best of 8", "Of eight utterances of a prompt the one of the highest reward."),
        ("Reference", "Real tokens of the test sentences, resynthesised by the same codec: the "
         "yardstick of a policy's speech, which may pass it."),
    ]  # fmt: skip
