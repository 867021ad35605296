"""How far a reward model carries: from each language to each, and with less and more data.

The plain and the hardened reward model are trained on single languages, and on all but one with a
quarter, half and all of the labelled utterances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.evaluate.crossed import Trials
from rrpo.interval import Interval
from rrpo.report import markdown
from rrpo.studies.study import finish, new_picture, save_picture
from rrpo_studies.real_speech.figures import about, compared, recalls
from rrpo_studies.real_speech.folds import FULL, HARDENED, Fold, Job, Size
from rrpo_studies.real_speech.jobs import run_jobs
from rrpo_studies.real_speech.pages import (
    COMPARED,
    aim_table,
    beside_tables,
    compared_cells,
    label,
    notes,
    pair_table,
    setting,
    under_chance,
)
from rrpo_studies.real_speech.trials import beside, held_out, strata, trials, unseen
from rrpo_studies.real_speech.workspace import Workspace

MODELS = ("plain", HARDENED)
SHARES = (0.25, 0.5, 1.0)
SETS = {"seen": True, "unseen": False}


def run(
    manifests: Sequence[Path], out: Path, size: Size = FULL, command: str = "rrpo study languages"
) -> Path:
    """Train and test; write `languages.json`, `languages.md` and `languages.svg`.

    Raises:
        UserError: see `Workspace`.
    """
    workspace = Workspace(out, manifests, size)
    single = {language: Fold((language,)) for language in workspace.languages}
    several = {
        share: [Fold(fold.languages, share) for fold in held_out(workspace).values()]
        for share in SHARES
    }
    folds = [*single.values(), *(fold for group in several.values() for fold in group)]
    every = [
        Job(fold, model, seed) for fold in folds for model in MODELS for seed in range(size.seeds)
    ]
    # Of two languages, all but one is one.
    jobs = list(dict.fromkeys(every))
    run_jobs(workspace, jobs)
    study: dict[str, Any] = {
        **about(workspace, command, folds, jobs),
        "carried": _point(workspace, list(single.values())),
        "pairs": {start: _pairs(workspace, fold) for start, fold in single.items()},
        "curve": {
            f"{share:g}": {
                "utterances": round(
                    float(np.mean([len(workspace.finetuning(one)) for one in group]))
                ),
                **_point(workspace, group),
            }
            for share, group in several.items()
        },
        "recall": {
            language: _by_emotion(workspace, several[1.0], language)
            for language in workspace.languages
        },
        "speakers": {
            language: _speakers(workspace, held_out(workspace)[language], language)
            for language in workspace.languages
        },
    }
    draw(study["curve"], out / "languages.svg")
    return finish(out, study, page(study), "languages")


def _both(workspace: Workspace, fold: Fold, rows: Sequence[int]) -> tuple[Trials, Trials]:
    """Return what the plain and the hardened reward model of a fold say of some recordings."""
    plain, hardened = (
        trials(workspace, [Job(fold, model, seed) for seed in range(workspace.size.seeds)], rows)
        for model in MODELS
    )
    return plain, hardened


def _pairs(workspace: Workspace, fold: Fold) -> dict[str, dict[str, Interval]]:
    """Return what a fold makes of each language: mean recall of both models, and the difference."""
    found = {}
    for language in workspace.languages:
        plain, hardened = _both(workspace, fold, unseen(workspace, language, fold))
        found[language] = compared([plain], [hardened])
    return found


def _point(workspace: Workspace, folds: Sequence[Fold]) -> dict[str, Any]:
    """Return the mean recall on seen and unseen languages at one amount of data."""
    point = {}
    for name, seen in SETS.items():
        plain, hardened = (
            strata(workspace, model, folds, workspace.languages, seen) for model in MODELS
        )
        point[name] = compared(plain, hardened) | {
            "beside": {
                model: beside(found, plain)
                for model, found in zip(MODELS, (plain, hardened), strict=True)
            }
        }
    return point


def _by_emotion(
    workspace: Workspace, folds: Sequence[Fold], language: str
) -> dict[str, dict[str, Interval]]:
    """Return the recall of each emotion of an unseen language, both models and the difference."""
    plain, hardened = (strata(workspace, model, folds, [language], seen=False) for model in MODELS)
    found = {
        "plain": recalls(workspace.emotions, plain),
        "hardened": recalls(workspace.emotions, hardened),
        "difference": recalls(workspace.emotions, hardened, plain),
    }
    return {
        emotion: {key: of[emotion] for key, of in found.items()} for emotion in workspace.emotions
    }


def _speakers(workspace: Workspace, fold: Fold, language: str) -> dict[str, dict[str, Interval]]:
    """Return the mean recall of every speaker of an unseen language, and the difference.

    Intervals are over trainings and the speaker's utterances.
    """
    both = _both(workspace, fold, unseen(workspace, language, fold))
    return {
        name: compared(*([_of_speaker(found, name)] for found in both))
        for name in np.unique(both[0].names).tolist()
    }


def _of_speaker(found: Trials, name: str) -> Trials:
    own = found.names == name
    return replace(
        found,
        predictions=found.predictions[:, own],
        scores=None,
        labels=found.labels[own],
        names=found.names[own],
        sentences=None,
    )


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown."""
    pairs = {
        f"{start} to {name}": one
        for start, found in study["pairs"].items()
        for name, one in found.items()
    }
    others = {name: one["plain"] for name, one in pairs.items() if len(set(name.split(" to "))) > 1}
    carried = {name: study["carried"][name]["difference"] for name in SETS}
    lines = [
        "# From one language to another, and with less data",
        "",
        "How far does a reward model for emotion carry, and what does hardening change about it?",
        "",
        "![Mean recall over the number of labelled utterances](languages.svg)",
        "",
        *setting(study),
        "",
        "Figures are mean recall, intervals over speakers, sentences and trainings (95 %); chance "
        f"is {1 / len(study['emotions']):.2f}. A difference is significant where its interval does "
        "not hold 0; nothing is corrected for the number of comparisons. *Detectable*: the least "
        "true difference that is significant in four of five such studies. Tokenizers, "
        "pre-training and some fine-tunings are those of `rrpo study ablation`, where both have "
        "the same folder.",
        "",
        "The aim, trained on one language:",
        "",
        *aim_table(carried["unseen"], carried["seen"]),
        *under_chance(others, len(study["emotions"])),
        "",
        "What the figures do not say:",
        "",
        *(f"- {line}" for line in notes(study)),
        "- With less data the tokenizer and the pre-training still hear all of it, without labels.",
        "",
        "## Figures",
        "",
        "Trained on one language, tested on each. In its own language on speakers held out, in "
        "another on all of them:",
        "",
        *pair_table(
            "", {f"{name} (one language)": study["carried"][name] for name in SETS} | pairs
        ),
        "",
        *_curve_tables(study),
    ]
    for key, title in (("recall", "Recall of each emotion"), ("speakers", "Each speaker")):
        rows = {
            f"{language}, {name}": one
            for language, found in study[key].items()
            for name, one in found.items()
        }
        lines += ["", f"{title} in the language left out:", "", *pair_table("", rows)]
    return "\n".join(lines) + "\n"


def _curve_tables(study: Mapping[str, Any]) -> list[str]:
    """Return the tables of mean recall over the amount of data, and of the measures beside it."""
    curve = [
        (str(point["utterances"]), [name, *compared_cells(point[name])])
        for point in study["curve"].values()
        for name in SETS
    ]
    points = {"one language": study["carried"]} | {
        f"all but one, {point['utterances']} utterances": point for point in study["curve"].values()
    }
    return [
        "Trained on all languages but one, with less data:",
        "",
        *markdown.table("utterances", ["set", *COMPARED], curve),
        *beside_tables(
            (f"{trained}, {label(model)}", {name: point[name]["beside"][model] for name in SETS})
            for trained, point in points.items()
            for model in MODELS
        ),
    ]


def draw(curve: Mapping[str, Any], path: Path) -> None:
    """Draw mean recall over the amount of labelled data."""
    figure = new_picture(8, 3.2)
    axes = figure.subplots(1, len(SETS), sharey=True)
    amounts = [point["utterances"] for point in curve.values()]
    for axis, name in zip(axes, SETS, strict=True):
        for model, color in (("plain", "#d62728"), ("hardened", "#1f77b4")):
            values = [point[name][model] for point in curve.values()]
            axis.plot(amounts, [one.mean for one in values], "o-", color=color, label=model)
            ends = ([one.low for one in values], [one.high for one in values])
            axis.fill_between(amounts, *ends, color=color, alpha=0.15, linewidth=0)
        axis.set_title(f"{name} languages")
        axis.set_xlabel("labelled utterances")
    axes[0].set_ylabel("mean recall")
    axes[0].legend()
    save_picture(figure, path)
