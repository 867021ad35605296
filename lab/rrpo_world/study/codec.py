"""What the mini world's codec loses, and whether it can say a click or a pop."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio, to_peak
from rrpo.evaluate.artifacts import detect
from rrpo.evaluate.statistics import interval
from rrpo.interval import Interval
from rrpo.mini.codec import TOKEN_SAMPLES, MiniCodec
from rrpo.mini.world import World
from rrpo_world import codec_corpus, train_codec
from rrpo_world.artifacts.tokens import stretches
from rrpo_world.renderer import Rendering
from rrpo_world.transients import carriers, transient_shares

CODEC_FIGURES = {
    "pitch_semitones": "F0 error, semitones",
    "voicing_error": "voicing error, share of frames",
    "envelope_decibel": "envelope error, dB",
    "aperiodicity_decibel": "aperiodicity error, dB",
    "steady": "digits that stay when the audio starts 10 ms later",
}
"""Errors of the codec, and their titles."""
PEAK = 0.3
"""Of an inserted click or pop; the speech about it is brought to a peak of 0.7."""
NEAR = 0.04
"""Seconds within which an inserted click must be found again."""


def resynthesis(codec: MiniCodec, renderings: Sequence[Rendering]) -> list[dict[str, float]]:
    """Measure what the codec does to each rendering.

    Returns:
        of each its errors, those of `CODEC_FIGURES` that it has (no pitch where nothing is voiced),
        and what `transients` finds.
    """
    errors = (train_codec.measure(codec, [rendering]) for rendering in renderings)
    changed = transients(codec, [rendering.audio for rendering in renderings])
    return [
        {name: one[name] for name in CODEC_FIGURES if name in one} | found
        for one, found in zip(errors, changed, strict=True)
    ]


def transients(codec: MiniCodec, sounds: Sequence[Audio]) -> list[dict[str, float]]:
    """Insert one click and, by itself, one pop into each sound and look for it after the codec.

    Returns:
        of each sound and of "click" and "pop" whether it is "_found" within 40 ms, 0 or 1, and how
        many are found a second where none was inserted, "_false_per_second".
    """
    rng = np.random.default_rng(0)
    rows: list[dict[str, float]] = [{} for _ in sounds]
    for kind in codec_corpus.KINDS:
        for row, sound in zip(rows, sounds, strict=True):
            clean = to_peak(sound)
            start = int(rng.integers(TOKEN_SAMPLES, clean.size - 2 * TOKEN_SAMPLES))
            shape = PEAK * codec_corpus.transient(kind, rng)
            changed = clean.copy()
            changed[start : start + shape.size] += shape[: changed.size - start]
            detected = _times(codec, changed, kind)
            row[f"{kind}_found"] = float(
                any(abs(time - start / SAMPLE_RATE) <= NEAR for time in detected)
            )
            false = len(_times(codec, clean, kind)) * SAMPLE_RATE / clean.size
            row[f"{kind}_false_per_second"] = false
    return rows


def codec_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the means of `resynthesis` with their intervals by sentence.

    Args:
        rows: of each rendering what was found and its "text".

    Returns:
        "codec": the errors; "transients": of clicks and of pops "found" and "false_per_second".
    """
    return {
        "codec": {name: by_sentence(rows, name) for name in CODEC_FIGURES},
        "transients": {
            kind: {
                what: by_sentence(rows, f"{kind}_{what}") for what in ("found", "false_per_second")
            }
            for kind in codec_corpus.KINDS
        },
    }


def by_sentence(rows: Sequence[Mapping[str, Any]], name: str) -> Interval:
    """Return the mean of a figure over the rows that have it, with its interval by sentence."""
    having = [row for row in rows if name in row]
    return interval([row[name] for row in having], groups=[row["text"] for row in having])


def transient_tokens(world: World, codec: MiniCodec, contexts: int) -> dict[str, list[int]]:
    """Return the ids that say a click or a pop in at least half of the contexts they are tried in.

    Args:
        contexts: how many stretches of real speech, each of another sentence.
    """
    return carriers(transient_shares(codec, stretches(world, codec, contexts)))


def _times(codec: MiniCodec, sound: Audio, kind: str) -> list[float]:
    """Return when artifacts of a kind begin in the resynthesis of a sound."""
    detected = detect(codec.decode(codec.encode(np.clip(sound, -1, 1))), kinds=(kind,))
    return [artifact.start for artifact in detected]
