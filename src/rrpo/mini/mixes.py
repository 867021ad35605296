"""A mix pool of the mini world: its utterances spoken by the codec, mixed, and tokenized again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rrpo.data.shards import Utterance
from rrpo.mini.codec import MiniCodec
from rrpo.progress import Progress
from rrpo.sound.audio_mixup import energy_adaptive_mixup, other_than


def mix_pool(codec: MiniCodec, rows: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """Return `count` mixed versions of each utterance, each with a partner drawn at random.

    The audio is what the codec makes of the tokens, so a mix goes through the codec twice.
    """
    rng = np.random.default_rng([seed, 8])
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    mixes = []
    with Progress("mix pool", len(rows) * count) as progress:
        for version in range(count):
            for number, (row, sound) in enumerate(zip(rows, sounds, strict=True)):
                other = other_than(number, len(rows), rng)
                mixed, weight = energy_adaptive_mixup(sound, sounds[other], rng)
                mixes.append(
                    replace(
                        row,
                        id=f"{row.id}-mix{version}",
                        tokens=codec.encode(mixed).numpy(),
                        partner_emotion=rows[other].emotion,
                        partner_weight=float(weight),
                    )
                )
                progress.update(len(mixes))
    return mixes
