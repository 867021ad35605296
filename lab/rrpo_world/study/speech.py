"""What the judges make of a world's speech: renderings, its codec's, its base policy's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS
from rrpo.evaluate.panel import Judges, Sample, measure, summarise
from rrpo.evaluate.statistics import interval, paired_interval
from rrpo.interval import Interval
from rrpo.measures import BY_TITLE
from rrpo.mini.codec import MiniCodec
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM
from rrpo.progress import Progress
from rrpo.speaking.mini import MiniSpeaker
from rrpo_world.corpus import Line
from rrpo_world.renderer import Rendering

Rows = list[dict[str, Any]]

COMPARED = {
    ("codec", "rendering"): ("word error", "DistillMOS", "artifacts / s"),
    ("base", "codec"): ("word error", "DistillMOS", "judge probability"),
}
"""Paired differences, first minus second."""


def judged_speech(
    world: World,
    codec: MiniCodec,
    base: SpeechTokenLM,
    judges: Judges,
    acted: Sequence[tuple[Line, Rendering]],
    seeds: int,
) -> dict[str, Rows]:
    """Judge the renderings, their resynthesis and what the base policy says of the same texts.

    Returns:
        The rows of "rendering", of "codec" and of the base with each sampling seed.
    """
    rows = [_utterance(line, codec.encode(rendering.audio)) for line, rendering in acted]
    plain = [
        Sample(row.id, row.text, row.emotion, torch.from_numpy(row.tokens), rendering.audio)
        for row, (_, rendering) in zip(rows, acted, strict=True)
    ]
    systems = {
        "rendering": plain,
        "codec": MiniSpeaker(None, world, codec).samples(rows, 0),
    } | {
        f"base, seed {seed}": MiniSpeaker(base, world, codec, base).samples(rows, seed)
        for seed in range(seeds)
    }
    measured: dict[str, Rows] = {}
    with Progress("judge the speech", len(systems)) as progress:
        for number, (name, samples) in enumerate(systems.items(), start=1):
            measured[name] = measure(samples, {}, judges)
            progress.update(number)
    return measured


def speech(measured: Mapping[str, Rows], acted: Sequence[tuple[Line, Rendering]]) -> dict[str, Any]:
    """Return the figures of judged speech.

    Returns:
        "speech": of each column, of the base over all seeds and of each seed; "differences":
        what `COMPARED` lists; "renderings": what the renderings are like, by emotion.
    """
    drawn = [rows for name, rows in measured.items() if name.startswith("base")]
    columns = {"base": [row for rows in drawn for row in rows], **measured}
    order = ["rendering", "codec", "base", *list(measured)[2:]]
    return {
        "speech": {name: summarise(columns[name], "") for name in order},
        "differences": differences(
            {"rendering": [measured["rendering"]], "codec": [measured["codec"]], "base": drawn}
        ),
        "renderings": {
            emotion: _described(
                [
                    (rendering, row)
                    for (line, rendering), row in zip(acted, measured["rendering"], strict=True)
                    if line.emotion == emotion
                ]
            )
            for emotion in EMOTIONS
        },
    }


def differences(systems: Mapping[str, Sequence[Rows]]) -> dict[str, dict[str, Interval]]:
    """Return pair → measure → mean paired difference with its interval by sentence.

    Args:
        systems: name → rows of `measure` for each sampling seed, over which an utterance's figures
            are averaged first.
    """
    texts = [row["text"] for row in systems["codec"][0]]
    table: dict[str, dict[str, Interval]] = {}
    for (first, second), titles in COMPARED.items():
        found = table[f"{first} − {second}"] = {}
        for title in titles:
            one, other = (over_draws(systems[name], title) for name in (first, second))
            if one is not None and other is not None:
                found[title] = paired_interval(one, other, groups=texts)
    return table


def over_draws(rows: Sequence[Rows], title: str) -> NDArray[np.float64] | None:
    """Return a measure of each utterance, the mean over sampling seeds; None: not measured.

    Args:
        rows: of each sampling seed, of the same utterances.
    """
    found = [[BY_TITLE[title].of(row) for row in drawn] for drawn in rows]
    if any(value is None for drawn in found for value in drawn):
        return None
    return np.asarray(np.mean(np.array(found, dtype=np.float64), axis=0))


def _described(chosen: Sequence[tuple[Rendering, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return how renderings of one emotion sound, from their parameters and their judges' rows."""
    figures = _acoustics([rendering for rendering, _ in chosen])
    rows = [row for _, row in chosen]
    if "distillmos" in rows[0]["quality"]:
        figures["DistillMOS"] = interval([row["quality"]["distillmos"] for row in rows])
    if rows[0]["content_error"] is not None:
        figures["word error"] = interval([row["content_error"] for row in rows])
    return figures


def _acoustics(renderings: Sequence[Rendering]) -> dict[str, Interval]:
    """Return the mean F0, its range, duration and level of renderings."""
    voiced = [rendering.f0[rendering.f0 > 0] for rendering in renderings]
    levels = []
    for rendering in renderings:
        power = np.square(rendering.audio[: len(rendering.audio) // 320 * 320]).reshape(-1, 320)
        blocks = power.mean(1)
        levels.append(10 * np.log10(blocks[blocks > blocks.max() * 10**-3.5].mean()))
    return {
        "F0, Hz": interval([float(f0.mean()) for f0 in voiced]),
        "F0 range, semitones": interval([float(np.std(12 * np.log2(f0))) for f0 in voiced]),
        "duration, s": interval([len(one.audio) / SAMPLE_RATE for one in renderings]),
        "level, dBFS": interval(levels),
    }


def _utterance(line: Line, tokens: torch.Tensor) -> Utterance:
    return Utterance(line.id, line.text, line.emotion, tokens.numpy())


def voices(
    world: World, codec: MiniCodec, base: SpeechTokenLM, judges: Judges, utterances: int
) -> dict[str, Any]:
    """Judge real tokens and the base policy in each of its other voices, on unseen sentences."""
    figures: dict[str, Any] = {}
    for name in SPEAKERS:
        rows = world.shard(f"test_{name}")[:utterances]
        figures[name] = {}
        for label, model in (("real", None), ("base", base)):
            said = MiniSpeaker(model, world, codec, base).samples(rows, 0)
            figures[name][label] = summarise(measure(said, {}, judges), "")
    return figures
