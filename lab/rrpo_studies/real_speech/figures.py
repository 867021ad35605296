"""Figures of reward models on seen and unseen languages: recalls, differences, effects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rrpo.evaluate.confusion import accuracy, class_recall, unweighted_average_recall
from rrpo.evaluate.crossed import Trials, stratified_interval
from rrpo.interval import Interval
from rrpo.reward.config import subsets
from rrpo.studies.study import begin
from rrpo_studies.real_speech.costs import costs
from rrpo_studies.real_speech.folds import Fold, Job
from rrpo_studies.real_speech.trials import told_by_text
from rrpo_studies.real_speech.workspace import Workspace

FEWEST_SPEAKERS = 5
"""From which on a single language has an interval."""
FIGURES = {"unweighted_average_recall": unweighted_average_recall, "accuracy": accuracy}


def about(
    workspace: Workspace, command: str, folds: Sequence[Fold], jobs: Sequence[Job]
) -> dict[str, Any]:
    """Return what a study was made of and what it cost."""
    return {
        **begin(command),
        "seeds": workspace.size.seeds,
        "languages": counts(workspace),
        "emotions": workspace.emotions,
        "left_out": workspace.left_out,
        "corpora": workspace.corpora,
        "trainings": len(jobs),
        **costs(workspace.folder, folds, jobs),
    }


def counts(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return for each language how many labelled utterances and speakers are trained and tested."""
    table: dict[str, dict[str, Any]] = {}
    for language in workspace.languages:
        rows = [workspace.recordings[index] for index in workspace.labelled]
        own = [row for row in rows if row.language == language]
        tested_rows = [row for row in own if row.partition == "test"]
        table[language] = {
            "utterances": len(own),
            "speakers": len({row.speaker for row in own}),
            "test utterances": len(tested_rows),
            "test speakers": len({row.speaker for row in tested_rows}),
            "sentences": len({row.text for row in own}),
            "told by text": told_by_text(workspace, language),
        }
    return table


def tested(
    pooled: Mapping[str, Sequence[Trials]], alone: Mapping[str, Mapping[str, Trials]]
) -> dict[str, Any]:
    """Return a model's figures on sets of languages, together and each language by itself.

    A language of fewer than five speakers has a mean alone: intervals over so few are too narrow.
    """
    found: dict[str, Any] = {}
    for name, trials in pooled.items():
        found[name] = {key: stratified_interval(trials, figure=one) for key, one in FIGURES.items()}
    for name, languages in alone.items():
        for language, one in languages.items():
            of = {key: stratified_interval([one], figure=f) for key, f in FIGURES.items()}
            few = len(set(one.names.tolist())) < FEWEST_SPEAKERS
            found[f"{language}, {name.split()[0]}"] = {
                key: Interval(value.mean) if few else value for key, value in of.items()
            }
    return found


def compared(plain: Sequence[Trials], hardened: Sequence[Trials]) -> dict[str, Interval]:
    """Return the mean recall of the plain and the hardened reward model, and the difference."""
    return {
        "plain": stratified_interval(plain),
        "hardened": stratified_interval(hardened),
        "difference": stratified_interval(hardened, plain),
    }


def effect(part: str, asked: Mapping[str, Mapping[str, Sequence[Trials]]]) -> dict[str, Interval]:
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
        for name in asked["plain"]
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
) -> dict[str, Interval]:
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
