"""Gradients averaged over processes, in buckets that are sent while the way back still computes.

`DistributedDataParallel` does the same around a model's `forward`. Objectives call more of a model
than that, and a weight may have a gradient on one process alone.
"""

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed import Work

BUCKET = 1 << 22
"""Elements of a bucket at the most, unless one weight has more."""


class Buckets:
    """The gradients of weights, in the order in which the way back comes to them.

    A bucket is sent as soon as its gradients are there and those before it were sent, so that all
    processes send in one order, whichever weights have no gradient on them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Watch the weights' gradients from now on."""
        self.buckets: list[list[nn.Parameter]] = []
        size, before = 0, None
        for parameter in reversed(list(parameters)):
            size += parameter.numel()
            if not self.buckets or size > BUCKET or parameter.dtype != before:
                self.buckets.append([])
                size, before = parameter.numel(), parameter.dtype
            self.buckets[-1].append(parameter)
        for place, bucket in enumerate(self.buckets):
            for parameter in bucket:
                arrived = partial(self._arrived, place)
                parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]
        self.missing: list[int] = []
        self.sent: list[tuple[Tensor, Work]] = []

    def begin(self) -> None:
        """Send what the next way back leaves behind, together with what is there already."""
        self.missing, self.sent = [len(bucket) for bucket in self.buckets], []

    def finish(self) -> None:
        """Send the rest, wait for all, and put the means in the place of the gradients.

        A weight without a gradient on any process has none; where only some have none, these count
        as zeros.
        """
        while len(self.sent) < len(self.buckets):
            self._send()
        count = torch.distributed.get_world_size()
        for bucket, (flat, work) in zip(self.buckets, self.sent, strict=True):
            work.wait()
            there = flat[-len(bucket) :].tolist()
            flat /= count
            ends = [0]
            for parameter in bucket:
                ends.append(ends[-1] + parameter.numel())
            for parameter, (start, end), known in zip(bucket, pairwise(ends), there, strict=True):
                parameter.grad = flat[start:end].view_as(parameter) if known > 0 else None
        self.missing, self.sent = [], []

    def _arrived(self, place: int, _: Tensor) -> None:
        if not self.missing:  # more micro-batches follow
            return
        self.missing[place] -= 1
        while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
            self._send()

    def _send(self) -> None:
        """Send the next bucket: its gradients in a row, then which of them there are."""
        bucket = self.buckets[len(self.sent)]
        there = bucket[0].new_tensor([float(one.grad is not None) for one in bucket])
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in bucket]
        flat = torch.cat([*(part.detach().flatten() for part in parts), there])
        for parameter in bucket:  # it is in the row, and no second copy is held
            parameter.grad = None
        work = torch.distributed.all_reduce(flat, async_op=True)
        self.sent.append((flat, work))
