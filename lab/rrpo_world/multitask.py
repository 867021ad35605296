"""Training a reward model of several tasks: content, voice, degradation and events of the speech.

Labels come with the data (text, speaker) or are made here: some utterances of a batch are degraded
on purpose, and others with an event (a click or a pop) are given. Emotion is not among the tasks:
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
from rrpo.evaluate.statistics import interval
from rrpo.evaluate.tasks import edits, read_classes
from rrpo.interval import Interval
from rrpo.reward.model import RewardModel, save
from rrpo.reward.posteriors import log_posteriors
from rrpo.tokens import batch as pad_batch

CLEAN, DEGRADED = "clean", "spoilt"  # its name in the bundled model
NO_EVENT = "none"
DEGRADED_SHARE, EVENT_SHARE = 0.25, 0.15
"""Shares of a batch; the rest is speech as it is."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Speech tokens (T,) with their text ids (L,), their voice, and the event in them."""

    tokens: Tensor
    text: Tensor
    speaker: str
    event: str = NO_EVENT


def degrade(tokens: Ids, codes: int, rng: np.random.Generator) -> Ids:
    """Degrade speech (T,) in one of four ways: random tokens, a held token, a loop, a shuffle."""
    degraded, size = tokens.copy(), tokens.size
    way = rng.integers(4)
    if way == 0:
        wrong = rng.random(size) < rng.uniform(0.1, 0.5)
        degraded[wrong] = rng.integers(codes, size=int(wrong.sum()))
        return degraded
    span = min(size, int(rng.integers(6, 21)))
    start = int(rng.integers(size - span + 1))
    if way == 1:
        degraded[start : start + span] = degraded[start]
    elif way == 2:
        loop = degraded[start : start + max(2, span // 4)]
        degraded[start : start + span] = np.resize(loop, span)
    else:
        degraded[start : start + span] = rng.permutation(degraded[start : start + span])
    return degraded


class MultiTaskObjective:
    """The sum of the tasks' cross-entropies and the content head's CTC loss in nats per symbol."""

    def __init__(
        self,
        model: RewardModel,
        samples: Sequence[Sample],
        with_event: Sequence[Sample],
        batch_size: int = 32,
    ) -> None:
        """Keep the data.

        Args:
            samples: speech as it is.
            with_event: speech with a click or a pop in it.

        Raises:
            UserError: one of the two is empty, or a speaker or event is none of the model's.
        """
        if not samples or not with_event:
            raise UserError(
                "the reward model's tasks need speech as it is and speech with an event"
            )
        for task, found in (
            ("speaker", {sample.speaker for sample in [*samples, *with_event]}),
            ("event", {sample.event for sample in with_event} | {NO_EVENT}),
        ):
            unknown = sorted(found - set(model.classes(task)))
            if unknown:
                raise UserError(f"the reward model knows no {task} {unknown[0]!r}")
        self.model, self.samples, self.with_event = model, list(samples), list(with_event)
        self.batch_size = batch_size

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return the sum of its tasks' losses, and each of them."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        model, size = self.model, self.batch_size
        event_size, degraded_size = round(size * EVENT_SHARE), round(size * DEGRADED_SHARE)
        batch = [self.with_event[i] for i in rng.integers(len(self.with_event), size=event_size)]
        batch += [self.samples[i] for i in rng.integers(len(self.samples), size=size - event_size)]
        degraded = torch.zeros(size, dtype=torch.bool)
        degraded[event_size : event_size + degraded_size] = True
        codes = model.config.codes
        tokens = [
            torch.from_numpy(degrade(one.tokens.numpy(), codes, rng)) if bad else one.tokens
            for one, bad in zip(batch, degraded.tolist(), strict=True)
        ]
        device = model.table.device
        ids, mask = pad_batch(tokens, device)
        hidden = model.encode(model.embed(ids), mask)
        losses = {
            task: functional.cross_entropy(
                model.classify(model.pool(hidden, mask, task), task), labels.to(device)
            )
            for task, labels in self._labels(batch, degraded).items()
        }
        read = ~degraded
        texts = [one.text for one, good in zip(batch, read.tolist(), strict=True) if good]
        likelihood = model.content_log_likelihood(hidden[read], mask[read], texts)
        losses["content"] = -likelihood.mean()
        total = torch.stack(list(losses.values())).sum()
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def _labels(self, batch: Sequence[Sample], degraded: Tensor) -> dict[str, Tensor]:
        """Return each task's classes (B,); what has an event is degraded, too."""
        model = self.model
        events = [one.event for one in batch]
        bad = [
            DEGRADED if wrong or event != NO_EVENT else CLEAN
            for wrong, event in zip(degraded.tolist(), events, strict=True)
        ]
        named = {"speaker": [one.speaker for one in batch], "event": events, "quality": bad}
        return {
            task: torch.tensor([model.classes(task).index(label) for label in labels])
            for task, labels in named.items()
        }

    def save(self, folder: Path) -> None:
        """Write the reward model into a checkpoint folder."""
        save(self.model, folder)


@torch.no_grad()
def figures(
    model: RewardModel, samples: Sequence[Sample], with_event: Sequence[Sample], seed: int = 0
) -> dict[str, Interval]:
    """Return phone error and the accuracy of each task, with 95 % intervals, on held-out speech."""
    rng = np.random.default_rng(seed)
    codes = model.config.codes
    degraded = [torch.from_numpy(degrade(one.tokens.numpy(), codes, rng)) for one in samples]
    clean = [one.tokens for one in samples]
    head = model.content_head()
    errors = [
        edits(found, head.classes(one.text).tolist()) / one.text.numel()
        for found, one in zip(read_classes(model, clean), samples, strict=True)
    ]
    checks: dict[str, list[tuple[Tensor, str]]] = {
        "speaker": [(one.tokens, one.speaker) for one in samples],
        "quality": [(one, CLEAN) for one in clean] + [(one, DEGRADED) for one in degraded],
        "event": [(one.tokens, one.event) for one in [*with_event, *samples]],
    }
    found: dict[str, Interval] = {"phone_error": interval(errors, seed)}
    for task, pairs in checks.items():
        classes = model.classes(task)
        guessed = log_posteriors(model, [tokens for tokens, _ in pairs], task).argmax(-1).tolist()
        right = [
            float(classes[guess] == label) for guess, (_, label) in zip(guessed, pairs, strict=True)
        ]
        found[task] = interval(right, seed)
    return found
