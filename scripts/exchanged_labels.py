"""Are two labels of a corpus exchanged? Other corpora, heard by their sound alone, say.

    rrpo data import csv corpora/emodb --out emodb       # and so on
    python scripts/exchanged_labels.py emodb ravdess nemo emotiontts_ko --out exchanged

Every recording is described by the emotion judge's functionals, standardised within its speaker,
so that voices, microphones and levels cancel. A logistic regression learns the emotions that all
manifests share from all of them but one, and is tested on that one: as it is labelled, and with
each pair of its labels exchanged. Where one exchange makes most of the mistakes right, the labels
are exchanged.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from rrpo.data.manifest import Recording, read_manifest
from rrpo.data.survey import read_recording
from rrpo.evaluate.clusters import clustered_interval
from rrpo.evaluate.confusion import unweighted_average_recall
from rrpo.evaluate.functionals import functionals, names
from rrpo.files import write_json
from rrpo.progress import Progress

SHOWN = ("pitch_mean", "level_mean", "voiced_centroid_mean", "voiced_rate")
"""Functionals in which angry and sad speech are known to differ; sad has less of each."""


def described(rows: list[Recording]) -> NDArray[np.float64]:
    """Return the functionals (N, F) of recordings, standardised within each speaker."""
    table = np.empty((len(rows), len(names())))
    with Progress("listen", len(rows)) as progress:
        for number, row in enumerate(rows):
            table[number] = functionals(read_recording(row).samples)
            progress.update(number + 1)
    people = np.array([f"{row.corpus} {row.speaker}" for row in rows])
    for name in np.unique(people):
        own = people == name
        table[own] = (table[own] - table[own].mean(0)) / np.maximum(table[own].std(0), 1e-6)
    return table


def recall(
    labels: NDArray[np.int64], said: NDArray[np.int64], people: NDArray[np.str_], k: int
) -> Any:
    """Return the mean recall of K emotions with its interval over speakers."""
    names = np.unique(people)
    counts = np.zeros((len(names), k, k))
    np.add.at(counts, (np.searchsorted(names, people), labels, said), 1)
    return clustered_interval(counts, unweighted_average_recall)


def main() -> None:
    """Print the mean recalls and write `labels.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="manifests, or folders that hold them")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    manifests = {
        path.stem if path.is_file() else path.name: read_manifest(path) for path in asked.data
    }
    shared = set.intersection(*({row.emotion for row in rows} for rows in manifests.values()))
    emotions = sorted(shared - {"other"})
    rows = [row for some in manifests.values() for row in some if row.emotion in shared]
    where = np.array(
        [name for name, some in manifests.items() for row in some if row.emotion in shared]
    )
    labels = np.array([emotions.index(row.emotion) for row in rows])
    people = np.array([row.speaker for row in rows])
    heard = described(rows)
    found: dict[str, Any] = {}
    for name in manifests:
        own = where == name
        model = LogisticRegression(C=0.02, max_iter=2000).fit(heard[~own], labels[~own])
        said = model.predict(heard[own])
        one = found[name] = {"as labelled": recall(labels[own], said, people[own], len(emotions))}
        for first, second in combinations(range(len(emotions)), 2):
            exchanged = labels[own].copy()
            exchanged[labels[own] == first], exchanged[labels[own] == second] = second, first
            key = f"{emotions[first]} and {emotions[second]} exchanged"
            one[key] = recall(exchanged, said, people[own], len(emotions))
        speakers = np.unique(people[own])
        for functional in SHOWN if {"angry", "sad"} <= shared else ():
            column = heard[own, names().index(functional)]
            means = [
                [
                    column[(people[own] == who) & (labels[own] == emotions.index(emotion))].mean()
                    for emotion in ("angry", "sad")
                ]
                for who in speakers
            ]
            one[f"speakers whose angry has more {functional} than their sad"] = [
                sum(bool(angry > sad) for angry, sad in means),
                len(speakers),
            ]
    write_json(asked.out / "labels.json", found)
    for name, one in found.items():
        print(name)
        for key, value in one.items():
            text = (
                f"{value[0]} of {value[1]}"
                if isinstance(value, list)
                else (f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]")
            )
            print(f"  {key}: {text}")


if __name__ == "__main__":
    main()
