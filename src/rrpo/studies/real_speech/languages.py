"""How far a reward model carries: from each language to each, and with less and more data.

The plain and the hardened reward model are trained on single languages, and on all but one with a
quarter, half and all of the labelled utterances.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rrpo.checkpoint import atomic_path, write_json, write_text
from rrpo.evaluate.crossed import Trials, stratified_interval
from rrpo.report import markdown
from rrpo.report.terminal import shown, signed
from rrpo.studies.real_speech.ablation import compared, counts, label, preferring, recalls
from rrpo.studies.real_speech.conclusions import (
    aim,
    notes,
    power,
    setting,
    sorted_by_verdict,
    under_chance,
    verdict,
)
from rrpo.studies.real_speech.costs import costs
from rrpo.studies.real_speech.folds import FULL, HARDENED, Fold, Job, Size
from rrpo.studies.real_speech.laboratory import Laboratory
from rrpo.studies.real_speech.trials import MEASURES, WHY, beside, held_out, strata, trials, unheard

MODELS = ("plain", HARDENED)
SHARES = (0.25, 0.5, 1.0)
SETS = {"seen": True, "unseen": False}
COLUMNS = ("plain", "hardened", "hardened less plain")


def run(
    manifests: Sequence[Path], out: Path, size: Size = FULL, command: str = "rrpo study languages"
) -> Path:
    """Train and test; write `languages.json`, `languages.md` and `languages.svg`.

    Raises:
        UserError: see `Laboratory`.
    """
    lab = Laboratory(out, manifests, size)
    single = {language: Fold((language,)) for language in lab.languages}
    several = {
        share: [Fold(fold.languages, share) for fold in held_out(lab).values()] for share in SHARES
    }
    folds = [*single.values(), *(fold for group in several.values() for fold in group)]
    every = [
        Job(fold, model, seed) for fold in folds for model in MODELS for seed in range(size.seeds)
    ]
    # Of two languages, all but one is one.
    jobs = list(dict.fromkeys(every))
    lab.run(jobs)
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "seeds": size.seeds,
        "languages": counts(lab),
        "emotions": lab.emotions,
        "left_out": lab.left_out,
        "corpora": lab.corpora,
        "trainings": len(jobs),
        **costs(out, folds, jobs),
        "carried": _point(lab, list(single.values())),
        "pairs": {start: _pairs(lab, fold) for start, fold in single.items()},
        "curve": {
            f"{share:g}": {
                "utterances": round(float(np.mean([len(lab.finetuning(one)) for one in group]))),
                **_point(lab, group),
            }
            for share, group in several.items()
        },
        "recall": {
            language: _by_emotion(lab, several[1.0], language) for language in lab.languages
        },
        "speakers": {
            language: _speakers(lab, held_out(lab)[language], language)
            for language in lab.languages
        },
    }
    write_json(out / "languages.json", study)
    write_text(out / "languages.md", page(study))
    draw(study["curve"], out / "languages.svg")
    return out / "languages.md"


def _pairs(lab: Laboratory, fold: Fold) -> dict[str, Any]:
    """Return what a fold makes of each language: mean recall of both models, and the difference."""
    found = {}
    for language in lab.languages:
        rows = unheard(lab, language, fold)
        plain, hardened = (
            [trials(lab, [Job(fold, model, seed) for seed in range(lab.size.seeds)], rows)]
            for model in MODELS
        )
        found[language] = {
            "plain": stratified_interval(plain),
            "ls_eam_adv": stratified_interval(hardened),
            "difference": stratified_interval(hardened, plain),
        }
    return found


def _point(lab: Laboratory, folds: Sequence[Fold]) -> dict[str, Any]:
    """Return the mean recall on seen and unseen languages at one amount of data."""
    point = {}
    for name, seen in SETS.items():
        plain, hardened = (strata(lab, model, folds, lab.languages, seen) for model in MODELS)
        point[name] = {
            "plain": stratified_interval(plain),
            "ls_eam_adv": stratified_interval(hardened),
            "difference": stratified_interval(hardened, plain),
            "beside": {
                model: beside(found, plain)
                for model, found in zip(MODELS, (plain, hardened), strict=True)
            },
        }
    return point


def _by_emotion(lab: Laboratory, folds: Sequence[Fold], language: str) -> dict[str, Any]:
    """Return the recall of each emotion of an unseen language, both models and the difference."""
    plain, hardened = (strata(lab, model, folds, [language], seen=False) for model in MODELS)
    found = {
        "plain": recalls(lab.emotions, plain),
        "ls_eam_adv": recalls(lab.emotions, hardened),
        "difference": recalls(lab.emotions, hardened, plain),
    }
    return {emotion: {key: of[emotion] for key, of in found.items()} for emotion in lab.emotions}


def _speakers(lab: Laboratory, fold: Fold, language: str) -> dict[str, dict[str, Any]]:
    """Return the mean recall of every speaker of an unseen language, and the difference.

    Intervals are over trainings and the speaker's utterances.
    """
    rows = unheard(lab, language, fold)
    plain, hardened = (
        trials(lab, [Job(fold, model, seed) for seed in range(lab.size.seeds)], rows)
        for model in MODELS
    )
    table = {}
    for name in np.unique(plain.names).tolist():
        one, other = (_of_speaker(found, name) for found in (plain, hardened))
        table[name] = {
            "plain": stratified_interval([one]),
            "ls_eam_adv": stratified_interval([other]),
            "difference": stratified_interval([other], [one]),
        }
    return table


def _of_speaker(found: Trials, name: str) -> Trials:
    own = found.names == name
    return replace(
        found,
        predictions=found.predictions[:, own],
        scores=None,
        labels=found.labels[own],
        names=found.names[own],
    )


def conclusion(study: Mapping[str, Any]) -> list[str]:
    """Return what the figures say, in plain words."""
    pairs = {
        f"{start} to {name}": found[name]
        for start, found in study["pairs"].items()
        for name in found
        if name != start
    }
    plain = {name: one["plain"] for name, one in pairs.items()}
    easiest, hardest = (pick(plain, key=lambda one: plain[one]["mean"]) for pick in (max, min))
    differences = {name: one["difference"] for name, one in pairs.items()}
    own, other = (study["carried"][name] for name in SETS)
    all_but_one = study["curve"]["1"]["unseen"]
    lines = [
        f"**From one language to another**: a plain reward model has a mean recall of "
        f"{shown(own['plain'])} on speakers held out in its own language and of "
        f"{shown(other['plain'])} in another; chance is {1 / len(study['emotions']):.2f}. Best "
        f"carried: {easiest} ({shown(plain[easiest])}); worst: {hardest} "
        f"({shown(plain[hardest])}). Trained on all languages but one it has "
        f"{shown(all_but_one['plain'])} on that one.",
        f"**The hardened against the plain model**, trained on one language, on the others: "
        f"{signed(other['difference'])} ({verdict(other['difference'])}); on new speakers of its "
        f"own: {signed(own['difference'])} ({verdict(own['difference'])}). By pair, not corrected "
        f"for their number: {'; '.join(sorted_by_verdict(differences))}.",
        aim(other["difference"], own["difference"]),
        *preferring(_beside(study["carried"], "ls_eam_adv")),
    ]
    for name in SETS:
        gains = [
            f"{point['utterances']} utterances {signed(point[name]['difference'])} "
            f"({verdict(point[name]['difference'])})"
            for point in study["curve"].values()
        ]
        lines.append(
            f"**With less data**, {name} languages, hardened less plain: {'; '.join(gains)}. "
            f"Power: {power({'all of it': study['curve']['1'][name]['difference']})}"
        )
    emotions = {
        f"{emotion} ({language})": one["difference"]
        for language, found in study["recall"].items()
        for emotion, one in found.items()
    }
    lines.append(
        "**By emotion** of the language left out, not corrected for their number: "
        f"{'; '.join(sorted_by_verdict(emotions))}."
    )
    speakers = [
        verdict(one["difference"]) for found in study["speakers"].values() for one in found.values()
    ]
    lines.append(
        f"**By speaker** of the language left out, {len(speakers)} of them, likewise: hardened "
        f"better {speakers.count('better')}, worse {speakers.count('worse')}, within noise "
        f"{speakers.count('within noise')}."
    )
    return [*lines, *under_chance(plain, len(study["emotions"]))]


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown."""
    lines = [
        "# From one language to another, and with less data",
        "",
        "How far does a reward model for emotion carry, and what does hardening change about it?",
        "",
        "![Mean recall over the number of labelled utterances](languages.svg)",
        "",
        *setting(study),
        "",
        "Figures are mean recall, intervals over speakers and trainings (95 %). Tokenizers, "
        "pre-training and some fine-tunings are those of `rrpo study ablation`, where both have "
        "the same folder.",
        "",
        "## In plain words",
        "",
        *(f"- {line}" for line in conclusion(study)),
        "",
        "What the figures do not say:",
        "",
        *(f"- {line}" for line in notes(study)),
        "- With less data the tokenizer and the pre-training still hear all of it, without labels.",
        "",
        "## Figures",
        "",
        "Trained on one language (rows), tested on each (columns). In its own language on speakers "
        "held out, in another on all of them:",
        "",
    ]
    lines += [*_pair_tables(study["pairs"]), *_curve_table(study["curve"])]
    points = {"one language": study["carried"]} | {
        f"all but one, {point['utterances']} utterances": point for point in study["curve"].values()
    }
    for measure in MEASURES:
        lines += ["", f"{measure}, and hardened less plain, paired:", ""]
        rows = [
            (f"{trained}, {label(model)}", compared(_beside(point, model), measure))
            for trained, point in points.items()
            for model in MODELS
        ]
        lines += markdown.table(
            "trained on", [column for name in SETS for column in (name, "less plain")], rows
        )
    lines += ["", WHY]
    for key, title in (("recall", "Recall of each emotion"), ("speakers", "Each speaker")):
        rows = [
            (f"{language}, {name}", _compared(one))
            for language, found in study[key].items()
            for name, one in found.items()
        ]
        lines += ["", f"{title} in the language left out:", ""]
        lines += markdown.table("", COLUMNS, rows)
    return "\n".join(lines) + "\n"


def _beside(point: Mapping[str, Any], model: str) -> dict[str, Any]:
    return {name: point[name]["beside"][model] for name in SETS}


def _pair_tables(pairs: Mapping[str, Any]) -> list[str]:
    """Return a table for each model and of their difference; rows are what was trained on."""
    names, lines = list(pairs), []
    for key in (*MODELS, "difference"):
        title = f"{COLUMNS[-1]}, paired" if key == "difference" else label(key)
        show = signed if key == "difference" else shown
        rows = [
            (start, [show(found[name][key]) for name in names]) for start, found in pairs.items()
        ]
        lines += [*markdown.table(title, names, rows), ""]
    return lines


def _curve_table(curve: Mapping[str, Any]) -> list[str]:
    rows = [
        (str(point["utterances"]), [name, *_compared(point[name])])
        for point in curve.values()
        for name in SETS
    ]
    table = markdown.table("utterances", ["set", *COLUMNS], rows)
    return ["Trained on all languages but one, with less data:", "", *table]


def _compared(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [*(shown(found[model]) for model in MODELS), signed(found["difference"])]


def draw(curve: Mapping[str, Any], path: Path) -> None:
    """Draw mean recall over the amount of labelled data."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SETS), sharey=True)
    amounts = [point["utterances"] for point in curve.values()]
    for axis, name in zip(axes, SETS, strict=True):
        for model, color in zip(MODELS, ("#d62728", "#1f77b4"), strict=True):
            values = [point[name][model] for point in curve.values()]
            axis.plot(
                amounts, [one["mean"] for one in values], "o-", color=color, label=label(model)
            )
            ends = [[one[end] for one in values] for end in ("low", "high")]
            axis.fill_between(amounts, *ends, color=color, alpha=0.15, linewidth=0)
        axis.set_title(f"{name} languages")
        axis.set_xlabel("labelled utterances")
    axes[0].set_ylabel("mean recall")
    axes[0].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
