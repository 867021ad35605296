"""Detectors tested: in what share of speech each finds its sound."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from rrpo.data.shards import Utterance
from rrpo.evaluate.ser import share_interval
from rrpo.interval import Interval
from rrpo.mini.inserts import tokenized_again, with_sound
from rrpo.mini.world import World
from rrpo.report.terminal import print_rows
from rrpo.reward import RewardModel
from rrpo.reward.detector import detected
from rrpo.sound.inserts import EVERYWHERE, INSERTS

TESTED = 60
"""Utterances of the bundled test set; each sound is put into them in some seconds."""


def evaluate(
    models: Mapping[str, RewardModel], data: Mapping[str, Sequence[Utterance]]
) -> dict[str, dict[str, Any]]:
    """Print in what share of each test set each detector finds its sound; return it.

    Args:
        models: detectors by their folders.
        data: test sets by name; none: bundled speech as it is and with each sound of
            `rrpo tokenize --insert`.
    """
    tests = data or bundled_speech()
    found = {
        folder: {
            name: {"utterances": len(rows), "found": _found(model, rows)}
            for name, rows in tests.items()
        }
        for folder, model in models.items()
    }
    _print(found)
    return {folder: {"detection": sets} for folder, sets in found.items()}


def _found(model: RewardModel, rows: Sequence[Utterance]) -> Interval:
    """Return the share of utterances with p(event) above a half, with its interval."""
    hits = (detected(model, rows) > 0.5).numpy()
    return share_interval(hits, np.array([row.speaker for row in rows]))


def bundled_speech(seed: int = 0) -> dict[str, Sequence[Utterance]]:
    """Return bundled test speech without a sound and with each.

    Args:
        seed: of the sounds' places and levels.
    """
    codec, rows = World().codec(), next(iter(World().tests().values()))[:TESTED]
    speech = {
        f"with {name}": with_sound(codec, rows, insert, seed, name in EVERYWHERE)
        for name, insert in INSERTS.items()
    }
    return {
        "as it is": rows,
        "tokenized again": tokenized_again(codec, rows),
        **speech,
    }


def _print(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print a row for each test set, a column for each detector."""
    sets = next(iter(found.values()))
    rows = [
        (name, [str(one["utterances"]), *(str(each[name]["found"]) for each in found.values())])
        for name, one in sets.items()
    ]
    title = "Share of the utterances in which the sound is found (p > .5), 95 % interval"
    print_rows(title, ["utterances", *found], rows, Console())
