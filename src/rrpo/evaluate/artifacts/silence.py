"""Silence: a gap inside speech that is longer than a pause, or too much of it at an end.

A frame is silent that lies 40 dB under the loudness, the rule of energy-based voice activity
detection (Rabiner & Sambur 1975, "An algorithm for determining the endpoints of isolated
utterances", Bell System Technical Journal 54) with a level relative to the speech. Campione &
Véronis 2002 ("A large-scale multilingual study of silent pause duration", Speech Prosody) find
pauses of read speech below 1 s, nearly all; the limit lies under that, as an utterance of TTS is
a sentence. An utterance that is silent throughout (`rrpo.audio.is_silent`) is one silence,
however short it is.
"""

import numpy as np

from rrpo.audio import SAMPLE_RATE, is_silent
from rrpo.evaluate.artifacts.events import Artifact, Curve, Scores, loudness, stretches
from rrpo.repetition import runs_of

BLOCK = 160
"""Samples of a frame: 10 ms."""
DEPTH = 40.0
"""dB under the loudness."""
INSIDE, EDGE = 0.8, 1.5
"""Seconds of silence that are too long between sounds, and before the first or after the last.
Clean speech of four languages pauses for 0.8 s up to 0.4 times a minute, for 0.5 s up to 2.5."""
CRACK = 3
"""Frames of sound, 30 ms, that do not end a silence: a click in it, or a breath's edge."""
THRESHOLD = 1.0


def find(signal: Curve) -> list[Artifact]:
    """Return the silences of a signal (N,), 16 kHz, that are too long; of a mute one all of it."""
    found = scores(signal)
    if is_silent(signal):
        # Its last block may be a part of one, which has no score.
        return [Artifact("silence", 0.0, signal.size / SAMPLE_RATE, float(found.values.max()))]
    return stretches("silence", found, THRESHOLD)


def scores(signal: Curve) -> Scores:
    """Return for each 10 ms of a signal (N,) the length of its silence over what is allowed.

    A mute signal is too much silence at any length: at least `THRESHOLD`.
    """
    count = signal.size // BLOCK
    if is_silent(signal):
        length = signal.size / SAMPLE_RATE
        return Scores(np.full(count, max(THRESHOLD, length / EDGE)), BLOCK / SAMPLE_RATE)
    power = np.square(signal[: count * BLOCK]).reshape(-1, BLOCK).mean(axis=1)
    # Strictly over, so that nothing sounds in digital silence, where a click leaves no loudness.
    sounding = np.sqrt(power) > loudness(signal) * 10.0 ** (-DEPTH / 20.0)
    score = np.zeros(count)
    runs = runs_of(sounding)
    kept = [run for run in runs if run[1] - run[0] > CRACK]
    ends = [0, *(edge for run in kept for edge in run), count]
    for start, stop in zip(ends[::2], ends[1::2], strict=True):
        limit = EDGE if start == 0 or stop == count else INSIDE
        score[start:stop] = (stop - start) * BLOCK / SAMPLE_RATE / limit
    return Scores(score, BLOCK / SAMPLE_RATE)
