"""Sequences and targets: how text and speech stand in the LM's input (CosyVoice2's unistream)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.tokens import IGNORE, pad


def prompt(config: LMConfig, text: Tensor, instruct: Tensor | None) -> Tensor:
    """Return the joint ids `[sos] instruct… text… [task]` (L + 2,) that precede speech.

    Raises:
        UserError: the text is empty or an id lies outside the text vocabulary.
    """
    words = text if instruct is None else torch.cat([instruct, text])
    if text.numel() == 0:
        raise UserError("the text is empty: give at least one word")
    if int(words.min()) < 0 or int(words.max()) >= config.text_vocabulary:
        raise UserError(
            f"a text id lies outside 0…{config.text_vocabulary - 1}: "
            "the tokenizer does not belong to this policy"
        )
    ends = words.new_tensor([config.sos_id, config.task_id])
    return torch.cat([ends[:1], words, ends[1:]])


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
    ids, targets = [], []
    for index, tokens in enumerate(speech):
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= config.codes):
            raise UserError(f"a speech token lies outside 0…{config.codes - 1}: wrong codec")
        head = prompt(config, text[index], None if instruct is None else instruct[index])
        ids.append(torch.cat([head, tokens + config.text_vocabulary]))
        silent = head.new_full((head.numel() - 1,), IGNORE)
        targets.append(torch.cat([silent, tokens, head.new_tensor([config.eos])]))
    return pad(ids), pad(targets, IGNORE)


def teacher_forced(
    model: SpeechTokenLM,
    text: Sequence[Tensor],
    speech: Sequence[Tensor],
    instruct: Sequence[Tensor] | None = None,
    layout: str = "unistream",
) -> tuple[Tensor, Tensor]:
    """Run one teacher-forced pass.

    Args:
        text, speech, instruct: B 1-D int64 tensors each.
        layout: only "unistream" so far.

    Returns:
        Logits (B, S, V) and targets (B, S), `IGNORE` where nothing is predicted.
    """
    if layout != "unistream":
        raise UserError(f"unknown layout {layout!r}: choose unistream")
    device = model.head.weight.device
    ids, targets = unistream(model.config, text, speech, instruct)
    return model(ids.to(device)), targets.to(device)
