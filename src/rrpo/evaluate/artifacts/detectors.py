"""Every detector over a sound."""

from collections.abc import Callable, Sequence

import numpy as np
import soxr

from rrpo.audio import SAMPLE_RATE, Audio, is_silent
from rrpo.errors import UserError
from rrpo.evaluate.artifacts import clicks, clipping, loops, pops, silence, stuck
from rrpo.evaluate.artifacts.events import Artifact, Curve, Scores

DETECTORS = {
    "click": clicks,
    "pop": pops,
    "repetition": loops,
    "stuck": stuck,
    "silence": silence,
    "clipping": clipping,
}
KINDS = tuple(DETECTORS)
"""What `detect` finds."""
THRESHOLDS = {kind: detector.THRESHOLD for kind, detector in DETECTORS.items()}
"""Kind → the score from which on a sound is an artifact."""
TRANSIENTS = ("click", "pop")
"""What is counted as artifacts per second: what the paper hears its policies make."""
SHORTEST = 480
"""Samples, 30 ms: shorter audio has no surroundings."""


def detect(
    audio: Audio, sample_rate: int = SAMPLE_RATE, kinds: Sequence[str] = KINDS
) -> list[Artifact]:
    """Find artifacts in audio (N,), in the order of their starts.

    Each kind's method, its source and its constants stand in the module of its name:
    `clicks`, `pops` (harsh plosives too), `loops`, `stuck`, `silence`, `clipping`. The release of
    a stop consonant is a click by nature, so figures are read against those of clean speech with
    the same text. How often each is right and wrong: docs/studies/artifacts.md.

    Args:
        audio: mono samples, peak within ±1; other rates than 16 kHz are resampled.
        sample_rate: in Hz.
        kinds: which of `KINDS`.

    Returns:
        The artifacts; none for audio that is empty or shorter than 30 ms. Audio whose peak is under
        0.001 is mute: one silence from its begin to its end, and nothing else.

    Raises:
        UserError: the audio is not one-dimensional or not finite, the rate is not positive, or
            there is no such kind.
    """
    signal = _signal(audio, sample_rate, kinds)
    if signal is None:
        return []
    searched = _searched(signal, kinds)
    found = [artifact for kind in searched for artifact in DETECTORS[kind].find(signal)]
    return sorted(found, key=lambda artifact: artifact.start)


def scores(
    audio: Audio, sample_rate: int = SAMPLE_RATE, kinds: Sequence[str] = KINDS
) -> dict[str, Scores]:
    """Return kind → the score over time of audio (N,), of which `detect` reports the high ones.

    Raises:
        UserError: as `detect`.
    """
    signal = _signal(audio, sample_rate, kinds)
    found = {kind: Scores(np.zeros(0), 0.001) for kind in kinds}
    if signal is None:
        return found
    finders: dict[str, Callable[[Curve], Scores]] = {
        kind: DETECTORS[kind].scores for kind in _searched(signal, kinds)
    }
    return found | {kind: score(signal) for kind, score in finders.items()}


def _searched(signal: Curve, kinds: Sequence[str]) -> list[str]:
    """Return which kinds a signal (N,) may hold: what is fainter than hearing is only silence."""
    return [kind for kind in kinds if kind == "silence" or not is_silent(signal)]


def _signal(audio: Audio, sample_rate: int, kinds: Sequence[str]) -> Curve | None:
    """Check what is to be searched and bring it to 16 kHz; None where it is too short."""
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise UserError(f"audio to be searched has shape {samples.shape}: give mono samples (N,)")
    if not np.isfinite(samples).all():
        raise UserError("audio to be searched holds NaN or infinite samples: render it again")
    if sample_rate <= 0:
        raise UserError(
            f"a sample rate of {sample_rate} Hz is not possible: give that of the audio"
        )
    unknown = [kind for kind in kinds if kind not in DETECTORS]
    if unknown:
        raise UserError(f"there is no artifact of kind {unknown[0]!r}: one of {', '.join(KINDS)}")
    if sample_rate != SAMPLE_RATE and samples.size:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    if samples.size < SHORTEST:
        return None
    return samples.astype(np.float64)
