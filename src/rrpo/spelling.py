"""What text is to a content head: the mini world's phones, CosyVoice's text ids, or characters."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rrpo import config as configuration
from rrpo.codec.s3 import FILES as SPEECH_TOKENIZERS
from rrpo.codec_identity import codec_name
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.loading import MINI
from rrpo.mini.world import World
from rrpo.notes import note
from rrpo.policy import cosyvoice
from rrpo.policy.cosyvoice_text import CosyVoiceTokenizer
from rrpo.reward import RewardModel
from rrpo.reward.config import RewardRun
from rrpo.reward.content import TextKind, characters
from rrpo.reward.transcripts import Transcripts

CHARACTERS = "characters"


class Spelling(NamedTuple):
    """How texts become symbols.

    Attributes:
        kind: what the symbols are.
        phones: how many there are, where all are known.
        spell: turns a text into them.
        vocabulary: whose ids they are, as of `RewardConfig`.
    """

    kind: TextKind
    phones: int
    spell: Callable[[str], list[int]]
    vocabulary: str = ""


def spelling(text_of: str) -> Spelling:
    """Return what `--text-of` names.

    Raises:
        UserError: it is neither `mini` nor `characters`, and no folder with a tokenizer.
    """
    if text_of == CHARACTERS:
        return Spelling("characters", 0, characters)
    if text_of == MINI:
        phones = World().tokenizer
        return Spelling("ids", phones.vocabulary_size, phones.encode)
    path = Path(text_of)
    if not path.exists():
        raise UserError(
            f"--text-of {text_of}: there is no such folder: name mini, characters or a CosyVoice "
            "model folder"
        )
    folder = cosyvoice.model_folder(path)
    # The versions differ in added marks alone, such as phones in brackets.
    version = 3 if (folder / SPEECH_TOKENIZERS[1]).is_file() else 2
    tokenizer = CosyVoiceTokenizer(folder, version)
    return Spelling("ids", 0, tokenizer.encode, tokenizer.vocabulary)


def with_text(run: RewardRun, bundled: bool) -> RewardRun:
    """Say what text is where the configuration does not: phones, where the data is bundled.

    Raises:
        UserError: it is asked for and cannot be known, or said and not asked for.
    """
    if "content" not in run.fit.tasks:
        if run.text_of is not None:
            raise UserError("--text-of is of the task content: give --tasks emotion,content, too")
        return run
    text_of = run.text_of or (MINI if bundled else None)
    if text_of is None:
        raise UserError(
            "the task content needs --text-of: mini (English as the mini world's phones), a "
            "CosyVoice model folder (its text ids), or characters (any script)"
        )
    if text_of not in (MINI, CHARACTERS):
        text_of = str(Path(text_of).absolute())
    return run.model_copy(update={"text_of": text_of})


def transcribe(rows: Sequence[Utterance], text_of: str) -> Transcripts:
    """Turn the texts of utterances into symbols; one that cannot be read counts as none."""
    found = spelling(text_of)
    texts, unread = spell(rows, found.spell)
    if unread:
        note(f"{len(unread)} of {len(rows)} texts are not read, the first: {unread[0]}")
    return Transcripts(found.kind, texts, found.phones, found.vocabulary)


def spell(
    rows: Sequence[Utterance], encode: Callable[[str], list[int]]
) -> tuple[list[Tensor], list[str]]:
    """Return each utterance's symbols (L,) int64, empty without a text, and why some are not read.

    Args:
        encode: text to symbols; a text that it refuses is not read.
    """
    texts, unread = [], []
    for row in rows:
        symbols: list[int] = []
        if row.text.strip():
            try:
                symbols = encode(row.text)
            except UserError as error:
                unread.append(str(error))
        texts.append(torch.tensor(symbols, dtype=torch.int64))
    return texts, unread


def spelling_of(folder: str, model: RewardModel) -> Spelling | None:
    """Return how the content head of a run's reward model reads texts.

    Returns:
        None where it has no such head.

    Raises:
        UserError: nothing says which ids it reads, or that folder is not there any more.
    """
    if model.content is None:
        return None
    if model.config.text == CHARACTERS:
        return spelling(CHARACTERS)
    config = Path(folder) / "config.yaml"
    recorded = configuration.read(config).get("text_of") if config.is_file() else None
    if recorded is not None:
        return spelling(str(recorded))
    if codec_name(model.config.codec) == MINI:  # as the bundled model, or trained on from it
        return spelling(MINI)
    raise UserError("no config.yaml of its run says which text ids it reads (text_of)")
