"""A store without some of its tiers: without those that cost money, without caches that a machine cannot use."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from bitstore._lookup.asking import scope_of
from bitstore._tiers.chain import Chain, Tier, costs
from bitstore._tiers.views import without
from bitstore.errors import StoreNotAvailable

__all__ = ["is_usable", "shared_part", "usable_part"]


def shared_part(store: Any) -> Any | None:
    """The part of `store` that all nodes see alike: without the caches of a node's disk and of a process's memory."""
    return without(store, lambda inner: scope_of(inner) != "shared")


def usable_part(store: Any) -> tuple[Any, list[str]]:
    """`store` without the disk caches that this machine cannot use, and why, for each.

    A cache that can be read and not written stays. Where the store may cost money, a cache that cannot be used is only
    not read: it has to refuse what was paid for, so that no more is paid for that no cache keeps.
    """
    notes: list[str] = []
    useless: set[int] = set()  # by id, so that each cache is examined once

    def is_useless(inner: Any) -> bool:
        if not _has_folder(inner):
            return False
        trouble, readable = _trouble(inner)
        if trouble is not None:
            notes.append(trouble if readable else f"goes on without its cache folder{trouble}")
        if not readable:
            useless.add(id(inner))
        return not readable

    part = without(store, is_useless)
    if useless and costs(store):
        part = _not_read(store, useless)
    return (store if part is None else part), notes


def is_usable(cache: Any) -> bool:
    """Whether a node store that goes on without useless disk caches uses this one."""
    return not _has_folder(cache) or _trouble(cache)[1]


def _has_folder(store: Any) -> bool:
    """Whether `store` is a cache in a folder of its node: `DiskCache`, or a user's own with these two attributes."""
    return scope_of(store) == "node" and hasattr(type(store), "folder")


def _not_read(store: Any, useless: set[int]) -> Any:
    """A view of `store` that writes to these caches and does not read them."""
    if not isinstance(store, Chain):
        return store

    def change(tier: Tier) -> Tier:
        if id(tier.store) in useless:
            return replace(tier, read=False)
        inner = _not_read(tier.store, useless)
        return tier if inner is tier.store else replace(tier, store=inner)

    changed = {tier: change(tier) for tier in store.tiers}
    return store if all(tier is new for tier, new in changed.items()) else store.view(changed.__getitem__)


def _trouble(cache: Any) -> tuple[str | None, bool]:
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
