"""What the mini world's codec loses, and whether it can say a click or a pop."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio, to_peak
from rrpo.codec.mini import TOKEN_SAMPLES, MiniCodec
from rrpo.codec.transients import carriers, transient_shares
from rrpo.evaluate.artifacts import detect
from rrpo.evaluate.statistics import interval
from rrpo.mini import codec_corpus, train_codec
from rrpo.mini.renderer import Rendering
from rrpo.mini.world import World
from rrpo.studies.artifact_tokens import stretches
from rrpo.studies.world_page import CODEC_FIGURES

PEAK = 0.3
"""Of an inserted click or pop; the speech about it is brought to a peak of 0.7."""
NEAR = 0.04
"""Seconds within which an inserted click must be found again."""


def codec_figures(
    codec: MiniCodec, renderings: Sequence[Rendering], texts: Sequence[str]
) -> dict[str, Any]:
    """Return the codec's errors, each a mean over utterances with its interval by sentence."""
    each = [train_codec.measure(codec, [rendering]) for rendering in renderings]
    figures = {}
    for name in CODEC_FIGURES:
        found = [(one[name], text) for one, text in zip(each, texts, strict=True) if name in one]
        values, groups = zip(*found, strict=True)
        figures[name] = interval(values, groups=groups)
    return figures


def transients(codec: MiniCodec, sounds: Sequence[Audio], texts: Sequence[str]) -> dict[str, Any]:
    """Insert one click or pop into each sound and look for it after the codec.

    Args:
        texts: what is said in each sound.

    Returns:
        Of clicks and of pops: the share that is found within 40 ms, and how many are found a
        second where none was inserted.
    """
    rng = np.random.default_rng(0)
    figures: dict[str, Any] = {}
    for kind in codec_corpus.KINDS:
        found, false = [], []
        for sound in sounds:
            clean = to_peak(sound)
            start = int(rng.integers(TOKEN_SAMPLES, clean.size - 2 * TOKEN_SAMPLES))
            shape = PEAK * codec_corpus.transient(kind, rng)
            struck = clean.copy()
            struck[start : start + shape.size] += shape[: struck.size - start]
            heard = _times(codec, struck, kind)
            found.append(float(any(abs(time - start / SAMPLE_RATE) <= NEAR for time in heard)))
            false.append(len(_times(codec, clean, kind)) * SAMPLE_RATE / clean.size)
        figures[kind] = {
            "found": interval(found, groups=texts),
            "false_per_second": interval(false, groups=texts),
        }
    return figures


def transient_tokens(world: World, codec: MiniCodec, contexts: int) -> dict[str, list[int]]:
    """Return the ids that say a click or a pop in at least half of the contexts they are tried in.

    Args:
        contexts: how many stretches of real speech, each of another sentence.
    """
    return carriers(transient_shares(codec, stretches(world, codec, contexts)))


def _times(codec: MiniCodec, sound: Audio, kind: str) -> list[float]:
    """Return when artifacts of a kind begin in the resynthesis of a sound."""
    heard = detect(codec.decode(codec.encode(np.clip(sound, -1, 1))), kinds=(kind,))
    return [artifact.start for artifact in heard]
