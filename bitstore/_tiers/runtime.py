"""What a composite knows only in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cachetools import LRUCache

from bitstore._tiers.breaker import Breaker
from bitstore._tiers.learned import Learned
from bitstore._tiers.single_flight import Flights
from bitstore._tiers.stats import TierCounts
from bitstore._tiers.trial import Trial

__all__ = ["Live", "Unwritten"]

T = TypeVar("T")


class _ByTier(dict[str, T]):
    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make

    def __missing__(self, name: str) -> T:
        return self.setdefault(name, self._make(name))


class Unwritten:
    """A blob that a cache could not keep: to write it is how a later lookup finds out whether the cache can."""

    __slots__ = ("data", "error", "key", "probes")

    def __init__(self, key: Any, data: Any, error: Exception) -> None:
        self.key = key
        # None: the cache may have refused this one blob, so the next blob is the test.
        self.data = data
        # What the last attempt said.
        self.error = error
        # Probes that the cache has refused without a reason that another blob would meet as well.
        self.probes = 0


class Live:
    """What a composite knows only in this process. All tables are by the name of a tier."""

    def __init__(self) -> None:
        # Lookups in progress.
        self.flights = Flights()
        self.counts = _ByTier(TierCounts)
        # Breakers of lookups.
        self.breakers = _ByTier(Breaker)
        # Breakers of writes to caches: a cache that cannot keep may still answer.
        self.writers = _ByTier(lambda name: Breaker(f"cache {name} (writes)"))
        # Caches that could not keep what was paid for, or whose writes are left alone.
        self.unwritable: dict[str, Unwritten] = {}
        # Blobs that were paid for and that a cache refused, each for a reason of its own, with that reason.
        self.refused: dict[str, LRUCache[Any, Exception]] = _ByTier(lambda name: LRUCache(10_000))
        # Blobs that were paid for, and that a cache may have refused or failed to write, until it writes another.
        self.doubted: dict[str, LRUCache[Any, Exception]] = _ByTier(lambda name: LRUCache(10_000))
        # Caches that have written a blob.
        self.written: set[str] = set()
        # Paid lookups whose caches have not yet written a blob.
        self.trial = Trial()
        # What the express lane knows of the tiers (`bitstore._tiers.plain.Plan`); None: nothing yet.
        self.plan: Any = None
        # What was learned of sources, by cohort.
        self.learned = Learned()
        # The orders in which sources are asked (`bitstore._tiers.turns.Turns`); None: none was learned yet.
        self.turns: Any = None
        # When lookups are hedged (`bitstore._tiers.hedge.Hedge`); None: none was yet.
        self.hedge: Any = None
        # What measures some lookups (`bitstore._tiers.latency.Latencies`); None: none is measured.
        self.latencies: Any = None

    def is_back(self, name: str) -> None:
        """Note that the cache called `name` has written a blob."""
        self.written.add(name)
        self.unwritable.pop(name, None)
        self.doubted.pop(name, None)

    def is_up(self, name: str) -> bool:
        """Whether the tier called `name` is asked, and not left alone."""
        return self.breakers[name].state == "closed"

    def share(self, whole: Live, *, own_stats: bool) -> None:
        """Use the tables of `whole`, of which this composite is a view; with `own_stats` all but the counts."""
        self.breakers, self.writers = whole.breakers, whole.writers
        self.unwritable, self.refused, self.doubted = whole.unwritable, whole.refused, whole.doubted
        self.written, self.trial = whole.written, whole.trial
        if not own_stats:
            self.counts, self.learned = whole.counts, whole.learned
