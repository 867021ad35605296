"""Ratios of two things done in turns, so that a busy machine slows both."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
import torch
from scipy.special import stdtrit

from rrpo.cores import machine
from rrpo.interval import Interval


@dataclass(frozen=True)
class Measurement:
    """One figure with its 95 % interval.

    Attributes:
        name: of what was measured, such as "step/mini".
        ratio: the figure.
        low, high: ends of its interval.
        unit: what it is a ratio of, or what it is.
        machine: what it was measured on.
    """

    name: str
    ratio: float
    low: float
    high: float
    unit: str
    machine: str

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """Return it for people."""
        return f"{self.name}: {self.interval:.3g} {self.unit}"

    @property
    def interval(self) -> Interval:
        """The figure with its ends."""
        return Interval(self.ratio, self.low, self.high)


def measurement(
    name: str, value: Interval, unit: str, device: torch.device | None = None
) -> Measurement:
    """Return a figure measured on this machine."""
    return Measurement(name, value.mean, value.low, value.high, unit, machine(device))


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return how long an action takes, the device's own work included."""
    _wait(device)
    began = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(
    name: str,
    first: Callable[[], object],
    second: Callable[[], object],
    unit: str,
    device: torch.device,
    repeats: int = 7,
) -> tuple[Measurement, float, float]:
    """Time two actions in turns and return first over second, and both mean seconds.

    Each is done once before. The ratio is the geometric mean over pairs, its interval Student's on
    their logarithms.
    """
    first(), second()
    pairs = [(seconds(first, device), seconds(second, device)) for _ in range(repeats)]
    logs = np.log([one / other for one, other in pairs])
    half = float(stdtrit(repeats - 1, 0.975) * logs.std(ddof=1) / repeats**0.5)
    middle = float(logs.mean())
    ends = (float(np.exp(end)) for end in (middle, middle - half, middle + half))
    measured = measurement(name, Interval(*ends), unit, device)
    return measured, fmean(one for one, _ in pairs), fmean(other for _, other in pairs)
