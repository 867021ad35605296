"""A figure with its 95 % interval, and how it is written."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MISSING = "–"
"""What a table shows where there is no figure."""


@dataclass(frozen=True)
class Interval:
    """A mean with the two ends of its 95 % interval, in one unit; in JSON an object of the three.

    The ends are infinite where only the mean is known. Text for terminals and markdown is made by
    `format`: "", a number of digits that fits the mean, or the form of each of the three numbers.

    Examples:
        >>> value = Interval(0.05, -0.01, 0.125)
        >>> f"{value}", f"{value:.3f}", f"{value:+.1f}"
        ('0.05 [-0.01, 0.12]', '0.050 [-0.010, 0.125]', '+0.1 [-0.0, +0.1]')
    """

    mean: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def known(self) -> bool:
        """Whether the ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def significant(self) -> bool:
        """Whether a difference is: its interval does not hold 0."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """Whether a difference is significant, in words."""
        return "significant" if self.significant else "not significant"

    def apart(self, other: "Interval") -> bool | None:
        """Whether two intervals do not overlap; None where the ends of one are not known."""
        if not (self.known and other.known):
            return None
        return self.low > other.high or other.low > self.high

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it: ends that are not known are null.

        Examples:
            >>> Interval(0.5).as_json()
            {'mean': 0.5, 'low': None, 'high': None}
        """
        return asdict(self) | ({} if self.known else {"low": None, "high": None})

    def __neg__(self) -> "Interval":
        """Return the difference the other way round."""
        return Interval(-self.mean, -self.high, -self.low)

    def __str__(self) -> str:
        """Return the text with one digit after the point from 10 on, else with two."""
        return format(self, f".{1 if abs(self.mean) >= 10 else 2}f")

    def __format__(self, form: str) -> str:
        """Return the text, each number in a form such as ".3f" or "+.3f"."""
        if not form:
            return str(self)
        ends = f" [{self.low:{form}}, {self.high:{form}}]" if self.known else ""
        return f"{self.mean:{form}}{ends}"


def exactly(value: float) -> Interval:
    """Return a figure that no sampling has a part in."""
    return Interval(value, value, value)


def cell(value: Interval | None, form: str = "") -> str:
    """Return a figure for a table of a terminal or of markdown.

    Examples:
        >>> cell(None), cell(exactly(2.0))
        ('–', '2.00 [2.00, 2.00]')
    """
    return MISSING if value is None else format(value, form)


def read_interval(value: object) -> Interval | None:
    """Read an interval, what is written of one, or a number; None for anything else.

    A figure that is not finite is none. A bare number, or one without both ends, has infinite ones.
    """
    if isinstance(value, Interval):
        return value
    if isinstance(value, Mapping):
        mean, low, high = (_number(value.get(name)) for name in ("mean", "low", "high"))
        if mean is None:
            return None
        return Interval(mean) if low is None or high is None else Interval(mean, low, high)
    number = _number(value)
    return None if number is None else Interval(number)


def with_intervals(value: Any) -> Any:
    """Turn what was read from JSON: every object of a mean and two ends becomes an interval.

    Examples:
        >>> with_intervals({"kl": {"mean": 1.0, "low": 0.5, "high": 2.0}, "n": 3})
        {'kl': Interval(mean=1.0, low=0.5, high=2.0), 'n': 3}
    """
    if isinstance(value, list):
        return [with_intervals(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"mean", "low", "high"}:
        return read_interval(value)
    return {name: with_intervals(one) for name, one in value.items()}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
