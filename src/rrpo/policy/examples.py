"""What a policy is trained on or asked for: text, instruction and speech as ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.errors import UserError


class Tokenizer(Protocol):
    """Text and emotion as ids of the policy's text vocabulary."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""

    def instruct(self, emotion: str, speaker: str = "", /) -> list[int]:
        """Return the ids of the instruction that asks for an emotion, its end included.

        A tokenizer that has a name for the speaker asks for that voice too.
        """


@dataclass(frozen=True)
class Prompt:
    """A text to speak with an emotion: ids (L,) and (I,) beside what they were made from.

    `speaker` is empty where no voice is asked for.
    """

    text: str
    emotion: str
    text_ids: Tensor
    instruct_ids: Tensor
    speaker: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt and the speech tokens (T,) that answer it."""

    prompt: Prompt
    speech: Tensor


def make_prompt(tokenizer: Tokenizer, text: str, emotion: str, speaker: str = "") -> Prompt:
    """Tokenize a text, an emotion and, where the tokenizer names voices, a speaker."""
    return Prompt(
        text,
        emotion,
        torch.tensor(tokenizer.encode(text)),
        torch.tensor(tokenizer.instruct(emotion, speaker)),
        speaker,
    )


def make_prompts(
    tokenizer: Tokenizer, utterances: Sequence[Utterance], source: Path | str | None = None
) -> list[Prompt]:
    """Tokenize the texts and emotions of utterances.

    Args:
        source: where they lie, for the message of a mistake.

    Raises:
        UserError: a text or an emotion cannot be read; the message names the utterance, if it has
            a name.
    """
    prompts = []
    for row in utterances:
        try:
            prompts.append(make_prompt(tokenizer, row.text, row.emotion, row.speaker))
        except UserError as error:
            where = "" if source is None else f"{source}: "
            name = f"utterance {row.id!r}: " if row.id else ""
            raise UserError(f"{where}{name}{error}") from None
    return prompts


def make_examples(
    tokenizer: Tokenizer, utterances: Sequence[Utterance], source: Path | str | None = None
) -> list[Example]:
    """Tokenize the texts of labelled utterances; see `make_prompts`."""
    prompts = make_prompts(tokenizer, utterances, source)
    return [
        Example(prompt, torch.from_numpy(row.tokens))
        for prompt, row in zip(prompts, utterances, strict=True)
    ]


def described(prompt: Prompt, **speech: Tensor) -> dict[str, Any]:
    """Return a prompt and utterances (T,) by name as JSON can hold them, for a look."""
    tokens = {name: ids.tolist() for name, ids in speech.items()}
    return {
        "text": prompt.text,
        "emotion": prompt.emotion,
        "speaker": prompt.speaker,
        **tokens,
    }


def choose(count: int, size: int, generator: torch.Generator) -> list[int]:
    """Draw `count` of `size` indices, without repetition where there are enough."""
    if count <= size:
        return torch.randperm(size, generator=generator)[:count].tolist()
    return torch.randint(size, (count,), generator=generator).tolist()
