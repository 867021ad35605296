"""What is asked of a figure, and whether it is so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rrpo.interval import Interval, cell

COLUMNS = ("bar", "measured", "verdict")


@dataclass(frozen=True)
class Aim:
    """A figure that should lie between two bars, both allowed.

    Attributes:
        value: what was measured; None where it could not be.
        surely: whether the whole interval has to lie between the bars, and not its mean alone.
    """

    asked: str
    value: Interval | None
    least: float = -math.inf
    most: float = math.inf
    surely: bool = False

    @property
    def bar(self) -> str:
        """The bars in words."""
        if self.least == self.most:
            return f"{self.least:g}"
        if math.isinf(self.least):
            return f"at most {self.most:g}"
        if math.isinf(self.most):
            return f"at least {self.least:g}"
        return f"{self.least:g} to {self.most:g}"

    @property
    def verdict(self) -> str:
        """Whether the mean (`surely`: the interval) lies between the bars, and how nearly."""
        if self.value is None:
            return "not measured"
        mean, low, high = self.value.mean, self.value.low, self.value.high
        if self.least <= low and high <= self.most:
            return "met"
        if self.least <= mean <= self.most and not self.surely:
            return "met, interval crosses"
        reaches = low <= self.most and high >= self.least
        return "missed, interval crosses" if reaches else "missed"

    def cells(self) -> tuple[str, str, str]:
        """Return the bar, the figure with its interval and the verdict, as `COLUMNS`."""
        value = self.value
        if value is not None and value.low == value.high:
            return self.bar, f"{value.mean:.3f}", self.verdict
        return self.bar, cell(value, ".3f"), self.verdict


def rows(aims: Sequence[Aim]) -> list[tuple[str, tuple[str, str, str]]]:
    """Return what is asked and the cells of each aim."""
    return [(aim.asked, aim.cells()) for aim in aims]
