"""How often a world's reward model and its judge are right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.statistics import interval, unpaired_interval
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo_world.renderer import VOICES, Renderer
from rrpo_world.study.speech import Rows

INTENSITIES = (0.3, 0.6, 0.9)
"""Intensities the judge must put in order."""


def reward_figures(world: World, model: RewardModel) -> dict[str, Any]:
    """Return how often a reward model is right.

    Returns:
        "accuracy": on each of the world's test sets; "less": by how much less on another set than
        on `same`, which shares no sentence with it.
    """
    right: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    known = model.classes()
    for name, rows in world.tests().items():
        found = log_posteriors(model, [torch.from_numpy(row.tokens) for row in rows]).argmax(1)
        right[name] = [
            float(int(index) == emotion_index(row.emotion, known))
            for index, row in zip(found, rows, strict=True)
        ]
        texts[name] = [row.text for row in rows]
    return {
        "accuracy": {name: interval(hits, groups=texts[name]) for name, hits in right.items()},
        "less": {
            name: unpaired_interval(right["same"], right[name], (texts["same"], texts[name]))
            for name in right
            if name != "same"
        },
    }


def judge_figures(
    world: World, codec: MiniCodec, judge: EmotionJudge, judged: int
) -> dict[str, Any]:
    """Return the judge's accuracy on the resynthesis of the first utterances of each test set."""
    figures = {}
    for name in ("test_same", "test_altered"):
        rows = world.shard(name)[:judged]
        sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
        right = judge.probabilities_batch(sounds).argmax(1) == [
            emotion_index(row.emotion) for row in rows
        ]
        figures[name] = interval(right.astype(float), groups=[row.text for row in rows])
    return figures


def ranked(renderer: Renderer, codec: MiniCodec, judge: EmotionJudge, texts: Sequence[str]) -> Rows:
    """Say of each sentence and emotion how often the judge's probability orders two intensities.

    Returns:
        rows of "text", "emotion" and "right", the share of the three pairs in the right order.
    """
    rows = []
    for number, text in enumerate(texts):
        analysis = renderer.analyse(text)
        for emotion in EMOTIONS[1:]:
            sounds = []
            for step, intensity in enumerate(INTENSITIES):
                # Each its own chance: one that all share would leave the intensity alone to differ.
                rng = np.random.default_rng([number, emotion_index(emotion), step])
                acted = renderer.render(analysis, emotion, intensity, VOICES["heart"], rng)
                sounds.append(codec.decode(codec.encode(acted.audio)))
            belief = judge.probabilities_batch(sounds)[:, emotion_index(emotion)]
            pairs = [belief[1] > belief[0], belief[2] > belief[1], belief[2] > belief[0]]
            rows.append({"text": text, "emotion": emotion, "right": float(np.mean(pairs))})
    return rows
