"""Each regularizer alone and together, on real speech: which makes a better reward model?

Every language is held out once: reward models are trained on the others, and tested on speakers of
those that are unseen, and on the language that is unseen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rrpo.evaluate.crossed import Trials, stratified_interval
from rrpo.interval import Interval
from rrpo.report.table2 import table2
from rrpo.reward.config import subsets
from rrpo.studies.study import finish, new_picture, save_picture
from rrpo_studies.real_speech.figures import about, effect, recalls, tested
from rrpo_studies.real_speech.folds import (
    AUDIO,
    CEILING,
    FULL,
    HARDENED,
    PRETRAINED,
    Job,
    Size,
    chosen_models,
)
from rrpo_studies.real_speech.jobs import run_jobs
from rrpo_studies.real_speech.pages import (
    AIM,
    LEAKS,
    aim_table,
    beside_tables,
    difference_table,
    label,
    notes,
    pair_table,
    setting,
    under_chance,
)
from rrpo_studies.real_speech.trials import COST, beside, held_out, strata, told_by_text
from rrpo_studies.real_speech.workspace import Workspace

Stratum = TypeVar("Stratum")
SEEN, UNSEEN = "seen languages", "unseen languages"
SETS = {SEEN: True, UNSEEN: False}
GAIN = "hardened less plain, paired"


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
        UserError: see `chosen_models` and `Workspace`.
    """
    models = chosen_models(models or [PRETRAINED, *subsets(), CEILING])
    workspace = Workspace(out, manifests, size)
    hardened = HARDENED if HARDENED in models else AUDIO
    folds = list(held_out(workspace).values())
    jobs = [
        Job(fold, model, seed) for fold in folds for model in models for seed in range(size.seeds)
    ]
    run_jobs(workspace, jobs)
    alone = {
        model: {
            name: dict(
                zip(
                    workspace.languages,
                    strata(workspace, model, folds, workspace.languages, seen),
                    strict=True,
                )
            )
            for name, seen in SETS.items()
        }
        for model in models
    }
    asked = {
        model: {name: pooled(workspace, found[name], SETS[name]) for name in SETS}
        for model, found in alone.items()
    }
    study: dict[str, Any] = {
        **about(workspace, command, folds, jobs),
        "hardened": hardened,
        "models": {model: tested(asked[model], alone[model]) for model in models},
        **_compared(asked, alone),
        "recall": {name: _by_emotion(workspace, asked, hardened, name) for name in SETS},
    }
    draw(study, out / "ablation.svg")
    return finish(out, study, page(study), "ablation")


def _compared(
    asked: Mapping[str, Mapping[str, Sequence[Trials]]],
    alone: Mapping[str, Mapping[str, Mapping[str, Trials]]],
) -> dict[str, Any]:
    """Return the differences between reward models.

    Args:
        asked: reward model → set of languages → its trials.
        alone: the same by language.
    """
    compared = [model for model in asked if model != "plain"]
    return {
        "differences": {model: _less(asked[model], asked["plain"]) for model in compared},
        "by_language": {
            model: {
                language: stratified_interval([one], [alone["plain"][UNSEEN][language]])
                for language, one in alone[model][UNSEEN].items()
            }
            for model in compared
        },
        "steps": {
            f"{label(second)} less {label(first)}": _less(asked[second], asked[first])
            for second in asked
            for first in asked
            if adds_one(first, second)
        },
        "beside": {
            model: {
                name: beside(found[name], asked["plain"][name] if model in compared else None)
                for name in SETS
            }
            for model, found in asked.items()
        },
        "effects": {part: effect(part, asked) for part in HARDENED.split("_")}
        if set(subsets()) <= set(asked)
        else {},
    }


def adds_one(first: str, second: str) -> bool:
    """Say whether a reward model has one regularizer more than another, and all of its own.

    Examples:
        >>> adds_one("plain", "adv"), adds_one("ls", "ls_eam"), adds_one("ls", "eam")
        (True, True, False)
    """
    if not {first, second} <= subsets().keys():
        return False
    fewer, more = (set(one.split("_")) - {"plain"} for one in (first, second))
    return fewer < more and len(more) == len(fewer) + 1


def pooled(workspace: Workspace, found: Mapping[str, Stratum], seen: bool) -> list[Stratum]:
    """Return the strata of a mean over languages; see `LEAKS` for those that are left out."""
    kept = [one for name, one in found.items() if told_by_text(workspace, name) <= LEAKS]
    return kept if seen and kept else [*found.values()]


def _less(
    found: Mapping[str, Sequence[Trials]], others: Mapping[str, Sequence[Trials]]
) -> dict[str, Interval]:
    return {name: stratified_interval(found[name], others[name]) for name in SETS}


def _by_emotion(
    workspace: Workspace,
    asked: Mapping[str, Mapping[str, Sequence[Trials]]],
    hardened: str,
    name: str,
) -> dict[str, dict[str, Interval]]:
    """Return the recall of each emotion on a set of languages, by model, and the gain."""
    emotions = workspace.emotions
    gain = recalls(emotions, asked[hardened][name], asked["plain"][name])
    return {model: recalls(emotions, found[name]) for model, found in asked.items()} | {GAIN: gain}


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown."""
    hardened = study["differences"][study["hardened"]]
    mean_recall = {
        f"{label(model)}, {name}": value["unweighted_average_recall"]
        for model, found in study["models"].items()
        for name, value in found.items()
    }
    lines = [
        "# Each regularizer alone and together, on real speech"
        if study["effects"]
        else "# Reward models on real speech",
        "",
        "Does hardening make a reward model that is right on people and languages it has not seen?",
        "",
        "![Recall and cross-entropy less those of the plain reward model](ablation.svg)",
        "",
        "*Dotted: the gain on unseen languages that is looked for.*",
        "",
        *setting(study),
        "",
        "Intervals are over speakers, sentences and trainings (95 %). *Seen*: speakers held out of "
        "languages trained on; *unseen*: a language that is in none of the recordings trained on, "
        "neither of the reward model nor of its tokenizer. *Detectable*: the least true difference "
        "that is significant in four of five such studies. The first row below is the one "
        "comparison that the study was made for. Elsewhere a difference is called significant "
        "where its interval does not hold 0: nothing is corrected for the number of comparisons, "
        f"{_verdicts(study)} on this page, of which one in twenty would be by chance.",
        "",
        f"The aim, for the hardened reward model ({label(study['hardened'])}), in mean recall:",
        "",
        *aim_table(hardened[UNSEEN], hardened[SEEN]),
        *under_chance(mean_recall, len(study["emotions"])),
        "",
        "What the figures do not say:",
        "",
        *(f"- {line}" for line in notes(study)),
        "",
        "## Figures",
        "",
        *_tables(study),
    ]
    return "\n".join(lines) + "\n"


def _tables(study: Mapping[str, Any]) -> list[str]:
    """Return all figures of the study as tables."""
    lines = [
        table2({label(model): found for model, found in study["models"].items()}).rstrip(),
        "",
        "Mean recall less that of the plain reward model, paired:",
        "",
        *difference_table("", {label(one): found for one, found in study["differences"].items()}),
        "",
        "Mean recall less that of the plain reward model on each language that is unseen:",
        "",
        *difference_table("", {label(one): of for one, of in study["by_language"].items()}),
    ]
    if study["steps"]:
        lines += ["", "One regularizer more, paired:", "", *difference_table("", study["steps"])]
    if study["effects"]:
        lines += ["", "What each adds, averaged over the subsets of the other two:", ""]
        lines += difference_table("", {label(one): of for one, of in study["effects"].items()})
    lines += beside_tables((label(model), found) for model, found in study["beside"].items())
    for name in SETS:
        found = study["recall"][name]
        rows = {
            emotion: {
                "plain": found["plain"][emotion],
                "hardened": found[study["hardened"]][emotion],
                "difference": found[GAIN][emotion],
            }
            for emotion in study["emotions"]
        }
        lines += ["", f"Recall by emotion, {name}:", "", *pair_table("", rows)]
    return lines


def _verdicts(study: Mapping[str, Any]) -> int:
    """Return how many differences are given a verdict."""
    tables = [study["differences"], study["steps"], study["by_language"], study["effects"]]
    beside = [one for found in study["beside"].values() for one in found.values()]
    count: int = sum(len(row) for table in tables for row in table.values())
    count += sum(name.endswith("less plain") for found in beside for name in found)
    return count + len(SETS) * len(study["emotions"])


def draw(study: Mapping[str, Any], path: Path) -> None:
    """Draw the paired differences to the plain reward model with their intervals."""
    models = [model for model in study["differences"] if model != CEILING]
    costs = {model: study["beside"][model][UNSEEN][f"{COST}, less plain"] for model in models}
    panels = {name: {model: study["differences"][model][name] for model in models} for name in SETS}
    figure = new_picture(10, 1.2 + 0.3 * len(models))
    axes = figure.subplots(1, len(SETS) + 1, sharey=True)
    for axis, (name, found) in zip(axes, [*panels.items(), (UNSEEN, costs)], strict=True):
        for place, value in enumerate(found.values()):
            axis.plot([value.low, value.high], [place, place], color="#1f77b4")
            axis.plot([value.mean], [place], "o", color="#1f77b4")
        axis.axvline(0.0, color="gray", linewidth=0.8)
        axis.set_title(name)
        axis.set_xlabel("mean recall less plain" if found is not costs else f"{COST}, less plain")
        axis.set_yticks(range(len(models)), [label(model) for model in models])
    axes[1].axvline(AIM, color="gray", linewidth=0.8, linestyle=":")
    axes[0].sharex(axes[1])
    axes[0].set_ylim(len(models) - 0.5, -0.5)
    save_picture(figure, path)
