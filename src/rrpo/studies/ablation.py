"""Each regularizer alone and together, on real speech: which makes a better reward model?

Every language is held out once: reward models are trained on the others, and tested on speakers of
those who were never heard, and on the language that was never heard.
"""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rrpo.checkpoint import atomic_path, write_json, write_text
from rrpo.evaluate.confusion import accuracy, unweighted_average_recall
from rrpo.evaluate.statistics import Trials, stratified_interval
from rrpo.report.measures import reward_model_label
from rrpo.report.table2 import table2
from rrpo.reward.fit import subsets
from rrpo.studies.real_speech import CEILING, FULL, Job, Laboratory, Size
from rrpo.studies.trials import held_out, strata

SETS = {"seen languages": True, "unseen languages": False}
FIGURES = {"unweighted_average_recall": unweighted_average_recall, "accuracy": accuracy}


def run(
    manifests: Sequence[Path], out: Path, size: Size = FULL, command: str = "rrpo study ablation"
) -> Path:
    """Train and test every subset; write `ablation.json`, `ablation.md` and `ablation.svg`.

    Raises:
        UserError: see `Laboratory`.
    """
    lab = Laboratory(out, manifests, size)
    models = [*subsets(), CEILING]
    folds = list(held_out(lab).values())
    jobs = [
        Job(fold, model, seed) for fold in folds for model in models for seed in range(size.seeds)
    ]
    lab.run(jobs)
    asked = {
        model: {name: strata(lab, model, folds, lab.languages, seen) for name, seen in SETS.items()}
        for model in models
    }
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "seeds": size.seeds,
        "languages": counts(lab),
        "emotions": lab.emotions,
        "core_minutes": round(lab.seconds(jobs) / 60, 1),
        "trainings": len(jobs),
        "models": {model: tested(lab.languages, found) for model, found in asked.items()},
        "differences": {
            model: differences(found, asked["plain"])
            for model, found in asked.items()
            if model != "plain"
        },
        "recall": {
            name: {model: recalls(lab.emotions, asked[model][name]) for model in models}
            for name in SETS
        },
    }
    write_json(out / "ablation.json", study)
    write_text(out / "ablation.md", page(study))
    draw(study["differences"], out / "ablation.svg")
    return out / "ablation.md"


def counts(lab: Laboratory) -> dict[str, dict[str, int]]:
    """Return for each language how many labelled utterances and speakers are trained and tested."""
    table = {}
    for language in lab.languages:
        rows = [lab.recordings[index] for index in lab.labelled]
        own = [row for row in rows if row.language == language]
        tested_rows = [row for row in own if row.partition == "test"]
        table[language] = {
            "utterances": len(own),
            "speakers": len({row.speaker for row in own}),
            "test utterances": len(tested_rows),
            "test speakers": len({row.speaker for row in tested_rows}),
        }
    return table


def tested(languages: Sequence[str], found: Mapping[str, Sequence[Trials]]) -> dict[str, Any]:
    """Return a model's figures on seen and unseen languages together, and on each unseen one."""
    sets: dict[str, Sequence[Trials]] = dict(found)
    for language, one in zip(languages, found["unseen languages"], strict=True):
        sets[f"{language}, unseen"] = [one]
    return {
        name: {key: stratified_interval(trials, figure=figure) for key, figure in FIGURES.items()}
        for name, trials in sets.items()
    }


def differences(
    found: Mapping[str, Sequence[Trials]], plain: Mapping[str, Sequence[Trials]]
) -> dict[str, dict[str, float]]:
    """Return the paired differences of mean recall to the plain reward model."""
    return {name: stratified_interval(found[name], plain[name]) for name in SETS}


def recalls(emotions: Sequence[str], found: Sequence[Trials]) -> dict[str, float]:
    """Return the recall of each emotion, averaged over trainings and languages."""
    return {
        emotion: float(
            np.mean([(one.predictions[:, one.labels == number] == number).mean() for one in found])
        )
        for number, emotion in enumerate(emotions)
    }


def label(model: str) -> str:
    """Name a model as a reader does."""
    return "continuous states, plain" if model == CEILING else reward_model_label(model)


def signed(value: Mapping[str, float]) -> str:
    """Return a difference as its mean with its interval.

    Examples:
        >>> signed({"mean": 0.05, "low": -0.01, "high": 0.1})
        '+0.050 [-0.010, +0.100]'
    """
    return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown."""
    held = ", ".join(
        f"{language} ({found['utterances']} utterances of {found['speakers']} speakers, "
        f"{found['test utterances']} of {found['test speakers']} held out)"
        for language, found in study["languages"].items()
    )
    lines = [
        f"`{study['command']}`, {study['seeds']} seeds, {study['machine']}; {study['trainings']} "
        f"fine-tunings, {study['core_minutes']} minutes of one core, without tokenizers and "
        f"pre-training. Classes: {', '.join(study['emotions'])}. Languages: {held}.",
        "",
        "Intervals are over speakers and trainings (95 %). *Seen*: speakers held out of languages "
        "trained on; *unseen*: a language that neither the reward model nor its tokenizer heard.",
        "",
        table2({label(model): found for model, found in study["models"].items()}),
        "",
        "Mean recall less that of the plain reward model, paired:",
        "",
        "| | " + " | ".join(SETS) + " |",
        "|---" * (len(SETS) + 1) + "|",
    ]
    for model, found in study["differences"].items():
        cells = [signed(found[name]) for name in SETS]
        lines.append(f"| {label(model)} | " + " | ".join(cells) + " |")
    for name in SETS:
        lines += ["", f"Recall by emotion, {name}:", ""]
        lines += ["| | " + " | ".join(study["emotions"]) + " |"]
        lines += ["|---" * (len(study["emotions"]) + 1) + "|"]
        for model, found in study["recall"][name].items():
            cells = [f"{found[emotion]:.2f}" for emotion in study["emotions"]]
            lines.append(f"| {label(model)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draw the paired differences with their intervals."""
    models = [model for model in found if model != CEILING]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SETS), sharey=True)
    for axis, name in zip(axes, SETS, strict=True):
        for place, model in enumerate(models):
            value = found[model][name]
            axis.plot([value["low"], value["high"]], [place, place], color="#1f77b4")
            axis.plot([value["mean"]], [place], "o", color="#1f77b4")
        axis.axvline(0.0, color="gray", linewidth=0.8)
        axis.set_title(name)
        axis.set_xlabel("mean recall less plain")
        axis.set_yticks(range(len(models)), [label(model) for model in models])
    axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
