"""A store without some of its tiers: without those that cost money, without caches that a machine cannot use."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bitstore.caches.disk import DiskCache
from bitstore.caches.memory import MemoryCache
from bitstore.chain import Tier
from bitstore.composite import Composite
from bitstore.errors import StoreNotAvailable

__all__ = ["costs", "free_part", "shared_part", "usable_part"]


def costs(store: Any) -> bool:
    """Whether `store`, or a tier of it, costs money."""
    return bool(getattr(store, "paid", False)) or (
        isinstance(store, Composite) and any(costs(tier.store) for tier in store._tiers)
    )


def free_part(store: Any) -> Any | None:
    """The part of `store` that costs nothing; `store` itself if that is all of it; None if nothing is left.

    What the part says is missing may yet be had for money, from `store`. Both count in the same statistics and share
    their circuit breakers, but not their lookups in progress: one that pays and one that does not give different
    answers.
    """
    return _without(store, lambda inner: bool(getattr(inner, "paid", False)))


def shared_part(store: Any) -> Any | None:
    """The part of `store` that all nodes see alike: without the caches of a node's disk and of a process's memory."""
    return _without(store, lambda inner: isinstance(inner, (DiskCache, MemoryCache)))


def usable_part(store: Any) -> tuple[Any, list[str]]:
    """`store` without the disk caches that this machine cannot use, and why, for each.

    A cache that can be read and not written stays.
    """
    told: list[str] = []

    def is_useless(inner: Any) -> bool:
        if not isinstance(inner, DiskCache):
            return False
        trouble, readable = _trouble(inner)
        if trouble is not None:
            told.append(
                f"goes on without its cache folder {str(inner.folder)!r}: {trouble}" if not readable else trouble
            )
        return not readable

    part = _without(store, is_useless)
    return (store if part is None else part), told


def _without(store: Any, unwanted: Callable[[Any], bool]) -> Any | None:
    if unwanted(store):
        return None
    if not isinstance(store, Composite):
        return store
    kept: dict[Tier, Tier] = {}
    for tier in store._tiers:
        inner = _without(tier.store, unwanted)
        if inner is not None:
            kept[tier] = tier if inner is tier.store else replace(tier, store=inner)
    if all(kept.get(tier) is tier for tier in store._tiers):
        return store
    if not kept:
        return None
    part = copy.copy(store)  # has no lookups in progress, and statistics of its own
    part._chain = tuple(
        (kept[tier], tuple(kept[keeper] for keeper in keepers if keeper in kept))
        for tier, keepers in store._chain
        if tier in kept
    )
    whole = store._live()
    part._live().stats, part._live().breakers = whole.stats, whole.breakers
    return part


def _trouble(cache: DiskCache) -> tuple[str | None, bool]:
    """What is wrong with the folder, if anything; whether it can be read nevertheless."""
    folder = cache.folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cache.exists("any")
    except (OSError, StoreNotAvailable) as error:
        reason = error.reason if isinstance(error, StoreNotAvailable) else None
        return reason or str(error), False
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"reads its cache folder {str(folder)!r} and cannot write to it", True
    return None, True
