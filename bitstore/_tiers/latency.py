"""How long the tiers of a composite take to answer, from samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from itertools import count
from time import perf_counter
from typing import Any

from bitstore._lookup.asking import steps_of_get
from bitstore._tiers.composite import Composite
from bitstore.steps import Cancelled, Found, Steps
from bitstore.store import Store

__all__ = ["Latencies"]

_MOST = 10_000  # samples that are kept; beyond that the oldest go


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
        # By the id of a tier's store, with the store itself, so that no other store can get that id.
        self._tiers: dict[int, tuple[str, Any, count[int]]] = {}

    def watch(self, composite: Composite) -> None:
        """Measure a composite from now on. Tiers that are appended later are not measured."""
        for tier in composite.tiers:
            # A sequence for each tier: lookups alternate between tiers, and one for all could always meet the same.
            self._tiers.setdefault(id(tier.store), (tier.name, tier.store, count()))
        composite._live().look = self._look

    def take(self) -> list[tuple[str, float]]:
        """Name of the tier and seconds, of each sample since the last call.

        A sample is the time from the question to the answer of whatever kind: waiting for a free connection and
        retries are part of it, what is written to caches is not. Lookups that were given up are left out.
        """
        taken = []
        while self._samples:
            taken.append(self._samples.popleft())
        return taken

    def _look(self, store: Store, key: Any) -> Steps[Found]:
        known = self._tiers.get(id(store))
        steps = steps_of_get(store, key)
        if known is None or next(known[2]) % self.every:
            return steps
        return self._measured(known[0], steps)

    def _measured(self, name: str, steps: Steps[Found]) -> Generator[Any, Any, Found]:
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
