"""Where blobs come from, as a cluster sees it: this process's memory, a disk of a node, or what lies outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitstore._lookup.asking import counts_of, scope_of
from bitstore._tiers.chain import Chain, Tier
from bitstore._tiers.stats import TierStats
from ray_integration._peers.peer_tier import PeerTier

__all__ = ["PLACES", "Origins", "caches_of", "leaves", "origins_of", "place_of"]

PLACES = ("upstream", "other_disks", "disk", "memory")
"""The values of `place`; a composite among the tiers of another has the place of its last tier."""


@dataclass
class Origins:
    """What lookups of one process came to, by place."""

    # Bytes of hits, by place.
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLACES, 0))
    # Requests to what is upstream, each raw store counted once; of a source that counts none, the lookups.
    requests: int = 0


def place_of(store: Any) -> str:
    """Where the blobs of a tier's store are: one of `PLACES`."""
    if isinstance(store, Chain):
        return place_of(store.tiers[-1].store) if store.tiers else "upstream"
    if isinstance(store, PeerTier):
        return "other_disks"
    return {"process": "memory", "node": "disk"}.get(scope_of(store), "upstream")


def leaves(store: Any) -> Iterator[tuple[Tier, TierStats]]:
    """The tiers of a composite with their counts; in place of a composite among them, its own tiers."""
    if not isinstance(store, Chain):
        return
    counts = store.stats()
    for tier in store.tiers:
        if isinstance(tier.store, Chain):
            yield from leaves(tier.store)
        else:
            yield tier, counts[tier.name]


def origins_of(store: Any) -> Origins:
    """What the lookups of `store` came to since it was made; nothing for a store that is no composite."""
    origins = Origins()
    seen: set[int] = set()
    for tier, stats in leaves(store):
        place = place_of(tier.store)
        origins.bytes[place] += stats.bytes
        if place != "upstream":
            continue
        if counts_of(tier.store) is None:
            origins.requests += stats.hits + stats.misses + stats.failures - stats.remembered
        elif (raw := id(_innermost(tier.store))) not in seen:
            seen.add(raw)
            origins.requests += stats.requests
    return origins


def caches_of(store: Any) -> list[dict[str, Any]]:
    """The caches on the node and in the process: `tier`, `place`, `folder`, `bytes` and `max_size` (None: unknown)."""
    found = []
    for tier, _ in leaves(store):
        place = place_of(tier.store)
        if not tier.is_cache or place not in ("disk", "memory"):
            continue
        held: Any = {}
        with contextlib.suppress(Exception):  # of a user's own cache, or of a folder that vanished: looks go on
            held = tier.store.stats()  # type: ignore[attr-defined]
        folder = None
        with contextlib.suppress(Exception):
            folder = str(tier.store.folder)  # type: ignore[attr-defined]
        known = held if isinstance(held, Mapping) else {}
        sizes = {name: size if isinstance(size := known.get(name), int) else None for name in ("bytes", "max_size")}
        found.append({"tier": tier.name, "place": place, "folder": folder, **sizes})
    return found


def _innermost(store: Any) -> Any:
    """The raw store, which several tiers may share."""
    while (below := getattr(store, "base_store", None)) is not None:
        store = below
    return getattr(store, "raw", store)
