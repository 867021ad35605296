"""What the detectors find, and what they share: blocks, surroundings, events and stretches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE
from rrpo.repetition import runs_of

Curve = NDArray[np.float64]

MERGE = 0.010
"""Seconds within which two findings of a kind are one."""
LOUDNESS_BLOCK = 320
"""Samples of a block whose level is taken, 20 ms: longer than a pitch period."""
LOUD_SHARE = 0.95
"""The level that one block in twenty passes: that of the vowels, which no click can move."""


@dataclass(frozen=True)
class Artifact:
    """A sound that a mouth speaking does not make.

    Attributes:
        kind: one of `rrpo.evaluate.artifacts.KINDS`.
        start: of the event, seconds from the first sample.
        end: in seconds, after `start`.
        strength: how far it stands out, by the kind's own measure; at least the kind's threshold.
    """

    kind: str
    start: float
    end: float
    strength: float


@dataclass(frozen=True)
class Scores:
    """How much each block of a signal is like an artifact of a kind.

    Attributes:
        values: (M,) a score for each block; an artifact where it reaches the kind's threshold.
        seconds: of a block.
    """

    values: Curve
    seconds: float

    def highest(self, start: float, end: float) -> float:
        """Return the highest score of the blocks that touch start…end, in seconds; 0 for none."""
        first, last = int(max(start, 0.0) / self.seconds), int(np.ceil(end / self.seconds))
        return float(self.values[first : max(last, first + 1)].max(initial=0.0))


def loudness(signal: Curve) -> float:
    """Return the level of the loud parts of a signal (N,): root mean square, within ±1.

    The 95th percentile over blocks of 20 ms, so that neither pauses nor a click have a say.
    """
    blocks = np.square(signal[: signal.size // LOUDNESS_BLOCK * LOUDNESS_BLOCK])
    return float(np.sqrt(np.quantile(blocks.reshape(-1, LOUDNESS_BLOCK).mean(axis=1), LOUD_SHARE)))


def block_peaks(signal: Curve, size: int) -> Curve:
    """Return the greatest magnitude (M,) of each whole or begun block of `size` samples."""
    padded = np.pad(np.abs(signal), (0, -signal.size % size))
    peaks: Curve = padded.reshape(-1, size).max(axis=1)
    return peaks


def surroundings(peaks: Curve, back: int, near: int, skip: int, ahead: int) -> tuple[Curve, Curve]:
    """Return what lies before and after each block: (M, back) and (M, ahead).

    The `back` blocks end `near` before it, the `ahead` blocks begin `skip` after it; beyond the
    ends there is silence.
    """
    padded = np.pad(peaks, (back + near, skip + ahead))
    windows = np.lib.stride_tricks.sliding_window_view(padded, back + near + 1 + skip + ahead)
    return windows[:, :back], windows[:, back + near + 1 + skip :]


def events(
    kind: str, score: Curve, peaks: Curve, size: int, threshold: float, longest: int
) -> list[Artifact]:
    """Make artifacts of the blocks whose score reaches the threshold, near ones merged.

    An event spans the blocks around its top that reach a third of it, at most `longest` blocks.
    """
    seconds = size / SAMPLE_RATE
    found: list[Artifact] = []
    for top in np.flatnonzero(score >= threshold):
        first = last = int(top)
        while first > 0 and last - first < longest - 1 and peaks[first - 1] > peaks[top] / 3:
            first -= 1
        while (
            last + 1 < peaks.size
            and last - first < longest - 1
            and peaks[last + 1] > peaks[top] / 3
        ):
            last += 1
        event = Artifact(kind, first * seconds, (last + 1) * seconds, float(score[top]))
        if found and event.start - found[-1].end < MERGE:
            previous = found.pop()
            event = Artifact(
                kind,
                min(previous.start, event.start),
                max(previous.end, event.end),
                max(previous.strength, event.strength),
            )
        found.append(event)
    return found


def stretches(kind: str, scores: Scores, threshold: float) -> list[Artifact]:
    """Make an artifact of each run of blocks whose score reaches the threshold."""
    return [
        Artifact(
            kind,
            float(first * scores.seconds),
            float(last * scores.seconds),
            float(scores.values[first:last].max()),
        )
        for first, last in runs_of(scores.values >= threshold)
    ]
