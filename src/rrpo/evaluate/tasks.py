"""How well a reward model of several tasks hears: phones, voices, spoilt and struck speech."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.evaluate.statistics import interval
from rrpo.reward.fit import log_posteriors
from rrpo.reward.model import RewardModel
from rrpo.reward.multitask import CLEAN, SPOILT, Sample, spoil
from rrpo.tokens import length_mask, pad


@torch.no_grad()
def read_phones(model: RewardModel, tokens: Sequence[Tensor]) -> list[list[int]]:
    """Return what the content head reads in utterances (T_b,), its best path without blanks."""
    if model.content is None:
        raise UserError("this reward model has no content head")
    mask = length_mask(torch.tensor([one.numel() for one in tokens]))
    hidden = model.eval().encode(model.embed(pad(tokens)), mask)
    best = model.content(hidden).argmax(-1)
    read = []
    for row, size in zip(best.tolist(), mask.sum(1).tolist(), strict=True):
        kept = [one for one, before in zip(row[:size], [None, *row], strict=False) if one != before]
        read.append([one - 1 for one in kept if one])
    return read


def edits(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the least number of insertions, deletions and substitutions between two sequences.

    Examples:
        >>> edits([1, 2, 3], [1, 3, 4])
        2
    """
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            above = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
            diagonal = above
    return row[-1]


@torch.no_grad()
def figures(
    model: RewardModel, samples: Sequence[Sample], struck: Sequence[Sample], seed: int = 0
) -> dict[str, Mapping[str, Any]]:
    """Return phone error and the accuracy of each task, with 95 % intervals, on held-out speech."""
    rng = np.random.default_rng(seed)
    codes = model.config.codes
    spoilt = [torch.from_numpy(spoil(one.tokens.numpy(), codes, rng)) for one in samples]
    clean = [one.tokens for one in samples]
    read = [
        found
        for start in range(0, len(clean), 64)
        for found in read_phones(model, clean[start : start + 64])
    ]
    errors = [
        edits(found, one.text.tolist()) / one.text.numel()
        for found, one in zip(read, samples, strict=True)
    ]
    checks: dict[str, list[tuple[Tensor, str]]] = {
        "speaker": [(one.tokens, one.speaker) for one in samples],
        "quality": [(one, CLEAN) for one in clean] + [(one, SPOILT) for one in spoilt],
        "event": [(one.tokens, one.event) for one in [*struck, *samples]],
    }
    found: dict[str, Mapping[str, Any]] = {"phone_error": interval(errors, seed)}
    for task, pairs in checks.items():
        classes = model.classes(task)
        guessed = log_posteriors(model, [tokens for tokens, _ in pairs], task).argmax(-1).tolist()
        right = [
            float(classes[guess] == label) for guess, (_, label) in zip(guessed, pairs, strict=True)
        ]
        found[task] = interval(right, seed)
    return found
