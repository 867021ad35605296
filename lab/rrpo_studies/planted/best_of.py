"""The best of several utterances of the start: how a reward is exploited without any training."""

import math
from collections.abc import Sequence

import numpy as np

from rrpo.data.shards import Utterance
from rrpo.evaluate.panel import Sample
from rrpo.reward.differentiable import DifferentiableReward
from rrpo.speaking.best_of import BestOf
from rrpo.speaking.mini import MiniSpeaker
from rrpo_studies.planted.looks import look
from rrpo_studies.planted.plan import Job
from rrpo_studies.planted.recipes import COUNTS


def divergence(count: int) -> float:
    """Return log n − (n − 1)/n, at least the KL in nats of the best of n to what they are drawn of.

    It is an upper bound, and equal where no two utterances have the same reward and each has next
    to no probability (Beirami et al. 2024, arXiv 2401.01879).

    Examples:
        >>> divergence(1), round(divergence(8), 3)
        (0.0, 1.204)
    """
    return math.log(count) - (count - 1) / count


def best_of(
    speaker: MiniSpeaker, reward: DifferentiableReward, asked: Sequence[Utterance], job: Job
) -> tuple[list[dict[str, float]], dict[str, list[int]]]:
    """Draw as many utterances as the last of `COUNTS` of each, and take the best of the first n.

    Returns:
        for each n of `COUNTS` a look, whose step is n and whose KL is `divergence` per token; and
        the tokens of the best of all, by the utterance's id.
    """
    most = COUNTS[-1]
    drawn = speaker.say([row for row in asked for _ in range(most)], job.seed)
    prompts, looks, best = speaker.prompts(asked), [], {}
    for count in COUNTS:
        chosen = [
            BestOf(count, reward).of(prompt, drawn[index * most : index * most + count])
            for index, prompt in enumerate(prompts)
        ]
        length = float(np.mean([one.tokens.numel() for one in chosen]))
        sounds = speaker.codec.decode_batch([one.tokens for one in chosen])
        samples = [
            Sample(row.id, row.text, row.emotion, one.tokens, sound, divergence(count) / length)
            for row, one, sound in zip(asked, chosen, sounds, strict=True)
        ]
        looks.append({"step": float(count), **look(samples, job.artifact, speaker.world)})
        best = {row.id: one.tokens.tolist() for row, one in zip(asked, chosen, strict=True)}
    return looks, best
