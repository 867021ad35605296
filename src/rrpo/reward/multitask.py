"""Training a reward model of several tasks: content, voice, whether speech is spoilt or struck.

Labels come with the data (text, speaker) or are made here: some utterances of a batch are spoilt on
purpose, and struck ones (with a click or a pop in them) are given. Emotion is not among the tasks:
its reward model is hardened apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rrpo.errors import UserError
from rrpo.reward.model import RewardModel, save
from rrpo.tokens import batch as pad_batch

CLEAN, SPOILT = "clean", "spoilt"
NO_EVENT = "none"
SPOILT_SHARE, STRUCK_SHARE = 0.25, 0.15
"""Shares of a batch; the rest is speech as it is."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Speech tokens (T,) with their text ids (L,), their voice, and what struck them."""

    tokens: Tensor
    text: Tensor
    speaker: str
    event: str = NO_EVENT


def spoil(tokens: Ids, codes: int, rng: np.random.Generator) -> Ids:
    """Spoil speech (T,) in one of four ways: tokens at random, a held token, a loop, a shuffle."""
    spoilt, size = tokens.copy(), tokens.size
    way = rng.integers(4)
    if way == 0:
        wrong = rng.random(size) < rng.uniform(0.1, 0.5)
        spoilt[wrong] = rng.integers(codes, size=int(wrong.sum()))
        return spoilt
    span = min(size, int(rng.integers(6, 21)))
    start = int(rng.integers(size - span + 1))
    if way == 1:
        spoilt[start : start + span] = spoilt[start]
    elif way == 2:
        loop = spoilt[start : start + max(2, span // 4)]
        spoilt[start : start + span] = np.resize(loop, span)
    else:
        spoilt[start : start + span] = rng.permutation(spoilt[start : start + span])
    return spoilt


class MultiTaskObjective:
    """The sum of the tasks' cross-entropies and the content head's CTC loss in nats per symbol."""

    def __init__(
        self,
        model: RewardModel,
        samples: Sequence[Sample],
        struck: Sequence[Sample],
        batch_size: int = 32,
    ) -> None:
        """Keep the data.

        Args:
            samples: speech as it is.
            struck: speech with a click or a pop in it.

        Raises:
            UserError: one of the two is empty, or a speaker or event is none of the model's.
        """
        if not samples or not struck:
            raise UserError("the reward model's tasks need both clean and struck speech")
        for task, found in (
            ("speaker", {sample.speaker for sample in [*samples, *struck]}),
            ("event", {sample.event for sample in struck} | {NO_EVENT}),
        ):
            unknown = sorted(found - set(model.classes(task)))
            if unknown:
                raise UserError(f"the reward model knows no {task} {unknown[0]!r}")
        self.model, self.samples, self.struck = model, list(samples), list(struck)
        self.batch_size = batch_size

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return the sum of its tasks' losses, and each of them."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        model, size = self.model, self.batch_size
        struck_size, spoilt_size = round(size * STRUCK_SHARE), round(size * SPOILT_SHARE)
        batch = [self.struck[i] for i in rng.integers(len(self.struck), size=struck_size)]
        batch += [self.samples[i] for i in rng.integers(len(self.samples), size=size - struck_size)]
        spoilt = torch.zeros(size, dtype=torch.bool)
        spoilt[struck_size : struck_size + spoilt_size] = True
        codes = model.config.codes
        tokens = [
            torch.from_numpy(spoil(one.tokens.numpy(), codes, rng)) if bad else one.tokens
            for one, bad in zip(batch, spoilt.tolist(), strict=True)
        ]
        device = model.table.device
        ids, mask = pad_batch(tokens, device)
        hidden = model.encode(model.embed(ids), mask)
        losses = {
            task: functional.cross_entropy(
                model.classify(model.pool(hidden, mask, task), task), labels.to(device)
            )
            for task, labels in self._labels(batch, spoilt).items()
        }
        read = ~spoilt
        texts = [one.text for one, good in zip(batch, read.tolist(), strict=True) if good]
        likelihood = model.content_log_likelihood(hidden[read], mask[read], texts)
        losses["content"] = -likelihood.mean()
        total = torch.stack(list(losses.values())).sum()
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def _labels(self, batch: Sequence[Sample], spoilt: Tensor) -> dict[str, Tensor]:
        """Return each task's classes (B,); what is struck is spoilt, too."""
        model = self.model
        events = [one.event for one in batch]
        bad = [
            SPOILT if wrong or event != NO_EVENT else CLEAN
            for wrong, event in zip(spoilt.tolist(), events, strict=True)
        ]
        named = {"speaker": [one.speaker for one in batch], "event": events, "quality": bad}
        return {
            task: torch.tensor([model.classes(task).index(label) for label in labels])
            for task, labels in named.items()
        }

    def save(self, folder: Path) -> None:
        """Write the reward model into a checkpoint folder."""
        save(self.model, folder)
