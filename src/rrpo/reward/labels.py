"""Labels of the utterances that a reward model is fine-tuned on, and what is refused of them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.reward.model import RewardModel
from rrpo.reward.regularize import TASK


@dataclass(frozen=True)
class Labelled:
    """Utterances as they are and, behind them, a pool of mixed ones.

    Attributes:
        ids: N names.
        tokens: N tensors (T,) int64.
        labels: (N,) int64, the class of each one's own emotion.
        partners: (N,) int64, the class of what was mixed into it, else its own.
        weights: (N,) float32, lambda of the partner; 0 where nothing was mixed in.
        clean: how many are as they are.
    """

    ids: list[str]
    tokens: list[Tensor]
    labels: Tensor
    partners: Tensor
    weights: Tensor
    clean: int


def labelled(
    utterances: Sequence[Utterance],
    pool: Sequence[Utterance],
    model: RewardModel,
    whole: bool = True,
) -> Labelled:
    """Check utterances and a mix pool for a reward model, and read their labels.

    Args:
        whole: they are all that there are, and not one batch, which may be of one emotion.

    Raises:
        UserError: no utterance, an emotion or a token the model does not know, or fewer than two
            emotions.
    """
    rows, classes = [*utterances, *pool], model.classes(TASK)
    check_tokens(rows, model.config.codes)
    labels = class_indices(utterances, classes)
    if whole:
        check_classes(labels, classes)
    others, weights = partners(pool, classes)
    return Labelled(
        [row.id for row in rows],
        [torch.from_numpy(row.tokens) for row in rows],
        torch.from_numpy(np.concatenate([labels, class_indices(pool, classes)])),
        torch.cat([torch.from_numpy(labels), others]),
        torch.cat([torch.zeros(len(utterances)), weights]),
        len(utterances),
    )


def class_indices(utterances: Sequence[Utterance], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class indices (n,) of the utterances' emotions."""
    return np.array([_index(row.id, row.emotion, classes) for row in utterances], dtype=np.int64)


def partners(pool: Sequence[Utterance], classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the partners' class indices (n,) int64 and weights lambda (n,) of a mix pool."""
    labels, weights = [], []
    for row in pool:
        if not 0.0 <= row.partner_weight <= 1.0 or (
            row.partner_emotion is None and row.partner_weight > 0.0
        ):
            raise UserError(
                f"mix pool row {row.id!r} has partner {row.partner_emotion!r} with weight "
                f"{row.partner_weight}: make the pool again with `rrpo tokenize --mix K`"
            )
        labels.append(_index(row.id, row.partner_emotion or row.emotion, classes))
        weights.append(row.partner_weight)
    return torch.tensor(labels, dtype=torch.int64), torch.tensor(weights, dtype=torch.float32)


def _index(name: str, emotion: str, classes: Sequence[str]) -> int:
    try:
        return emotion_index(emotion, classes)
    except UserError as error:
        raise UserError(
            f"utterance {name!r}: {error}, leave it out, or begin a reward model of your own "
            "emotions (--from new)"
        ) from None


def check_tokens(utterances: Sequence[Utterance], codes: int) -> None:
    """Refuse no utterances at all, one without tokens and one of another codec."""
    if not utterances:
        raise UserError("there are no utterances: give at least one token shard with rows")
    for row in utterances:
        if row.tokens.size == 0:
            raise UserError(f"utterance {row.id!r} has no tokens: leave it out")
        if row.tokens.min() < 0 or row.tokens.max() >= codes:
            raise UserError(
                f"utterance {row.id!r} has a token outside 0…{codes - 1}: "
                "tokenize it with the codec of this reward model"
            )


def check_classes(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Refuse data of a single emotion; warn of emotions that have no example.

    Only a warning, because a corpus may lack an emotion that the pre-trained head has.
    """
    counts = np.bincount(labels, minlength=len(classes))
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if len(missing) > len(classes) - 2:
        raise UserError(
            f"every utterance is {classes[int(counts.argmax())]!r}: "
            "a reward model needs examples of at least two emotions"
        )
    if missing:
        warnings.warn(
            f"no example of {', '.join(missing)}: do not use this reward model for them",
            stacklevel=4,
        )
