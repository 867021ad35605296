"""Each regularizer alone and together, on real speech: which makes a better reward model?

Every language is held out once: reward models are trained on the others, and tested on speakers of
those who were never heard, and on the language that was never heard.
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
from rrpo.evaluate.confusion import accuracy, class_recall, unweighted_average_recall
from rrpo.evaluate.crossed import Trials, stratified_interval
from rrpo.report import markdown
from rrpo.report.measures import reward_model_label
from rrpo.report.table2 import table2
from rrpo.report.terminal import shown, signed
from rrpo.reward.fit_config import subsets
from rrpo.studies.real_speech.conclusions import (
    AIM,
    aim,
    notes,
    power,
    setting,
    sorted_by_verdict,
    under_chance,
    verdict,
)
from rrpo.studies.real_speech.costs import costs
from rrpo.studies.real_speech.folds import (
    AUDIO,
    CEILING,
    FULL,
    HARDENED,
    PRETRAINED,
    Job,
    Size,
    chosen_models,
)
from rrpo.studies.real_speech.laboratory import Laboratory
from rrpo.studies.real_speech.trials import MEASURES, WHY, beside, held_out, strata

SETS = {"seen languages": True, "unseen languages": False}
GAIN = "hardened less plain, paired"
FIGURES = {"unweighted_average_recall": unweighted_average_recall, "accuracy": accuracy}


def run(
    manifests: Sequence[Path],
    out: Path,
    size: Size = FULL,
    command: str = "rrpo study ablation",
    models: Sequence[str] = (),
) -> Path:
    """Train and test reward models; write `ablation.json`, `ablation.md` and `ablation.svg`.

    Args:
        manifests: of the corpora.
        out: where everything is kept.
        size: how much is done.
        command: what the page says it was made by.
        models: which reward models, see `chosen_models`; none: the pre-trained one, every subset of
            the regularizers, and that of the encoder's states.

    Raises:
        UserError: see `chosen_models` and `Laboratory`.
    """
    models = chosen_models(models or [PRETRAINED, *subsets(), CEILING])
    lab = Laboratory(out, manifests, size)
    hardened = HARDENED if HARDENED in models else AUDIO
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
        "left_out": lab.left_out,
        "corpora": lab.corpora,
        "trainings": len(jobs),
        "hardened": hardened,
        **costs(out, folds, jobs),
        "models": {model: tested(lab.languages, found) for model, found in asked.items()},
        "differences": {
            model: differences(found, asked["plain"])
            for model, found in asked.items()
            if model != "plain"
        },
        "beside": {
            model: {name: beside(found[name], asked["plain"][name]) for name in SETS}
            for model, found in asked.items()
        },
        "effects": {part: effect(part, asked) for part in HARDENED.split("_")}
        if set(subsets()) <= set(models)
        else {},
        "recall": {
            name: {model: recalls(lab.emotions, found[name]) for model, found in asked.items()}
            | {GAIN: recalls(lab.emotions, asked[hardened][name], asked["plain"][name])}
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
    """Return a model's figures on seen and unseen languages, together and each by itself."""
    sets: dict[str, Sequence[Trials]] = dict(found)
    for name, alone in (("unseen languages", "unseen"), ("seen languages", "seen")):
        for language, one in zip(languages, found[name], strict=True):
            sets[f"{language}, {alone}"] = [one]
    return {
        name: {key: stratified_interval(trials, figure=figure) for key, figure in FIGURES.items()}
        for name, trials in sets.items()
    }


def differences(
    found: Mapping[str, Sequence[Trials]], plain: Mapping[str, Sequence[Trials]]
) -> dict[str, dict[str, float]]:
    """Return the paired differences of mean recall to the plain reward model."""
    return {name: stratified_interval(found[name], plain[name]) for name in SETS}


def effect(
    part: str, asked: Mapping[str, Mapping[str, Sequence[Trials]]]
) -> dict[str, dict[str, float]]:
    """Return what one regularizer adds, averaged over the subsets of the other two.

    Each subset with it is paired with the same subset without it. The same seed in two subsets
    counts as one training: it draws the same batches.
    """
    pairs = []
    for model in subsets():
        parts = model.split("_")
        if part in parts:
            rest = "_".join(one for one in parts if one != part)
            pairs.append((model, rest or "plain"))
    return {
        name: stratified_interval(
            joined([asked[model][name] for model, _ in pairs]),
            joined([asked[other][name] for _, other in pairs]),
        )
        for name in SETS
    }


def joined(models: Sequence[Sequence[Trials]]) -> list[Trials]:
    """Put the trainings of several models together, stratum by stratum."""
    return [
        replace(
            own[0],
            predictions=np.concatenate([one.predictions for one in own]),
            trainings=[key for one in own for key in one.keys],
            scores=None,
        )
        for own in zip(*models, strict=True)
    ]


def recalls(
    emotions: Sequence[str], found: Sequence[Trials], others: Sequence[Trials] | None = None
) -> dict[str, dict[str, float]]:
    """Return the recall of each emotion, averaged over trainings and languages.

    Args:
        emotions: names of the classes.
        found: of one reward model, a stratum a language.
        others: of another one: then it is the paired difference to that.
    """
    return {
        emotion: stratified_interval(found, others, class_recall(number))
        for number, emotion in enumerate(emotions)
    }


def label(model: str) -> str:
    """Name a model as a reader does."""
    named = {
        CEILING: "continuous states, plain",
        AUDIO: "LS + EAM + Adv, audio mixed",
        PRETRAINED: "Pre-trained only (head fitted)",
    }
    return named.get(model) or reward_model_label(model)


def conclusion(study: Mapping[str, Any]) -> list[str]:
    """Return what the figures say, in plain words, a sentence or two each."""
    chosen = study["hardened"]
    hardened = study["differences"][chosen]
    unseen, seen = (hardened[name] for name in ("unseen languages", "seen languages"))
    loss = f"; a loss of {-seen['low']:.3f} is not excluded" if seen["low"] < 0 else ""
    figures = {
        model: {name: found[name]["unweighted_average_recall"] for name in SETS}
        for model, found in study["models"].items()
    }
    ceiling = figures.pop(CEILING, None)
    best = max(figures, key=lambda one: figures[one]["unseen languages"]["mean"])
    others = {
        label(model): found["unseen languages"]
        for model, found in study["differences"].items()
        if model != CEILING
    }
    return [
        f"**On unseen languages** the hardened reward model ({label(chosen)}) differs "
        f"from the plain one by {signed(unseen)}: {verdict(unseen)}.",
        f"**On seen languages** the difference is {signed(seen)}: {verdict(seen)}{loss}.",
        aim(unseen, seen),
        *preferring(study["beside"][chosen]),
        f"**Power**: {power(hardened)}",
        *_each_alone(study["effects"]),
        "**Each reward model** against the plain one on unseen languages (not corrected for "
        f"making {len(others)} comparison{'s' if len(others) > 1 else ''}): "
        f"{'; '.join(sorted_by_verdict(others))}.",
        f"**Each emotion**, hardened less plain on unseen languages: "
        f"{'; '.join(sorted_by_verdict(study['recall']['unseen languages'][GAIN]))}. On seen "
        f"ones: {'; '.join(sorted_by_verdict(study['recall']['seen languages'][GAIN]))}.",
        f"**Highest** on unseen languages: {label(best)}, "
        f"{shown(figures[best]['unseen languages'])}; plain has "
        f"{shown(figures['plain']['unseen languages'])}.",
        *_at_most(ceiling, figures["plain"]),
        *under_chance(
            {
                f"{label(model)}, {name}": found[name]["unweighted_average_recall"]
                for model, found in study["models"].items()
                for name in found
            },
            len(study["emotions"]),
        ),
    ]


def _each_alone(effects: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Say what each regularizer adds, where every subset was trained."""
    if not effects:
        return []
    unseen, seen = (
        "; ".join(sorted_by_verdict({label(part): found[name] for part, found in effects.items()}))
        for name in ("unseen languages", "seen languages")
    )
    return [
        "**Each regularizer** averaged over the subsets of the other two, on unseen languages: "
        f"{unseen}. On seen ones: {seen}."
    ]


def _at_most(
    ceiling: Mapping[str, Mapping[str, float]] | None, plain: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Say what can be had without tokens, where it was tried."""
    if ceiling is None:
        return []
    return [
        f"**Ceiling**: on the encoder's continuous states in place of tokens the plain reward "
        f"model has a mean recall of {shown(ceiling['seen languages'])} on seen and "
        f"{shown(ceiling['unseen languages'])} on unseen languages; on tokens "
        f"{shown(plain['seen languages'])} and {shown(plain['unseen languages'])}. "
        "It starts from random weights, those on tokens are pre-trained."
    ]


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown."""
    lines = [
        "# Each regularizer alone and together, on real speech"
        if study["effects"]
        else "# Reward models on real speech",
        "",
        "Does hardening make a reward model that is right on people and languages it never heard?",
        "",
        "![Mean recall of each reward model less that of the plain one](ablation.svg)",
        "",
        "*Dotted: the gain on unseen languages that is looked for.*",
        "",
        *setting(study),
        "",
        "Intervals are over speakers and trainings (95 %). *Seen*: speakers held out of languages "
        "trained on; *unseen*: a language that is in none of the recordings trained on, neither of "
        "the reward model nor of its tokenizer.",
        "",
        "## In plain words",
        "",
        *(f"- {line}" for line in conclusion(study)),
        "",
        "What the figures do not say:",
        "",
        *(f"- {line}" for line in notes(study)),
        "",
        "## Figures",
        "",
        table2({label(model): found for model, found in study["models"].items()}).rstrip(),
        "",
        "Mean recall less that of the plain reward model, paired:",
        "",
        *markdown.table("", list(SETS), _rows(study["differences"])),
    ]
    if study["effects"]:
        lines += ["", "What each adds, averaged over the subsets of the other two:", ""]
        lines += markdown.table("", list(SETS), _rows(study["effects"]))
    for measure in MEASURES:
        lines += ["", f"{measure}, and less that of the plain model, paired:", ""]
        lines += markdown.table(
            "",
            [column for name in SETS for column in (name, "less plain")],
            [(label(model), compared(found, measure)) for model, found in study["beside"].items()],
        )
    lines += ["", WHY]
    for name in SETS:
        rows = [
            (
                GAIN if model == GAIN else label(model),
                [(signed if model == GAIN else shown)(found[one]) for one in study["emotions"]],
            )
            for model, found in study["recall"][name].items()
        ]
        lines += ["", f"Recall by emotion, {name}:", ""]
        lines += markdown.table("", study["emotions"], rows)
    return "\n".join(lines) + "\n"


def preferring(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Say what the hardened reward model gains by the measures beside mean recall.

    Args:
        found: of each set of languages what `beside` returns.
    """
    lines = []
    for measure in MEASURES:
        gains = {name: values[f"{measure}, less plain"] for name, values in found.items()}
        said = (f"{name} {signed(gain)} ({verdict(gain)})" for name, gain in gains.items())
        lines.append(f"**{measure}**, hardened less plain: {', '.join(said)}.")
    return lines


def compared(found: Mapping[str, Mapping[str, Mapping[str, float]]], measure: str) -> list[str]:
    """Return a measure and its difference to the plain model's, set by set."""
    return [
        cell
        for values in found.values()
        for cell in (shown(values[measure]), signed(values[f"{measure}, less plain"]))
    ]


def _rows(
    found: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[tuple[str, list[str]]]:
    return [(label(one), [signed(value[name]) for name in SETS]) for one, value in found.items()]


def draw(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draw the paired differences with their intervals."""
    models = [model for model in found if model != CEILING]
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SETS), sharex=True, sharey=True)
    for axis, name in zip(axes, SETS, strict=True):
        for place, model in enumerate(models):
            value = found[model][name]
            axis.plot([value["low"], value["high"]], [place, place], color="#1f77b4")
            axis.plot([value["mean"]], [place], "o", color="#1f77b4")
        axis.axvline(0.0, color="gray", linewidth=0.8)
        if not SETS[name]:
            axis.axvline(AIM, color="gray", linewidth=0.8, linestyle=":")
        axis.set_title(name)
        axis.set_xlabel("mean recall less plain")
        axis.set_yticks(range(len(models)), [label(model) for model in models])
    axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
