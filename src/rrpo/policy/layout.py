"""Text, instruction and speech as ids, and how they stand in the LM's input.

There are CosyVoice's two layouts, each with its targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.data.stream import Streamed
from rrpo.errors import UserError
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.tokens import IGNORE, pad


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

    `speaker` is empty where no voice is asked for, `language` where it is not known.
    """

    text: str
    emotion: str
    text_ids: Tensor
    instruct_ids: Tensor
    speaker: str = ""
    language: str = ""


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


def make_prompts(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> list[Prompt]:
    """Tokenize the texts and emotions of utterances.

    Raises:
        UserError: a text or an emotion cannot be read; the message names the utterance, if it has
            a name.
    """
    prompts = []
    for row in utterances:
        try:
            made = make_prompt(tokenizer, row.text, row.emotion, row.speaker)
            prompts.append(replace(made, language=row.language))
        except UserError as error:
            name = f"utterance {row.id!r}: " if row.id else ""
            raise UserError(f"{name}{error}") from None
    return prompts


def make_examples(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> list[Example]:
    """Tokenize the texts of labelled utterances; see `make_prompts`."""
    prompts = make_prompts(tokenizer, utterances)
    return [
        Example(prompt, torch.from_numpy(row.tokens))
        for prompt, row in zip(prompts, utterances, strict=True)
    ]


def split(examples: Sequence[Example]) -> tuple[Sequence[Prompt], Sequence[Tensor]]:
    """Return the prompts of examples and the speech tokens (T,) that answer each."""
    if isinstance(examples, Streamed):
        return examples.map(lambda one: one.prompt), examples.map(lambda one: one.speech)
    return [one.prompt for one in examples], [one.speech for one in examples]


def described(prompt: Prompt, **speech: Tensor) -> dict[str, Any]:
    """Return a prompt and utterances (T,) by name as JSON can hold them, for a look."""
    tokens = {name: ids.tolist() for name, ids in speech.items()}
    return {
        "text": prompt.text,
        "emotion": prompt.emotion,
        "speaker": prompt.speaker,
        **tokens,
    }


def choose(count: int, rows: Sequence[Any], generator: torch.Generator) -> list[int]:
    """Draw `count` indices of rows, without repetition where there are enough.

    Of rows that are streamed they are the next ones, and nothing is drawn.
    """
    if isinstance(rows, Streamed):
        return rows.take(count)
    size = len(rows)
    if count <= size:
        return torch.randperm(size, generator=generator)[:count].tolist()
    return torch.randint(size, (count,), generator=generator).tolist()


TEXT_BLOCK, SPEECH_BLOCK = 5, 15
"""Text ids and codes that alternate in the bistream layout."""


@dataclass(frozen=True)
class Recording:
    """A recording to speak on from (zero-shot): its text ids (P,) and its codes (Q,)."""

    text: Tensor
    speech: Tensor


def prompt(
    config: LMConfig, text: Tensor, instruct: Tensor | None, recording: Recording | None = None
) -> Tensor:
    """Return the joint ids that precede speech, (S,).

    They are `[sos] instruct… [recording's text…] text… [task] [recording's speech…]`.
    Without a recording this is CosyVoice's instruct2 (with an instruction) or cross-lingual layout
    (without one), with a recording its zero-shot layout.

    Raises:
        UserError: the text is empty or an id lies outside its vocabulary.
    """
    if text.numel() == 0:
        raise UserError("the text is empty: give at least one word")
    before = [] if instruct is None else [instruct]
    words = torch.cat([*before, *([] if recording is None else [recording.text]), text])
    if int(words.min()) < 0 or int(words.max()) >= config.text_vocabulary:
        raise UserError(
            f"a text id lies outside 0…{config.text_vocabulary - 1}: "
            "the tokenizer does not belong to this policy"
        )
    ends = words.new_tensor([config.sos_id, config.task_id])
    spoken_before = []
    if recording is not None:
        check_speech(config, recording.speech)
        spoken_before = [recording.speech + config.text_vocabulary]
    return torch.cat([ends[:1], words, ends[1:], *spoken_before])


def unistream(
    config: LMConfig,
    text: Sequence[Tensor],
    speech: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lay out a batch as `[sos] instruct text [task] speech`, right-padded.

    Args:
        text, speech, instruct: B tensors of int64 ids, lengths L_b, T_b and I_b.

    Returns:
        Joint ids (B, S) and targets (B, S) of speech ids: the task position predicts the first
        token, the last token predicts eos, everything else is `IGNORE`.

    Raises:
        UserError: an id lies outside its vocabulary, or a text is empty.
    """
    told: Sequence[Tensor | None] = instruct or [None] * len(text)
    prompts = [prompt(config, *row) for row in zip(text, told, strict=True)]
    for tokens in speech:
        check_speech(config, tokens)
    return continued(config, prompts, speech)


def continued(
    config: LMConfig, prompts: Sequence[Tensor], speech: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Lay out a batch as `unistream` does, of prompts that are laid out already (`prompt`)."""
    rows = [_continued(config, *row) for row in zip(prompts, speech, strict=True)]
    ids, targets = zip(*rows, strict=True)
    return pad(ids), pad(targets, IGNORE)


def bistream(
    config: LMConfig,
    text: Sequence[Tensor],
    speech: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lay out a batch as blocks of 5 text ids and 15 codes, then `text [task] speech`.

    The last id of a text block predicts the block's first code, its last code predicts `fill`,
    which is never an input. A row whose codes do not outnumber its text 3 to 1 is unistream.

    Args and returns as `unistream`.
    """
    ids, targets = [], []
    for index, tokens in enumerate(speech):
        words, spoken = text[index].numel(), tokens.numel()
        told = None if instruct is None else instruct[index]
        if spoken * TEXT_BLOCK <= words * SPEECH_BLOCK:
            check_speech(config, tokens)
            row = _continued(config, prompt(config, text[index], told), tokens)
        else:
            row = _bistream(config, text[index], tokens, told)
        ids.append(row[0])
        targets.append(row[1])
    return pad(ids), pad(targets, IGNORE)


LAYOUTS = {"unistream": unistream, "bistream": bistream}


def _continued(config: LMConfig, head: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the joint ids (S,) and targets (S,) of one row, a prompt and its speech."""
    silent = head.new_full((head.numel() - 1,), IGNORE)
    return (
        torch.cat([head, tokens + config.text_vocabulary]),
        torch.cat([silent, tokens, head.new_tensor([config.eos])]),
    )


def _bistream(
    config: LMConfig, text: Tensor, tokens: Tensor, instruct: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the joint ids (S,) and targets (S,) of one row."""
    check_speech(config, tokens)
    head = prompt(config, text, instruct)
    before = head.numel() - 1 - text.numel()  # sos and the instruction
    blocks = text.numel() // TEXT_BLOCK
    ids, targets = [head[:before]], [head.new_full((before,), IGNORE)]
    for block in range(blocks):
        said = tokens[block * SPEECH_BLOCK : (block + 1) * SPEECH_BLOCK]
        ids += [text[block * TEXT_BLOCK : (block + 1) * TEXT_BLOCK], said + config.text_vocabulary]
        targets += [head.new_full((TEXT_BLOCK - 1,), IGNORE), said, head.new_tensor([config.fill])]
    rest = tokens[blocks * SPEECH_BLOCK :]
    tail = text[blocks * TEXT_BLOCK :]
    ids += [tail, head[-1:], rest + config.text_vocabulary]
    targets += [head.new_full((tail.numel(),), IGNORE), rest, head.new_tensor([config.eos])]
    return torch.cat(ids), torch.cat(targets)


def check_speech(config: LMConfig, tokens: Tensor) -> None:
    """Refuse speech tokens (T,) that are none of the policy's codes."""
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= config.codes):
        raise UserError(f"a speech token lies outside 0…{config.codes - 1}: wrong codec")


def teacher_forced(
    model: SpeechTokenLM,
    text: Sequence[Tensor],
    speech: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
    layout: str = "unistream",
) -> tuple[Tensor, Tensor]:
    """Run one teacher-forced pass.

    Args:
        text: B 1-D int64 tensors.
        speech: likewise.
        instruct: likewise, or None.
        layout: "unistream" or "bistream".

    Returns:
        Logits (B, S, V) and targets (B, S), `IGNORE` where nothing is predicted.

    Raises:
        UserError: an unknown layout, an id outside its vocabulary, or an empty text.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    if not text or len(text) != len(speech) or (instruct and len(instruct) != len(text)):
        raise UserError("give as many texts, utterances and instructions as each other, and one")
    device = model.head.weight.device
    ids, targets = LAYOUTS[layout](model.config, text, speech, instruct)
    return model(ids.to(device)), targets.to(device)
