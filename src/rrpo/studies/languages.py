"""How far a reward model carries: from each language to each, and with less and more data.

The plain and the hardened reward model are trained on single languages, and on all but one with a
quarter, half and all of the labelled utterances.
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
from rrpo.evaluate.crossed import stratified_interval
from rrpo.report import markdown
from rrpo.report.terminal import shown, signed
from rrpo.studies.ablation import counts, label, recalls
from rrpo.studies.conclusions import notes, power, setting, sorted_by_verdict, verdict
from rrpo.studies.real_speech import FULL, Fold, Job, Laboratory, Size
from rrpo.studies.trials import held_out, strata, trials, unheard

MODELS = ("plain", "ls_eam_adv")
SHARES = (0.25, 0.5, 1.0)
SETS = {"seen": True, "unseen": False}


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
        "core_minutes": round(lab.seconds(jobs) / 60, 1),
        "trainings": len(jobs),
        "preparation_minutes": round(lab.preparation_seconds(folds) / 60, 1),
        "pairs": {start: _pairs(lab, fold) for start, fold in single.items()},
        "curve": {
            f"{share:g}": {
                "utterances": round(float(np.mean([len(lab.finetuning(one)) for one in group]))),
                **_point(lab, group),
            }
            for share, group in several.items()
        },
        "recall": {
            model: {
                language: recalls(
                    lab.emotions, strata(lab, model, several[1.0], [language], seen=False)
                )
                for language in lab.languages
            }
            for model in MODELS
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
        }
    return point


def _speakers(lab: Laboratory, fold: Fold, language: str) -> dict[str, dict[str, float]]:
    """Return the mean recall of every speaker of an unseen language, by model."""
    table: dict[str, dict[str, float]] = {}
    for model in MODELS:
        jobs = [Job(fold, model, seed) for seed in range(lab.size.seeds)]
        found = trials(lab, jobs, unheard(lab, language, fold))
        right = found.predictions == found.labels
        for name in np.unique(found.names).tolist():
            own = found.names == name
            of_class = [
                right[:, own & (found.labels == number)].mean()
                for number in np.unique(found.labels[own])
            ]
            table.setdefault(name, {})[model] = float(np.mean(of_class))
    return table


def conclusion(study: Mapping[str, Any]) -> list[str]:
    """Return what the figures say, in plain words."""
    own = {name: found[name] for name, found in study["pairs"].items()}
    pairs = {
        f"{start} to {name}": found[name]
        for start, found in study["pairs"].items()
        for name in found
        if name != start
    }
    plain = {name: one["plain"]["mean"] for name, one in (own | pairs).items()}
    easiest, hardest = (pick(pairs, key=lambda one: plain[one]) for pick in (max, min))
    differences = {name: one["difference"] for name, one in pairs.items()}
    all_but_one = study["curve"]["1"]["unseen"]
    lines = [
        f"**From one language to another**: a plain reward model has a mean recall of "
        f"{np.mean([plain[one] for one in own]):.2f} on speakers held out in its own language and "
        f"of {np.mean([plain[one] for one in pairs]):.2f} in another; chance is "
        f"{1 / len(study['emotions']):.2f}. Best carried: {easiest} ({plain[easiest]:.2f}); worst: "
        f"{hardest} ({plain[hardest]:.2f}). Trained on all languages but one it has "
        f"{all_but_one['plain']['mean']:.2f} on that one.",
        f"**The hardened against the plain model**, {len(pairs)} pairs of languages, not corrected "
        "for their number: " + f"{'; '.join(sorted_by_verdict(differences))}.",
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
    return lines


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
        "- With less data there are fewer mixes of each utterance, too: both parents of a mix have "
        "to be among it.",
        "",
        "## Figures",
        "",
        "Trained on one language (rows), tested on each (columns). In its own language on speakers "
        "held out, in another on all of them:",
        "",
    ]
    names = list(study["pairs"])
    for key in (*MODELS, "difference"):
        title = "hardened less plain, paired" if key == "difference" else label(key)
        show = signed if key == "difference" else shown
        rows = [
            (start, [show(found[name][key]) for name in names])
            for start, found in study["pairs"].items()
        ]
        lines += [*markdown.table(title, names, rows), ""]
    points = [
        (
            str(point["utterances"]),
            [
                name,
                *(shown(point[name][model]) for model in MODELS),
                signed(point[name]["difference"]),
            ],
        )
        for point in study["curve"].values()
        for name in SETS
    ]
    columns = ["set", "plain", "hardened", "hardened less plain"]
    lines += ["Trained on all languages but one, with less data:", ""]
    lines += markdown.table("utterances", columns, points)
    lines += ["", "Recall of each emotion in the language left out (plain → hardened):", ""]
    recalled = [
        (
            emotion,
            [
                " → ".join(f"{study['recall'][model][name][emotion]:.2f}" for model in MODELS)
                for name in names
            ],
        )
        for emotion in study["emotions"]
    ]
    lines += markdown.table("", names, recalled)
    columns = ["speakers", "plain", "hardened", "better hardened"]
    lines += ["", "Speakers of the language left out:", ""]
    lines += markdown.table("language", columns, map(_by_speaker, study["speakers"].items()))
    return "\n".join(lines) + "\n"


def _by_speaker(
    found: tuple[str, Mapping[str, Mapping[str, float]]],
) -> tuple[str, list[str]]:
    """Return a language with the range of its speakers and how many gain by hardening."""
    language, speakers = found
    plain, hardened = (np.array([one[model] for one in speakers.values()]) for model in MODELS)
    return language, [
        f"{len(speakers)}",
        f"{plain.min():.2f} to {plain.max():.2f}",
        f"{hardened.min():.2f} to {hardened.max():.2f}",
        f"{int((hardened > plain).sum())} of {len(speakers)}",
    ]


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
