"""A packaged detector beside ours: the audio-problem algorithms of Essentia, where installed.

Essentia (Bogdanov et al. 2013, ISMIR) is licensed AGPL-3.0; it is no dependency and only measured.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError

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
            raise UserError(
                "essentia is not installed: pip install essentia, or leave out --peer"
            ) from None
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
