"""Sounds put into the mini world's speech, whose audio is the codec's own."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rrpo.data.shards import Utterance
from rrpo.mini.codec import MiniCodec
from rrpo.sound.inserts import Insert, inserted


def with_sound(
    codec: MiniCodec, rows: Sequence[Utterance], insert: Insert, seed: int, everywhere: bool = False
) -> list[Utterance]:
    """Return utterances with a sound in each.

    Both the audio with it and the audio without are tokenized, and only tokens in which these two
    differ take the place of the utterance's own: tokenizing speech again changes two thirds of its
    tokens, and adds clicks, which would tell these utterances from others, too. Of five clicks a
    quarter of the tokens differ, of a plosive and of silence a twentieth. Of what sounds everywhere
    all tokens are taken, and beside it stand utterances that were tokenized again
    (`tokenized_again`).

    Args:
        codec: turns tokens to audio and back.
        rows: what it is put into.
        insert: puts it into audio.
        seed: of its places and levels.
        everywhere: it sounds through the whole utterance.
    """
    rng = np.random.default_rng(seed)
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    found = []
    for row, sound in zip(rows, sounds, strict=True):
        having = codec.encode(inserted(sound, insert, rng)).numpy()
        if not everywhere:
            without = codec.encode(sound).numpy()
            size = min(len(without), len(having), len(row.tokens))
            same = without[:size] == having[:size]
            having[:size][same] = row.tokens[:size][same]
        found.append(replace(row, tokens=having))
    return found


def tokenized_again(codec: MiniCodec, rows: Sequence[Utterance]) -> list[Utterance]:
    """Return utterances whose audio was tokenized once more."""
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    return [
        replace(row, tokens=codec.encode(sound).numpy())
        for row, sound in zip(rows, sounds, strict=True)
    ]
