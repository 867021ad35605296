"""What every speaker does, whatever its tokens are of."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from rrpo.audio import Audio
from rrpo.data.shards import Utterance
from rrpo.data.tokenize import Codec
from rrpo.evaluate.panel import Sample
from rrpo.policy.layout import Prompt


class Said(NamedTuple):
    """Tokens (T,), and whether the policy ended them itself, not a limit of their length."""

    tokens: Tensor
    ended: bool


class Speaker(Protocol):
    """A policy with its tokenizer, its sampler and a codec for its tokens.

    Of the utterances that it is given it speaks the text with the emotion.
    """

    @property
    def rate(self) -> int:
        """Samples per second of `sound`."""

    @property
    def codec(self) -> Codec:
        """What its tokens are of; it encodes only where a speech tokenizer is at hand."""

    @property
    def emotions(self) -> Sequence[str]:
        """Emotions that it can be asked for."""

    def prompts(self, utterances: Sequence[Utterance]) -> list[Prompt]:
        """Return what the policy is asked for each: which a reward reads beside the tokens."""

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        """Draw the tokens of each."""

    def sound(self, tokens: Tensor) -> Audio:
        """Return the audio (N,) of tokens (T,), as good as the codec can."""

    def samples(self, utterances: Sequence[Utterance], seed: int) -> list[Sample]:
        """Speak each for the judges, at 16 kHz."""


def asked(text: str, emotion: str, speaker: str = "", name: str = "") -> Utterance:
    """Return a text to be spoken with an emotion, of which there are no tokens yet."""
    return Utterance(name, text, emotion, np.empty(0, dtype=np.int64), speaker)


def first_texts(rows: Sequence[Utterance], sentences: int) -> list[Utterance]:
    """Return the utterances of the first different texts, in their order."""
    texts = list(dict.fromkeys(row.text for row in rows))[:sentences]
    return [row for row in rows if row.text in texts]


def every_emotion(rows: Sequence[Utterance], sentences: int) -> list[Utterance]:
    """Return the first different texts of labelled speech, each with every emotion in it.

    Each keeps the language that is said of it.
    """
    languages = {row.text: row.language for row in reversed(rows)}
    texts = list(dict.fromkeys(row.text for row in rows))[:sentences]
    emotions = list(dict.fromkeys(row.emotion for row in rows))
    pairs = [(text, emotion) for text in texts for emotion in emotions]
    return [
        replace(asked(text, emotion, name=f"{number:04d}-{emotion}"), language=languages[text])
        for number, (text, emotion) in enumerate(pairs)
    ]
