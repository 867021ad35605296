"""Which token ids say a click or a pop.

The decoder hears a token's neighbours too, so an id is put into the middle of several stretches of
real speech, and the share of them in which an event comes out at it is what it carries. The mini
codec's decoder says itself whether there is an event; any other codec is listened to
(`rrpo_world.artifacts.carriers.carrier_shares`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.mini.codec import MiniCodec
from rrpo.tokens import digits

BATCH = 512


def reach(codec: MiniCodec) -> int:
    """Return how many tokens on each side the decoder hears."""
    return sum(codec.config.decoder_dilations)


@torch.inference_mode()
def transient_shares(
    codec: MiniCodec, contexts: Sequence[Tensor], ids: Sequence[int] | None = None
) -> Tensor:
    """Return the share of contexts (V, 2) in which each id says a click and a pop.

    Args:
        codec: decides between an event and none as when it speaks.
        contexts: stretches (2 R + 1,) int64 of real tokens, R = `reach`, whose middle is replaced.
        ids: which to try, by default all; the shares of the others are 0.

    Raises:
        UserError: there is no context, or one of another length.
    """
    middle = reach(codec)
    if not contexts or any(context.numel() != 2 * middle + 1 for context in contexts):
        raise UserError(f"give stretches of {2 * middle + 1} tokens to put each id into")
    shares = torch.zeros(SPEECH_CODES, 2)
    tried = torch.arange(SPEECH_CODES) if ids is None else torch.tensor(list(ids))
    for context in contexts:
        for first in range(0, tried.numel(), BATCH):
            batch = tried[first : first + BATCH]
            rows = context.repeat(batch.numel(), 1)
            rows[:, middle] = batch
            said = codec.predict(digits(rows).float() - 1.0).presence[:, middle] > 0
            shares[batch] += said.float() / len(contexts)
    return shares


def carriers(shares: Tensor, least: float = 0.5) -> dict[str, list[int]]:
    """Return the ids that say a click or a pop in at least a share of their contexts.

    Args:
        shares: (V, 2), from `transient_shares`.
        least: that share.
    """
    return {
        kind: torch.nonzero(shares[:, column] >= least)[:, 0].tolist()
        for column, kind in enumerate(("click", "pop"))
    }
