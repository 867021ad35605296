"""Which tokens a policy would itself say: a budget of likelihood for exchanges."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.policy import SpeechTokenLM, teacher_forced
from rrpo.policy.layout import Prompt
from rrpo.tokens import IGNORE

LIKELIEST, BATCH = 25, 16


@torch.no_grad()
def among_likeliest(
    policy: SpeechTokenLM,
    prompts: Sequence[Prompt],
    speech: Sequence[Tensor],
    count: int = LIKELIEST,
) -> list[Tensor]:
    """Return for each utterance (T_n, V) bool: the `count` likeliest tokens at each place.

    Likeliest to the policy given the prompt and the real tokens before; V is the number of codes.
    """
    codes, allowed = policy.config.codes, []
    for start in range(0, len(speech), BATCH):
        part = slice(start, start + BATCH)
        logits, targets = teacher_forced(
            policy,
            [one.text_ids for one in prompts[part]],
            list(speech[part]),
            [one.instruct_ids for one in prompts[part]],
        )
        for row, target, tokens in zip(logits, targets, speech[part], strict=True):
            # After the last token the end is predicted, which nothing is exchanged for.
            places = (target != IGNORE).nonzero()[: len(tokens), 0]
            top = row[places, :codes].topk(count, dim=-1).indices.cpu()
            may = torch.zeros(len(tokens), codes, dtype=torch.bool)
            allowed.append(may.scatter_(1, top, True))
    return allowed
