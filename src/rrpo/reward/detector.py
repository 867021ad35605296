"""Detectors of what is feared: a reward model whose task is whether speech has it.

Not of the paper, whose regularizers do not know what to look for. Who has heard a policy click, or
can insert what he fears, trains a detector on such speech and gives it to the policy beside the
reward model: the term "event" of the reward is then log p(none).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rrpo.config import Strict
from rrpo.data.copies import spelt_alike
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.reward.config import LossConfig, RewardConfig
from rrpo.reward.labels import check_tokens
from rrpo.reward.model import RewardModel, save
from rrpo.reward.posteriors import log_posteriors
from rrpo.schedule import TrainConfig
from rrpo.tokens import batch

EVENT = "event"
"""The task, a term of the reward."""
CLASSES = ("none", "event")


class DetectorRun(Strict):
    """Training a detector.

    Half of a step's `batch_size` utterances have what is to be detected; `held_out` is the share of
    texts that the detector is tested on before and after its training.
    """

    train: TrainConfig = TrainConfig(
        steps=120, learning_rate=3e-4, warmup_steps=12, schedule="cosine"
    )
    batch_size: int = Field(default=32, ge=2)
    held_out: float = Field(default=0.1, gt=0, lt=1)


def new_detector(start: RewardModel, seed: int) -> RewardModel:
    """Return a detector with a reward model's encoder and an untrained head.

    Args:
        start: any reward model of the codec.
        seed: of the head.
    """
    shape = start.config.model_dump() | {
        "tasks": {EVENT: list(CLASSES)},
        "phones": 0,
        "symbols": [],
        "text": "ids",
        "loss": LossConfig(),
    }
    torch.manual_seed(seed)
    model = RewardModel(RewardConfig.model_validate(shape))
    encoder = {
        name: weight
        for name, weight in start.state_dict().items()
        if name.split(".")[0] in ("embedding", "encoder", "norm")
    }
    model.load_state_dict(model.state_dict() | encoder)
    return model


def divided(
    rows: Sequence[Utterance], others: Sequence[Utterance], share: float, seed: int
) -> tuple[list[Utterance], list[Utterance], list[Utterance], list[Utterance]]:
    """Return those of both that train and those of both that are held out, by text, else by id.

    Raises:
        UserError: one kind would be wanting on one side.
    """

    def key(row: Utterance) -> str:
        return spelt_alike(row.text) or row.id

    texts = sorted(set(map(key, [*rows, *others])))
    np.random.default_rng(seed).shuffle(texts)
    held = set(texts[: max(1, round(share * len(texts)))])
    kept, tested = (
        [[row for row in part if (key(row) in held) == side] for part in (rows, others)]
        for side in (False, True)
    )
    if not all(kept) or not all(tested):
        raise UserError(
            f"{len(held)} of {len(texts)} texts are held out (held_out={share:g}), and then speech "
            "with the sound or without it is lacking to train or to test on: give more texts of "
            "both, or another held_out"
        )
    return kept[0], kept[1], tested[0], tested[1]


class DetectorObjective:
    """Cross-entropy of the two classes, each half of a batch, whatever their numbers in the data.

    Attributes:
        model: the detector.
    """

    def __init__(
        self,
        model: RewardModel,
        without: Sequence[Utterance],
        having: Sequence[Utterance],
        batch_size: int = 32,
    ) -> None:
        """Check the data.

        Args:
            model: to be trained; it has the task `EVENT` of two classes.
            without: speech without what is to be detected.
            having: speech with it.
            batch_size: B, of a step.

        Raises:
            UserError: one of both is empty, or has a token that the model does not know.
        """
        for rows in (without, having):
            check_tokens(rows, model.config.codes)
        self.model, self._rows, self._batch_size = model, (list(without), list(having)), batch_size
        self._last: list[Utterance] = []

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch; return its loss, a scalar in nats, and `loss_event` and `accuracy`."""
        half = self._batch_size // 2
        sizes = (self._batch_size - half, half)
        self._last = [
            rows[place]
            for rows, size in zip(self._rows, sizes, strict=True)
            for place in torch.randint(
                len(rows), (size,), generator=generator, device=generator.device
            ).tolist()
        ]
        device = self.model.table.device
        labels = torch.tensor([0] * sizes[0] + [1] * sizes[1], device=device)
        tokens, mask = batch([torch.from_numpy(row.tokens) for row in self._last], device)
        logits = self.model(tokens, mask, EVENT)
        value = functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(-1) == labels).float().mean()
        return value, {"loss_event": value.item(), "accuracy": accuracy.item()}

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from."""
        return [{"id": row.id, "tokens": row.tokens.tolist()} for row in self._last]

    def save(self, folder: Path) -> None:
        """Write the detector into a checkpoint folder."""
        save(self.model, folder)


def detected(model: RewardModel, rows: Sequence[Utterance]) -> Tensor:
    """Return p(event) (N,) of utterances.

    Raises:
        UserError: the model is no detector.
    """
    found = log_posteriors(model, [torch.from_numpy(row.tokens) for row in rows], EVENT)
    return 1 - found[:, model.classes(EVENT).index(CLASSES[0])].exp()


def detection(
    model: RewardModel, without: Sequence[Utterance], having: Sequence[Utterance]
) -> dict[str, float]:
    """Return how a detector does: shares of utterances with p(event) above a half.

    Returns:
        "found", of those that have it; "false_alarms", of those that do not.
    """
    parts = {"found": having, "false_alarms": without}
    return {
        name: float((detected(model, rows) > 0.5).float().mean()) for name, rows in parts.items()
    }
