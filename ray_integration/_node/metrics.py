"""What the tiers of this process do, as metrics of Ray: each node's metrics endpoint then has them for Prometheus."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from bitstore._support.fingerprint import fingerprint
from bitstore._tiers.composite import Composite
from bitstore._tiers.latency import Latencies
from bitstore.observe._names import (
    BOUNDS,
    BREAKER,
    BREAKER_TEXT,
    COUNTERS,
    LATENCY,
    LATENCY_TEXT,
    MEMORY,
    MEMORY_TEXT,
    ON_RAY,
    PLACE,
    PREFIX,
    TIER,
)
from ray_integration._cluster import node_name
from ray_integration._node.places import origins_of
from ray_integration._node.usage import Usage, memory_now

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge, Histogram

    from bitstore._tiers.stats import TierStats

__all__ = ["PROCESS_TAGS", "TAGS", "TierMetrics"]

TAGS = (TIER, "node", "store")
PROCESS_TAGS = (PLACE, "node", "store")


class TierMetrics:
    """Reports to Ray what the tiers of a composite have counted in this process.

    An update costs microseconds, so differences of the counts are reported when `report` is called (after each piece of
    a batch), and the latency of one lookup in 16 of each tier is measured.

    The metrics are `bitstore_<count>` for each of `COUNTERS`, the histogram `bitstore_lookup_seconds` and the gauge
    `bitstore_breaker_open` (1 while a tier is not asked after repeated failures). Their tags are the tier's name, the
    node, and the first 8 characters of the store's fingerprint, so that stores with tiers of the same name stay
    apart. The metrics of `ON_RAY` and a node store's `bitstore_memory_bytes` have no tier. Ray serves all of them on
    each node's metrics port under `ray_bitstore_...`, if `ray[default]` is installed.

    Parameters
    ----------
    store
        Any store; only a composite has metrics.
    parts
        Parts of it that are used too and count in the same statistics (`free_part`).
    usage
        What the node store is used for; None: this process is no node store.
    """

    def __init__(self, store: Any, *parts: Any, usage: Usage | None = None) -> None:
        from ray import get_runtime_context

        self._store = store if isinstance(store, Composite) else None
        self._usage = usage
        self._reported: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        if self._store is None:
            return
        self._tags = {"node": node_name(get_runtime_context().get_node_id()), "store": fingerprint(store)[:8]}
        self._latencies = Latencies()
        for part in (store, *parts):
            if isinstance(part, Composite):
                self._latencies.watch(part)

    @classmethod
    def where_ray_runs(cls, store: Any) -> TierMetrics | None:
        """The metrics of a store; None where Ray does not run."""
        ray = sys.modules.get("ray")
        return cls(store) if ray is not None and ray.is_initialized() else None

    def report(self) -> None:
        """Report what has been counted since the last call."""
        if self._store is None:
            return
        with self._lock:  # two threads at once would report the same difference twice
            for stats in self._store.stats().values():
                self._report_counts(stats)
            self._report_process()
            for tier, seconds in self._latencies.take():
                _histogram().observe(seconds, tags={**self._tags, "tier": tier})

    def _report_process(self) -> None:
        tags = {name: tag for name, tag in self._tags.items() if name != TIER}
        origins = origins_of(self._store)
        for place, count in origins.bytes.items():
            self._report_more("place_bytes", count, {**tags, PLACE: place})
        self._report_more("upstream_requests", origins.requests, tags)
        if (usage := self._usage) is not None:
            self._report_more("hand_over_seconds", usage.hand_over_seconds, tags)
            self._report_more("hand_over_bytes", usage.hand_over_bytes, tags)
            self._report_more("peer_bytes", usage.bytes_peer, tags)
            _memory().set(memory_now(), tags=tags)

    def _report_more(self, what: str, now: float, tags: dict[str, str]) -> None:
        key = what, tags.get(PLACE, "")
        if (more := now - self._reported.get(key, 0)) > 0:
            self._reported[key] = now
            _process_counter(what).inc(more, tags=tags)

    def _report_counts(self, stats: TierStats) -> None:
        tags = {**self._tags, "tier": stats.name}
        for what in COUNTERS:
            now: int = getattr(stats, what)
            more = now - self._reported.get((stats.name, what), 0)
            if more > 0:  # Ray refuses to add nothing
                self._reported[stats.name, what] = now
                _counter(what).inc(more, tags=tags)
        is_open = int(stats.breaker != "closed")
        if is_open != self._reported.get((stats.name, BREAKER), -1):
            self._reported[stats.name, BREAKER] = is_open
            _gauge().set(is_open, tags=tags)


# Ray wants one object for each metric of a process.


@cache
def _counter(what: str) -> Counter:
    from ray.util.metrics import Counter

    return Counter(f"{PREFIX}_{what}", COUNTERS[what], TAGS)


@cache
def _process_counter(what: str) -> Counter:
    from ray.util.metrics import Counter

    return Counter(f"{PREFIX}_{what}", ON_RAY[what], PROCESS_TAGS if what == "place_bytes" else PROCESS_TAGS[1:])


@cache
def _memory() -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(f"{PREFIX}_{MEMORY}", MEMORY_TEXT, PROCESS_TAGS[1:])


@cache
def _gauge() -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(f"{PREFIX}_{BREAKER}", BREAKER_TEXT, TAGS)


@cache
def _histogram() -> Histogram:
    from ray.util.metrics import Histogram

    return Histogram(f"{PREFIX}_{LATENCY}", f"{LATENCY_TEXT}, of one lookup in 16", list(BOUNDS), TAGS)
