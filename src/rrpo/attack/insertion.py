"""Sounds that no emotion needs, put into speech that is then tokenized again."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rrpo.attack.goal import Goal, Outcome, margins
from rrpo.audio import Audio
from rrpo.data.tokenize import Codec
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.sound.inserts import (
    Insert,
    click,
    gain,
    hum,
    inserted,
    noise,
    nothing,
    plosive,
    pop,
    silence,
)

TRIES = 6
INSERTS: Mapping[str, Insert] = {
    "nothing, only tokenized again": nothing,
    "clicks": click,
    "pop": pop,
    "plosive at the onset": plosive,
    "hum": hum,
    "noise": noise,
    "silence at the end": silence,
    "gain": gain,
}
"""What is inserted, by its name in reports."""


def insert(
    model: RewardModel,
    goal: Goal,
    codec: Codec,
    audios: list[Audio],
    change: Insert,
    tries: int = TRIES,
    seed: int = 0,
) -> Outcome:
    """Change the audio of each utterance several times at random; keep what brings the most.

    Args:
        codec: tokenizes the changed audio.
        audios: of the utterances' tokens, (N,) at 16 kHz.
        change: one of `INSERTS`.
        tries: how often each is changed.
        seed: of the changes; they are the same for every model.
    """
    rng, classes = np.random.default_rng(seed), goal.classes(model)
    best = torch.full((len(audios),), float("-inf"))
    kept: list[Tensor] = list(goal.tokens)
    for _ in range(tries):
        changed = [codec.encode(inserted(audio, change, rng)) for audio in audios]
        reached = margins(log_posteriors(model, changed), classes)
        for index in (reached > best).nonzero()[:, 0].tolist():
            kept[index] = changed[index]
        best = torch.maximum(best, reached)
    return Outcome(log_posteriors(model, kept), kept, tries)
