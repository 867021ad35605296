"""Data of the multi-task reward model: utterances of the world, some with a click or a pop."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from rrpo.audio import to_peak
from rrpo.data.shards import Utterance
from rrpo.mini.codec import TOKEN_SAMPLES, MiniCodec
from rrpo.mini.text import SPEAKERS, PhoneTokenizer
from rrpo.progress import Progress
from rrpo.reward import RewardConfig
from rrpo.reward.reward import MAIN_VOICE
from rrpo_world import codec_corpus
from rrpo_world.corpus import read_part
from rrpo_world.multitask import CLEAN, DEGRADED, NO_EVENT, Sample

EVENTS = 3000
"""Utterances that get a click or a pop, of a peak of .15 to .5 in speech of .7."""
EVERY = 3


def config(tokenizer: PhoneTokenizer) -> RewardConfig:
    """Return the shape of the bundled multi-task reward model."""
    return RewardConfig(
        width=96,
        layers=3,
        heads=4,
        feedforward=384,
        phones=tokenizer.vocabulary_size,
        tasks={
            "quality": [DEGRADED, CLEAN],
            "speaker": [MAIN_VOICE, *SPEAKERS],
            "event": [NO_EVENT, *codec_corpus.KINDS],
        },
    )


def as_sample(row: Utterance, tokenizer: PhoneTokenizer, event: str = NO_EVENT) -> Sample:
    """Return an utterance with its phones."""
    return Sample(
        torch.from_numpy(row.tokens),
        torch.tensor(tokenizer.encode(row.text)),
        row.speaker if row.speaker in SPEAKERS else MAIN_VOICE,
        event,
    )


def insert_events(
    rendered: Path,
    rows: Mapping[str, Utterance],
    codec: MiniCodec,
    count: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Utterance, str]]:
    """Insert a click or a pop into rendered speech and tokenize it again.

    Args:
        rendered: a rendered part.
        rows: its utterances by id.
        count: how many get one; every third utterance is.

    Yields:
        The utterance with its new tokens, and the kind of event.
    """
    made = 0
    with Progress("insert events", count) as progress:
        for number, (line, audio) in enumerate(read_part(rendered)):
            if made == count or number % EVERY or line.id not in rows:
                continue
            kind = codec_corpus.KINDS[made % len(codec_corpus.KINDS)]
            sound = to_peak(audio)
            start = int(rng.integers(TOKEN_SAMPLES, sound.size - 2 * TOKEN_SAMPLES))
            shape = rng.uniform(0.15, 0.5) * codec_corpus.transient(kind, rng)
            sound[start : start + shape.size] += shape[: sound.size - start]
            tokens = codec.encode(np.clip(sound, -1.0, 1.0).astype(np.float32))
            yield Utterance(**{**vars(rows[line.id]), "tokens": tokens.numpy()}), kind
            made += 1
            progress.update(made)


def held_texts(rows: Sequence[Utterance], share: float, seed: int) -> set[str]:
    """Choose the texts that no reward model of tasks is trained on."""
    texts = sorted({row.text for row in rows})
    np.random.default_rng([seed, 12]).shuffle(texts)
    return set(texts[: max(1, round(share * len(texts)))])
