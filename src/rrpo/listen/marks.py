"""Places that listeners marked, beside those that the detectors of artifacts find."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE
from rrpo.evaluate.artifacts import TRANSIENTS, Artifact, detect
from rrpo.evaluate.two_way import ratio
from rrpo.listen.answers import Judgement, counted, interval_over
from rrpo.listen.design import Design, sound_file
from rrpo.sound.file import read

TOLERANCE = 0.1
"""Seconds that a mark may lie before or after a detected event and still be of it."""


def detected(test: Path, answers: Sequence[Judgement]) -> dict[str, list[Artifact]]:
    """Return sound → the clicks and pops that the detectors find in it."""
    sounds = {name for one in answers for name in one.page.sounds}
    return {
        name: detect(read(sound_file(test, name)), SAMPLE_RATE, TRANSIENTS)
        for name in sorted(sounds)
    }


def lengths(design: Design) -> dict[str, float]:
    """Return sound → its seconds."""
    return {one.id: one.seconds for one in design.sounds}


def compare(
    answers: Sequence[Judgement],
    events: Mapping[str, Sequence[Artifact]],
    seconds: Mapping[str, float],
    seed: int = 0,
) -> dict[str, Any]:
    """Compare marks with detected events; each figure with its interval over listeners and items.

    Returns:
        `precision`: of each event and each listener who heard the sound, the share that the
        listener marked; `recall`: the share of marks that lie at an event; `chance`: the share
        that would if marks lay anywhere; all within `TOLERANCE`.
    """
    kept: dict[int, tuple[float, ...]] = {}
    for one in answers:
        found = [event for name in one.page.sounds for event in events[name]]
        length = sum(seconds[name] for name in one.page.sounds)
        places = one.value if isinstance(one.value, tuple) else ()
        near = sum(any(_is_near(place, event) for place in places) for event in found)
        hits = sum(any(_is_near(place, event) for event in found) for place in places)
        kept[id(one)] = (near, len(found), hits, len(places), _covered(found, length))

    def of(top: int, below: int) -> Any:
        def part(at: int, column: int) -> Any:
            return counted(answers, (2,), lambda one: ((at,), kept[id(one)][column]))

        counts = part(0, top) + part(1, below)
        return interval_over(counts, ratio, seed) if counts[..., 1].any() else None

    chance = [row[4] for row in kept.values() for _ in range(int(row[3]))]
    return {
        "tolerance": TOLERANCE,
        "precision": of(0, 1),
        "recall": of(2, 3),
        "chance": float(np.mean(chance)) if chance else None,
        "marks": int(sum(row[3] for row in kept.values())),
        "events": sum(map(len, events.values())),
    }


def _is_near(place: float, event: Artifact) -> bool:
    return event.start - TOLERANCE <= place <= event.end + TOLERANCE


def _covered(events: Sequence[Artifact], seconds: float) -> float:
    """Return the share of a sound that lies within the tolerance of an event."""
    grid = np.linspace(0.0, seconds, 200)
    hits = [any(_is_near(float(place), event) for event in events) for place in grid]
    return float(np.mean(hits))
