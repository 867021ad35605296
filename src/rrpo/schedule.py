"""How a training goes, whatever its objective, and when it stops before its last step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from rrpo.config import Strict
from rrpo.notes import note


class TrainConfig(Strict):
    """How to train, whatever the objective."""

    steps: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0, le=1e30)
    warmup_steps: int = pydantic.Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = pydantic.Field(0.01, ge=0)
    max_gradient_norm: float = pydantic.Field(1.0, gt=0)
    seed: int = pydantic.Field(0, ge=0, lt=2**63)
    save_every: int = pydantic.Field(100, ge=1)
    # auto: bf16 on a CUDA device that has it, otherwise no.
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    # None: as many as torch chose; a resumed run takes the number of the run it continues.
    threads: int | None = pydantic.Field(None, ge=1, le=1024)
    # Batches whose gradients are averaged before a step: as much memory as one, as much weight as
    # so many. Each is drawn by itself. What is a mean over utterances, or in SFT over tokens, is
    # one over all of them; a KL per token is a mean of the batches' means.
    accumulate: int = pydantic.Field(1, ge=1)
    # The first step whose weights count in the mean that the training ends with, or, below 1, the
    # share of the steps that lie before it; None: it ends with those of the last step. Where the
    # best of several validations is kept, that is kept; where a validation ends the training, the
    # weights that it heard are.
    average_from: float | None = pydantic.Field(None, gt=0)
    # What several processes do with the model: each holds all of it ("none"), or a part of every
    # weight and of its moments ("full", FSDP2). A run may be resumed with another.
    sharding: Literal["none", "full"] = "none"
    # Where the figures go besides `metrics.jsonl`.
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        first = self.average_from
        if first is not None and first > max(1, self.steps):
            raise ValueError(
                f"average_from {first:g} is after the last step, {self.steps}: give an earlier one"
            )
        if first is not None and first > 1 and not first.is_integer():
            raise ValueError(f"average_from {first:g} is neither a step nor a share below 1")
        return self

    @property
    def first_averaged(self) -> int | None:
        """The first step whose weights count in the mean, if any do.

        Examples:
            >>> TrainConfig(steps=100, learning_rate=0.1, average_from=0.4).first_averaged
            41
        """
        first = self.average_from
        if first is not None and first < 1:
            return min(self.steps, 1 + round(first * self.steps))
        return None if first is None else int(first)


def tell_warmup(config: TrainConfig) -> None:
    """Say so where a training ends before its learning rate has risen."""
    if config.warmup_steps >= config.steps:
        note(
            f"train.warmup_steps={config.warmup_steps} is not below train.steps={config.steps}: "
            "the learning rate rises to the last step; lower train.warmup_steps"
        )


Stop = Callable[[list[dict[str, Any]]], bool]
"""Given "step" and the figures of all validations so far, says whether to stop."""


@dataclass(frozen=True)
class EarlyStopping:
    """Stop once a validation figure has not fallen for `patience` validations.

    The weights at its lowest value become the result of the training.
    """

    metric: str
    patience: int

    def __call__(self, history: list[dict[str, Any]]) -> bool:
        """Say whether to stop after these validations."""
        return len(history) - 1 - self.best(history) >= self.patience

    def improved(self, history: list[dict[str, Any]]) -> bool:
        """Say whether the last validation is the best so far."""
        return self.best(history) == len(history) - 1

    def takes_best(self, history: list[dict[str, Any]]) -> bool:
        """Say whether the weights that were kept are the result of a training that has ended."""
        return bool(history)

    def best(self, history: list[dict[str, Any]]) -> int:
        """Return the index of the first lowest figure; null (not finite) counts as infinite."""
        values = [record[self.metric] for record in history]
        values = [math.inf if value is None else value for value in values]
        return values.index(min(values))
