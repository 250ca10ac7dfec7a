"""How long the tiers of a composite take to answer, from samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bitstore._tiers.composite import Composite
from bitstore.steps import Cancelled, Found, Steps
from bitstore.store import Store

__all__ = ["Latencies"]

_MOST = 10_000  # samples that are kept; beyond that the oldest go


@dataclass
class _Tier:
    name: str
    store: Any  # kept, so that no other store can get its id
    lookups: int = 0  # begun in it so far; threads may miscount a few
    owed: int = 0  # of these, to be measured by steps that have yet to begin


class Latencies:
    """Measures some of the lookups of composites in this process.

    A composite that is not measured pays nothing for this. `get` and `get_many` are measured, `download` is not.

    Parameters
    ----------
    every
        Measure one in so many lookups of each tier.
    """

    def __init__(self, *, every: int = 16) -> None:
        if every < 1:
            raise ValueError(f"every={every}: must be at least 1")
        self.every = every
        self._samples: deque[tuple[str, float]] = deque(maxlen=_MOST)
        self._tiers: dict[int, _Tier] = {}  # by the id of their stores

    def watch(self, composite: Composite) -> None:
        """Measure a composite from now on. Tiers that are appended later are not measured."""
        for tier in composite.tiers:
            # A sequence for each tier: lookups alternate between tiers, and one for all could always meet the same.
            self._tiers.setdefault(id(tier.store), _Tier(tier.name, tier.store))
        composite._live().latencies = self

    def take(self) -> list[tuple[str, float]]:
        """Name of the tier and seconds, of each sample since the last call.

        A sample is the time from the question to the answer of whatever kind: waiting for a free connection and
        retries are part of it, what is written to caches is not. Lookups that were given up are left out.
        """
        taken = []
        while self._samples:
            taken.append(self._samples.popleft())
        return taken

    def passes(self, store: Store) -> bool:
        """Count a lookup in the tier of `store`, which begins now. False: it is one to measure, by its steps."""
        tier = self._tiers.get(id(store))
        if tier is None:
            return True
        tier.lookups += 1
        if (tier.lookups - 1) % self.every:
            return True
        tier.owed += 1
        return False

    def is_due(self, store: Store) -> bool:
        """Count a lookup in the tier of `store`, which begins now; whether it is one that is measured.

        Those that `passes` has left are counted already.
        """
        tier = self._tiers.get(id(store))
        if tier is None:
            return False
        if tier.owed:
            tier.owed -= 1
            return True
        tier.lookups += 1
        return (tier.lookups - 1) % self.every == 0

    def sampled(self, store: Store, steps: Steps[Found]) -> Steps[Found]:
        """`steps` of a lookup in the tier of `store`, which is counted; measured, if it is due."""
        return self.measured(store, steps) if self.is_due(store) else steps

    def measured(self, store: Store, steps: Steps[Found]) -> Generator[Any, Any, Found]:
        """`steps` of a lookup in the tier of `store`, with the time that they take."""
        name = self._tiers[id(store)].name
        begin = perf_counter()
        try:
            found = yield from steps
        except (Cancelled, GeneratorExit):
            raise
        except BaseException:
            self._samples.append((name, perf_counter() - begin))
            raise
        self._samples.append((name, perf_counter() - begin))
        return found
