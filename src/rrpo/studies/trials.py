"""What finished reward models say of speakers and languages that they never heard."""

from collections.abc import Sequence

import numpy as np

from rrpo.evaluate.crossed import Trials
from rrpo.studies.folds import Fold, Job
from rrpo.studies.real_speech import Laboratory


def trials(lab: Laboratory, jobs: Sequence[Job], rows: Sequence[int]) -> Trials:
    """Return what finished jobs say of labelled recordings, given as indices into `recordings`."""
    place = {index: number for number, index in enumerate(lab.labelled)}
    chosen = [place[index] for index in rows]
    scores = np.stack([lab.posteriors(job)[chosen] for job in jobs]).astype(np.float64)
    labels = [lab.emotions.index(lab.recordings[index].emotion) for index in rows]
    speakers = [lab.recordings[index].speaker for index in rows]
    trainings = [(job.fold.name, job.seed) for job in jobs]
    found = scores.argmax(-1).astype(np.int64)
    return Trials(found, np.array(labels), np.array(speakers), trainings, scores)


def held_out(lab: Laboratory) -> dict[str, Fold]:
    """Return for each language the fold of all the others."""
    return {
        language: Fold(tuple(other for other in lab.languages if other != language))
        for language in lab.languages
    }


def unheard(lab: Laboratory, language: str, fold: Fold) -> list[int]:
    """Return the labelled recordings of a language that a fold has not heard.

    Of a language that it was trained on these are the speakers held out for tests.
    """
    return [
        index
        for index in lab.labelled
        if lab.recordings[index].language == language
        and (language not in fold.languages or lab.recordings[index].partition == "test")
    ]


def strata(
    lab: Laboratory, model: str, folds: Sequence[Fold], languages: Sequence[str], seen: bool
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
        jobs = [Job(fold, model, seed) for fold in asked for seed in range(lab.size.seeds)]
        made.append(trials(lab, jobs, unheard(lab, language, asked[0])))
    return made
