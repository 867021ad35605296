"""A packaged detector beside ours: the audio-problem algorithms of Essentia, where installed.

    python scripts/essentia_detectors.py --data corpus/manifest.csv

puts the artifacts of `rrpo study artifacts` into the same places of one utterance in three, and
prints as JSON how well Essentia and our detectors find them, and what Essentia marks in clean
speech. Essentia (Bogdanov et al. 2013, ISMIR) is licensed AGPL-3.0; it is no dependency and only
measured.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rrpo_world.artifacts.artifacts import FULL

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.data.manifest import read_manifest
from rrpo.evaluate.artifacts import KINDS, THRESHOLDS, scores
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo_world.artifacts.insertions import WAYS
from rrpo_world.artifacts.speech import Speech, first_of_each, real_speech, synthetic_speech
from rrpo_world.artifacts.trials import (
    Trials,
    figures,
    goal,
    groups_of,
    insertions,
    rate,
    trial,
)

DECIBELS = (6, 12, 18, 21, 24, 27, 30, 33, 36, 42, 48, 54)
"""Thresholds that its click detector is run with, in dB: the highest that still finds a click is
the click's score."""
EVERY = 3
"""One utterance in so many is given to the peer: it is run once for each threshold."""
SATURATION_FLOOR = -30.0
"""dB of the energy a saturated sample must have; its default, -1, hears only full scale."""

Event = tuple[float, float, float]
"""Start and end in seconds, and a score."""


class Essentia:
    """Essentia's detectors at 16 kHz, with their defaults but for the rate.

    Attributes:
        version: of the package.
        thresholds: kind → the score from which its defaults report an event.
    """

    thresholds = {"click": 30.0, "clipping": 0.0, "silence": 0.0}  # noqa: RUF012

    def __init__(self) -> None:
        try:
            package = importlib.import_module("essentia")
            self.standard: Any = importlib.import_module("essentia.standard")
        except ImportError:
            sys.exit("error: essentia is not installed: pip install essentia")
        package.log.warningActive = False
        self.version = str(package.__version__)

    def events(self, audio: Audio, kind: str) -> list[Event]:
        """Return what is found in audio (N,) of a kind; nothing for kinds it has no detector for.

        A click's score is in dB, that of clipping and silence their length in ms.
        """
        finders: dict[str, Callable[[Audio], list[Event]]] = {
            "click": self._clicks,
            "clipping": self._clipping,
            "silence": self._gaps,
        }
        return finders[kind](audio) if kind in finders else []

    def _clicks(self, audio: Audio) -> list[Event]:
        found: list[Event] = []
        for decibels in DECIBELS:
            detector = self.standard.ClickDetector(
                frameSize=512, hopSize=256, sampleRate=SAMPLE_RATE, detectionThreshold=decibels
            )
            pairs = self._framewise(detector, audio, 512, 256)
            found += [(start, end, float(decibels)) for start, end in pairs]
        return found

    def _clipping(self, audio: Audio) -> list[Event]:
        detector = self.standard.SaturationDetector(
            frameSize=512, hopSize=256, sampleRate=SAMPLE_RATE, energyThreshold=SATURATION_FLOOR
        )
        pairs = self._framewise(detector, audio, 512, 256)
        return [(start, end, 1000 * (end - start)) for start, end in pairs]

    def _gaps(self, audio: Audio) -> list[Event]:
        detector = self.standard.GapsDetector(frameSize=2048, hopSize=1024, sampleRate=SAMPLE_RATE)
        pairs = self._framewise(detector, audio, 2048, 1024)
        return [(start, end, 1000 * (end - start)) for start, end in pairs]

    def _framewise(
        self, detector: Any, audio: Audio, size: int, hop: int
    ) -> list[tuple[float, float]]:
        sound = np.ascontiguousarray(audio, np.float32)
        found: list[tuple[float, float]] = []
        for frame in self.standard.FrameGenerator(
            sound, frameSize=size, hopSize=hop, startFromZero=True
        ):
            starts, ends = detector(frame)
            found += zip(map(float, starts), map(float, ends), strict=False)
        return found


def count(events: list[Event], least: float, merge: float = 0.01) -> int:
    """Return how many events score `least` or more, those less than `merge` seconds apart as one.

    Its frames overlap, so it finds most events twice.
    """
    starts = np.sort([start for start, _, score in events if score >= least])
    return int(starts.size and 1 + (np.diff(starts) > merge).sum())


def highest(events: list[Event], start: float, end: float) -> float:
    """Return the highest score of the events that touch start…end, in seconds; 0 for none."""
    return max(
        (score for first, last, score in events if first <= end and last >= start), default=0.0
    )


def both_trials(speech: Sequence[Speech], peer: Essentia, seed: int) -> tuple[Trials, Trials]:
    """Return the trials of our detectors and of the peer's, on every third utterance."""
    ours: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    theirs: Trials = {name: {level: [] for level in way.levels} for name, way in WAYS.items()}
    with Progress("insert and search", len(speech)) as progress:
        for number in range(0, len(speech), EVERY):
            one = speech[number]
            clean = scores(one.audio)
            marks = {kind: peer.events(one.audio, kind) for kind in KINDS}
            for name, level, inserted, places in insertions(one, number, FULL.windows, seed):
                kind = WAYS[name].kind
                found = scores(inserted.audio, kinds=(kind,))[kind]
                here = (one, inserted, places)
                ours[name][level].append(trial(*here, found.highest, clean[kind].highest))
                events = peer.events(inserted.audio, kind)
                theirs[name][level].append(
                    trial(*here, partial(highest, events), partial(highest, marks[kind]))
                )
            progress.update(number + 1)
    return ours, theirs


def alarms(speech: Sequence[Speech], peer: Essentia) -> dict[str, Any]:
    """Return corpus → kind → how many a minute the peer finds in clean speech."""
    return {
        name: {
            kind: rate(
                part,
                [count(peer.events(one.audio, kind), least) for one in part],
                [one.minutes for one in part],
            )
            for kind, least in peer.thresholds.items()
        }
        for name, part in groups_of(speech[::EVERY]).items()
    }


def main() -> None:
    """Measure Essentia and our detectors, and print both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, action="append", default=[], help="manifest.csv")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    peer = Essentia()
    world = World()
    real = [
        one
        for manifest in given.data
        for one in real_speech(manifest, read_manifest(manifest), FULL.clean, given.seed).speech
    ]
    speech = [*synthetic_speech(world, FULL.clean, given.seed), *real]
    ours, theirs = both_trials(first_of_each(speech, FULL.inserted), peer, given.seed)
    found = {
        "name": f"Essentia {peer.version}",
        "detectors": figures(theirs, peer.thresholds, FULL.resamples),
        "goal": goal(theirs, FULL.resamples),
        "ours": {
            "detectors": figures(ours, THRESHOLDS, FULL.resamples),
            "goal": goal(ours, FULL.resamples),
        },
        "false_alarms": alarms(speech, peer),
    }
    print(json.dumps(found, indent=1, default=asdict))


if __name__ == "__main__":
    main()
