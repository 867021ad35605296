"""When to stop a training before its last step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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

    def best(self, history: list[dict[str, Any]]) -> int:
        """Return the index of the first lowest figure; null (not finite) counts as infinite."""
        values = [record[self.metric] for record in history]
        values = [math.inf if value is None else value for value in values]
        return values.index(min(values))
