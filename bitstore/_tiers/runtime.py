"""What a composite knows only in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from bitstore._lookup.asking import steps_of_get
from bitstore._tiers.breaker import Breaker
from bitstore._tiers.single_flight import Flights
from bitstore._tiers.stats import TierStats
from bitstore.steps import Found, Steps
from bitstore.store import Store

__all__ = ["Live"]

T = TypeVar("T")


class _ByTier(dict[str, T]):
    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make

    def __missing__(self, name: str) -> T:
        return self.setdefault(name, self._make(name))


class Live:
    """What a composite knows only in this process.

    Attributes
    ----------
    flights
        Its lookups in progress.
    stats, breakers, writers
        By the name of a tier: its counts, and the breakers of its lookups and, if it is a cache, of its writes.
    look
        Makes the steps of a lookup in one tier.
    """

    def __init__(self) -> None:
        self.flights = Flights()
        self.stats = _ByTier(TierStats)
        self.breakers = _ByTier(Breaker)
        # Of their own: a cache that cannot keep may still answer.
        self.writers = _ByTier(lambda name: Breaker(f"cache {name} (writes)"))
        self.look: Callable[[Store, Any], Steps[Found]] = steps_of_get  # `Latencies` puts in one that measures
