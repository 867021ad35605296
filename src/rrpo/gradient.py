"""The gradient of a step: one mean over all its batches, those of every process included.

A batch counts by its objective's `weight`, such as its tokens, so that batches that differ in it
give the gradient of one batch of them all.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from rrpo.errors import NotFinite, UserError
from rrpo.gradient_buckets import Buckets
from rrpo.objective import Objective
from rrpo.processes import FailedElsewhere, every_row, processes, several, summed
from rrpo.schedule import TrainConfig
from rrpo.state import TrainingState

Figures = dict[str, float]


class Gradient:
    """Computes an objective's gradient into the parameters, a mean over the processes.

    Gradients are sent as they come (`rrpo.gradient_buckets`); a sharded model sends its own, after
    each micro-batch.
    """

    def __init__(
        self,
        objective: Objective[Any],
        config: TrainConfig,
        state: TrainingState,
        device: torch.device,
        precision: torch.dtype | None,
    ) -> None:
        self.objective, self.config, self.state = objective, config, state
        # Without its cache: older releases of torch keep what a rollout has cast without a gradient
        # and give it to the pass that needs one, so that those weights were not trained.
        self.cast = partial(
            torch.autocast, device.type, precision, precision is not None, cache_enabled=False
        )
        self.buckets = None
        if several() and config.sharding == "none":
            self.buckets = Buckets(state.parameters.values())

    def of_step(self, step: int) -> tuple[Figures, Figures, str]:
        """Take as many micro-batches as are accumulated, each of every process.

        Where a number is not finite in one of them, no process goes on to the next.

        Returns:
            of this process's: the mean of the loss ("") and of each figure over those that have it,
            the weight of each mean, and what went wrong; of the last of them, if anything did.
        """
        objective, state = self.objective, self.state
        objective.model.train()
        means: Figures = {}
        weights: Figures = {}
        gone = 0.0
        for left in reversed(range(self.config.accumulate)):
            try:
                with self.cast():
                    loss, figures = objective.loss(step, state.generator)
                weight = float(getattr(objective, "weight", 1.0))
                figures = {"": loss.item(), **{name: float(one) for name, one in figures.items()}}
                for name, figure in figures.items():
                    weights[name] = weights.get(name, 0.0) + weight
                    mean = means.get(name, 0.0)
                    means[name] = mean + (figure - mean) * (weight / weights[name])
                sound = all_finite(figures.values())
                every = summed(weight, failed=not sound)
            except FailedElsewhere as error:
                return means, weights, str(error) if all_finite(means.values()) else ""
            except NotFinite as error:
                with suppress(FailedElsewhere):
                    summed(0.0, failed=True)
                return {}, {}, str(error)
            except UserError as error:  # such as a row that only this process has read
                if not error.told_elsewhere:
                    with suppress(UserError):
                        summed(0.0, ended=True)
                raise
            # A running mean, so that no micro-batch need know how much the others weigh.
            gone += every
            for parameter in state.parameters.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(1.0 - every / gone)
            # What is sent is averaged: a batch counts by its part of the processes' mean weight.
            own = weight * processes() / every
            if left == 0 and self.buckets is not None:
                self.buckets.begin()
            torch.autograd.backward(state.scaler.scale(loss * (every / gone * own)))
            if not sound:
                break
        if self.buckets is not None:
            self.buckets.finish()
        return means, weights, ""


def shared(means: Figures, weights: Mapping[str, float], told: bool) -> tuple[Figures, bool]:
    """Return the weighted means over the processes, and whether any of them was told something."""
    if not several():
        return means, told
    every = every_row([(means, weights, told)])
    found: Figures = {}
    for name in dict.fromkeys(name for one, _, _ in every for name in one):
        parts = [(one[name], weight[name]) for one, weight, _ in every if name in one]
        whole = sum(weight for _, weight in parts)
        found[name] = sum(figure * (weight / whole) for figure, weight in parts)
    return found, any(one for _, _, one in every)


def all_finite(figures: Iterable[float]) -> bool:
    """Say whether no figure is NaN or infinite."""
    return all(map(math.isfinite, figures))
