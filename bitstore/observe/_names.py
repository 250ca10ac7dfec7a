"""The names of what monitoring systems get, each written once: Prometheus, OpenTelemetry and Ray share them.

A count is `bitstore_<name>_total` in Prometheus and `bitstore.<name>` in OpenTelemetry. Ray puts `ray_` before the
former.
"""

from __future__ import annotations

__all__ = [
    "BOUNDS",
    "BREAKER",
    "BREAKER_TEXT",
    "COUNTERS",
    "LATENCY",
    "LATENCY_TEXT",
    "MEMORY",
    "MEMORY_TEXT",
    "ON_RAY",
    "PLACE",
    "PREFIX",
    "TIER",
    "Span",
]

PREFIX = "bitstore"

TIER = "tier"
"""Label (attribute) with the name of the tier; `store` and `node` may stand beside it."""

COUNTERS = {
    "hits": "Lookups that the tier answered with a blob",
    "misses": "Lookups that the tier answered with: not here",
    "failures": "Lookups that the tier did not answer",
    "invalid": "Bytes that did not match their digest",
    "skipped": "Lookups for which a paid tier was not asked: an earlier tier had failed, or no cache could keep it",
    "denied": "Lookups for which the tier was not asked, because its membership index denied the blob",
    "bytes": "Bytes of the blobs that the tier had",
    "writes": "Blobs that this cache has kept",
    "write_failures": "Blobs that this cache could not keep",
    "conflicts": "Write failures of blobs that this cache had called missing, although something unreadable is there",
    "remembered": "Misses for which the source was not asked, because a ledger of misses knew them",
    "hedged": "Lookups that asked the source because one before it was slow",
    "hedges_won": "Hedged lookups that the source answered with the blob before the slow one did",
    "requests": "HTTP requests of the tier's raw store; tiers that share it have the same number",
    "retries": "HTTP requests that were sent again after a failure; tiers that share a raw store have the same number",
}
"""The counts of `TierStats` that are exported, with what each means."""

PLACE = "place"
"""Label of the counts of bytes by place: `upstream`, `disk` or `memory`."""

ON_RAY = {
    "upstream_requests": "Requests to what is not on the nodes; each raw store is counted once",
    "place_bytes": "Bytes of the blobs that lookups found, by where they were",
    "hand_over_seconds": "Seconds in which node stores handed blobs to Ray's object store",
    "hand_over_bytes": "Bytes of the blobs that node stores handed over",
    "peer_bytes": "Bytes of the blobs that node stores handed to processes of other nodes",
}
"""Counts of processes on a Ray cluster, besides those of their tiers."""

MEMORY = "memory_bytes"
MEMORY_TEXT = "Bytes of memory of a node store, without what it shares with other processes"

LATENCY = "lookup_seconds"
LATENCY_TEXT = "Seconds until the tier answered"
BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the classes of the latency's histogram, in seconds."""

BREAKER = "breaker_open"
BREAKER_TEXT = "1 while the tier is left alone after repeated failures"


class Span:
    """Names of OpenTelemetry's spans and their attributes, and of the instruments that differ from Prometheus."""

    LOOKUP = "bitstore.lookup"
    """One lookup through all tiers that it needs."""
    ANSWER = "bitstore.tier"
    """One tier's answer to it."""

    DIGEST = "bitstore.digest"
    KIND = "bitstore.kind"
    """`found`, `missing`, `failed`, `invalid` or `skipped`."""
    SOURCE = "bitstore.tier"
    """Name of the tier that answered."""
    BYTES = "bitstore.bytes"
    ERROR = "error.type"
    """Class of the error (https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/)."""

    # With the unit that OpenTelemetry has beside the name, these become `LATENCY` and `BREAKER` in Prometheus.
    SECONDS = "bitstore.lookup"
    BREAKER = "bitstore.breaker.open"
