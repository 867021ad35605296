"""Supervised fine-tuning: cross-entropy of labelled speech tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rrpo import policy
from rrpo.config import Strict
from rrpo.data.copies import spelt_alike
from rrpo.data.stream import Streamed, carried_by
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example, choose, described, unistream
from rrpo.tokens import IGNORE


class SFTConfig(Strict):
    """Settings of supervised fine-tuning."""

    batch_size: int = Field(16, ge=1)


class SFTObjective:
    """Mean cross-entropy over speech tokens and eos, as CosyVoice2 trains (no label smoothing).

    Attributes:
        carried: the place in examples that are streamed; part of a checkpoint.
        weight: how many predicted positions the last loss is a mean over.
    """

    def __init__(self, model: SpeechTokenLM, examples: Sequence[Example], config: SFTConfig):
        if not examples:
            raise UserError(
                "no utterance to fine-tune on: the shard or its part for training is empty, or "
                "held_out takes all"
            )
        self.model, self.examples, self.config = model, examples, config
        self.carried = carried_by(examples)
        self._chosen: list[int] = []
        self.weight = 1.0

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a random batch and its metrics."""
        self._chosen = choose(self.config.batch_size, self.examples, generator)
        examples = [self.examples[index] for index in self._chosen]
        self.weight = float(sum(example.speech.numel() + 1 for example in examples))
        loss = cross_entropy(self.model, examples)
        return loss, {"cross_entropy": float(loss.detach())}

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from."""
        drawn = [self.examples[index] for index in self._chosen]
        return [described(example.prompt, tokens=example.speech) for example in drawn]

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)


def cross_entropy(lm: SpeechTokenLM, examples: Sequence[Example]) -> Tensor:
    """Return the cross-entropy in nats, averaged over all predicted positions of the batch."""
    ids, targets = unistream(
        lm.config,
        [example.prompt.text_ids for example in examples],
        [example.speech for example in examples],
        [example.prompt.instruct_ids for example in examples],
    )
    device = lm.head.weight.device
    targets = targets.to(device)
    keep = targets != IGNORE
    return F.cross_entropy(lm(ids.to(device), keep).float(), targets[keep])


@torch.no_grad()
def held_out_loss(lm: SpeechTokenLM, examples: Sequence[Example], batch_size: int = 32) -> float:
    """Return the cross-entropy per predicted token over all examples, in nats."""
    was_training = lm.training
    lm.eval()
    total, count = 0.0, 0
    ordered = sorted(examples, key=lambda example: example.speech.numel())
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        positions = sum(example.speech.numel() + 1 for example in batch)
        total += float(cross_entropy(lm, batch)) * positions
        count += positions
    lm.train(was_training)
    return total / count


def hold_out(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[Sequence[Example], list[Example]]:
    """Split examples by text: all readings of a sentence, however spelt, go to one side.

    Of those that are streamed the texts were held out when the shards were scanned.
    """
    if isinstance(examples, Streamed):
        return examples, examples.held_out()

    def key(example: Example) -> str:
        return spelt_alike(example.prompt.text)

    texts = sorted(set(map(key, examples)))
    if len(texts) < 2:
        raise UserError(
            f"{len(texts)} different text to train on: give at least two, one is held out"
        )
    np.random.default_rng(seed).shuffle(texts)
    held = set(texts[: max(1, round(share * len(texts)))])
    return (
        [example for example in examples if key(example) not in held],
        [example for example in examples if key(example) in held],
    )
