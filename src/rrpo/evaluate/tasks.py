"""How well the content head of a reward model reads texts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.evaluate.statistics import interval
from rrpo.interval import Interval
from rrpo.reward.labels import check_tokens
from rrpo.reward.model import RewardModel
from rrpo.tokens import batch


@torch.no_grad()
def read_classes(
    model: RewardModel, tokens: Sequence[Tensor], batch_size: int = 64
) -> list[list[int]]:
    """Return the classes that the content head reads in utterances (T_b,), from 1: the best path.

    The model is used in evaluation mode, and left in it.

    Raises:
        UserError: the model has no content head.
    """
    head, device = model.eval().content_head(), model.table.device
    read = []
    for start in range(0, len(tokens), batch_size):
        part = tokens[start : start + batch_size]
        ids, mask = batch(part, device)
        read += head.read(model.encode(model.embed(ids), mask), mask)
    return read


def symbol_error(
    model: RewardModel,
    utterances: Sequence[Utterance],
    texts: Sequence[Tensor],
    seed: int = 0,
) -> Interval:
    """Return the symbol error of a content head with its 95 % interval, over speakers if named.

    Of an utterance that is edits over symbols of its text. What the head has no class for is always
    an error.

    Args:
        texts: of each utterance its symbols (L,) int64, none empty.

    Raises:
        UserError: the model has no content head, a token is not its codec's, or a symbol is beyond
            its own.
    """
    check_tokens(utterances, model.config.codes)
    head = model.content_head()
    read = read_classes(model, [torch.from_numpy(row.tokens) for row in utterances])
    errors = []
    for found, text in zip(read, texts, strict=True):
        said = [0 if one == head.unknown else one for one in head.classes(text).tolist()]
        errors.append(edits(found, said) / len(said))
    return interval(errors, seed, groups=[row.speaker or "" for row in utterances])


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
