"""What finished reward models say of speakers and languages that they have not seen."""

from collections.abc import Callable, Sequence

import numpy as np

from rrpo.evaluate.crossed import Trials, stratified_interval, with_equal_classes
from rrpo.evaluate.scored_trials import stratified_entropy, stratified_ranking
from rrpo.interval import Interval
from rrpo_studies.real_speech.folds import Fold, Job
from rrpo_studies.real_speech.jobs import posteriors
from rrpo_studies.real_speech.workspace import Workspace


def trials(workspace: Workspace, jobs: Sequence[Job], rows: Sequence[int]) -> Trials:
    """Return what finished jobs say of labelled recordings, given as indices into `recordings`."""
    place = {index: number for number, index in enumerate(workspace.labelled)}
    chosen = [place[index] for index in rows]
    scores = np.stack([posteriors(workspace, job)[chosen] for job in jobs]).astype(np.float64)
    labels = [workspace.emotions.index(workspace.recordings[index].emotion) for index in rows]
    speakers = [workspace.recordings[index].speaker for index in rows]
    texts = [workspace.recordings[index].text for index in rows]
    sentences = np.array(texts) if all(texts) else None
    trainings = [(job.fold.name, job.seed) for job in jobs]
    found = scores.argmax(-1).astype(np.int64)
    return Trials(found, np.array(labels), np.array(speakers), trainings, scores, sentences)


def told_by_text(workspace: Workspace, language: str) -> float:
    """Return the share of labelled recordings of a language whose text has one emotion alone.

    Speakers who are held out say the same sentences as those trained on: there the words tell the
    emotion.
    """
    rows = [workspace.recordings[index] for index in workspace.labelled]
    own = [(row.text, row.emotion) for row in rows if row.language == language]
    emotions: dict[str, set[str]] = {}
    for text, emotion in own:
        emotions.setdefault(text, set()).add(emotion)
    return float(np.mean([bool(text) and len(emotions[text]) == 1 for text, _ in own]))


def held_out(workspace: Workspace) -> dict[str, Fold]:
    """Return for each language the fold of all the others."""
    return {
        language: Fold(tuple(other for other in workspace.languages if other != language))
        for language in workspace.languages
    }


def unseen(workspace: Workspace, language: str, fold: Fold) -> list[int]:
    """Return the labelled recordings of a language that a fold has not seen.

    Of a language that it was trained on these are the speakers held out for tests.
    """
    return [
        index
        for index in workspace.labelled
        if workspace.recordings[index].language == language
        and (language not in fold.languages or workspace.recordings[index].partition == "test")
    ]


def strata(
    workspace: Workspace, model: str, folds: Sequence[Fold], languages: Sequence[str], seen: bool
) -> list[Trials]:
    """Return one stratum a language: what every fold that saw it, or did not, says of it.

    Args:
        model: a subset of the regularizers or `CEILING`.
        folds: those that were trained.
        languages: the strata.
        seen: whether folds trained on the language are asked, or those that were not.
    """
    made = []
    for language in languages:
        asked = [fold for fold in folds if (language in fold.languages) == seen]
        jobs = [Job(fold, model, seed) for fold in asked for seed in range(workspace.size.seeds)]
        made.append(trials(workspace, jobs, unseen(workspace, language, asked[0])))
    return made


def equal_recall(found: Sequence[Trials], others: Sequence[Trials] | None = None) -> Interval:
    """Return the mean recall where all classes are equally probable; see `MEASURES`."""
    equal = [with_equal_classes(one) for one in found]
    return stratified_interval(equal, others and [with_equal_classes(one) for one in others])


COST = "Cross-entropy, nats"
"""Less of it is better."""
MEASURES: dict[str, Callable[[Sequence[Trials], Sequence[Trials] | None], Interval]] = {
    "Area under the ROC curve": stratified_ranking,
    "Mean recall, classes equally probable": equal_recall,
    COST: stratified_entropy,
}
"""What is told beside mean recall."""
WHY = (
    "On a language that it has not seen a reward model may prefer some classes to others, which "
    "costs mean recall however well it separates them. Two measures do without that: the area "
    "under the ROC curve (each class against the rest, averaged; chance is .5) is how often an "
    "utterance of a class has a higher log-probability of it than one of another; and the mean "
    "recall where a weight for each class, found without labels on the tested utterances, makes "
    "all classes equally probable on average (as if all were about as frequent, which they are "
    "not everywhere). The cross-entropy is −log p of the true class, of which less is better: what "
    "a policy is paid is made of this probability."
)


def beside(found: Sequence[Trials], plain: Sequence[Trials] | None) -> dict[str, Interval]:
    """Return each of `MEASURES` of a reward model, and less that of the plain one, paired.

    Args:
        found: of the reward model.
        plain: of the plain one; None: nothing is compared.
    """
    table = {}
    for name, measure in MEASURES.items():
        table[name] = measure(found, None)
        if plain is not None:
            table[f"{name}, less plain"] = measure(found, plain)
    return table
