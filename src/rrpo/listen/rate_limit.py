"""How many requests an address may make: a store of them for each, which fills again with time."""

import time
from collections.abc import Callable

ADDRESSES = 10_000
"""Most addresses that are remembered."""


class RateLimit:
    """So many requests at once, then so many a second; each address for itself."""

    def __init__(
        self, at_once: float, a_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once, self._a_second, self._clock = at_once, a_second, clock
        self._left: dict[str, tuple[float, float]] = {}
        """Of an address: how many it may make, and when that was counted."""

    def allows(self, address: str) -> bool:
        """Count a request and say whether it may be answered."""
        left = self._now(address)
        if left >= 1:
            self._put(address, left - 1)
        return left >= 1

    def _now(self, address: str) -> float:
        left, since = self._left.get(address, (self._at_once, self._clock()))
        return min(self._at_once, left + (self._clock() - since) * self._a_second)

    def _put(self, address: str, left: float) -> None:
        self._left.pop(address, None)
        if len(self._left) >= ADDRESSES:
            self._left.pop(next(iter(self._left)))  # the one that asked longest ago
        self._left[address] = (left, self._clock())
