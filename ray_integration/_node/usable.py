"""A store without some of its tiers: without those that cost money, without caches that a machine cannot use."""

from __future__ import annotations

import os
from typing import Any

from bitstore._caches.disk import DiskCache
from bitstore._lookup.asking import scope_of
from bitstore._tiers.views import without
from bitstore.errors import StoreNotAvailable

__all__ = ["shared_part", "usable_part"]


def shared_part(store: Any) -> Any | None:
    """The part of `store` that all nodes see alike: without the caches of a node's disk and of a process's memory."""
    return without(store, lambda inner: scope_of(inner) != "shared")


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
            told.append(trouble if readable else f"goes on without its cache folder{trouble}")
        return not readable

    part = without(store, is_useless)
    return (store if part is None else part), told


def _trouble(cache: DiskCache) -> tuple[str | None, bool]:
    """What is wrong with the folder, if anything; whether it can be read nevertheless."""
    try:
        folder = cache.folder
    except StoreNotAvailable as error:
        return f": {error.reason}", False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cache.exists("any")
    except (OSError, StoreNotAvailable) as error:
        reason = error.reason if isinstance(error, StoreNotAvailable) else None
        return f" {str(folder)!r}: {reason or error}", False
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"reads its cache folder {str(folder)!r} and cannot write to it", True
    return None, True
