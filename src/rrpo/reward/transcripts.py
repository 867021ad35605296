"""What utterances say, as symbols: what the content head of a reward model is trained on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.reward.content import TextKind, frequent_symbols, least_frames
from rrpo.reward.model import RewardModel


@dataclass(frozen=True)
class Transcripts:
    """What utterances say.

    Attributes:
        kind: what the symbols are.
        texts: of each utterance its symbols (L,) int64, empty where it has no text.
        phones: n, where the symbols are 0…n-1 and each is to have a class of its own; 0: those that
            occur at least twice in different texts have one, and the others share one.
        vocabulary: whose ids they are, as of `RewardConfig`.
    """

    kind: TextKind
    texts: Sequence[Tensor]
    phones: int = 0
    vocabulary: str = ""


def prepare_head(model: RewardModel, transcripts: Transcripts, seed: int) -> None:
    """Give a reward model a content head for transcripts, or keep the one that knows them.

    Args:
        seed: of the new head's weights.

    Raises:
        UserError: no symbol occurs twice, or the model's head has other symbols.
    """
    symbols: list[int] = []
    if not transcripts.phones:
        symbols = frequent_symbols(text.tolist() for text in transcripts.texts)
        if not symbols:
            raise UserError("no symbol occurs twice in the texts: a content head needs more text")
    config = model.config
    if model.content is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.add_content_head(
                transcripts.kind, transcripts.phones, symbols, transcripts.vocabulary
            )
    elif (config.text, config.phones) != (transcripts.kind, transcripts.phones) or not (
        set(symbols) <= set(config.symbols) and config.vocabulary in ("", transcripts.vocabulary)
    ):
        raise UserError(
            "the reward model has a content head of other symbols than these texts have: begin "
            "with one that has none, or train it on the texts and the --text-of that it knows"
        )
    elif not config.vocabulary:  # of a head of before it was recorded
        model.config = config.model_copy(update={"vocabulary": transcripts.vocabulary})


def readable_texts(
    model: RewardModel, utterances: Sequence[Utterance], transcripts: Transcripts | None
) -> list[Tensor | None]:
    """Return the symbols (L,) int64 of each utterance that the content head can be trained on.

    None stands for no text, one of which the head knows no symbol, and one that is too long to be
    aligned with the utterance's tokens; these are warned of.

    Raises:
        UserError: there is none, or a symbol is beyond the head's.
    """
    head = model.content_head()
    found: list[Tensor | None] = [None] * len(utterances)
    known = too_long = 0
    for place, text in enumerate([] if transcripts is None else transcripts.texts):
        # A text of symbols that occur once each would teach the head that unknown is likely.
        if not text.numel() or (not head.phones and not set(text.tolist()) & set(head.symbols)):
            continue
        known += 1
        if utterances[place].tokens.size < least_frames(head.classes(text)):
            too_long += 1
            continue
        found[place] = text
    if known == too_long:
        reason = f"the texts of all {known} are longer than their speech" if known else "none here"
        raise UserError(
            f"the task content needs utterances with text ({reason}): give the manifest a column "
            "`text` and tokenize it again, or train without it (--tasks emotion)"
        )
    if too_long:
        warnings.warn(
            f"{too_long} of {known} texts have more symbols than their speech has tokens, and are "
            "left out of the content loss",
            stacklevel=3,
        )
    return found
