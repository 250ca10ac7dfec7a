"""What one node store gives another: blobs of its own disk, and where else to ask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from bitstore._caches.disk import DiskCache, digests_here, find_here
from bitstore._lookup.asking import scope_of
from bitstore._tiers.composite import Composite
from bitstore.errors import BitstoreError

__all__ = ["HandOut", "Held"]


class HandOut(NamedTuple):
    """The answer of a node store to another that asks for blobs. What is in no field is not there."""

    # Blobs by digest, as they are on the disk.
    found: dict[str, bytes]
    # Digests of which a lookup is in progress: the answer comes when it is over.
    busy: list[str]
    # For digests that are not there: the names of node stores that may have them.
    elsewhere: dict[str, list[str]]
    # Digests for which the answer has no room any more.
    left: list[str]


class Held:
    """The caches of a store that are on the disk of its node: read for other nodes, without a lookup of the store.

    Parameters
    ----------
    store
        The store of the node.
    """

    def __init__(self, store: Any) -> None:
        tiers = store.tiers if isinstance(store, Composite) else ()
        self.tiers = tuple(tier for tier in tiers if tier.is_cache and tier.read and scope_of(tier.store) == "node")
        self.caches: tuple[Any, ...] = tuple(tier.store for tier in self.tiers)

    def get(self, digest: str) -> bytes | None:
        """The blob; None: no disk has it, or its bytes are damaged, or the disk fails. The asking node goes on."""
        for cache in self.caches:
            try:
                data = find_here(cache, digest) if type(cache) is DiskCache else cache.get(digest)
            except Exception:  # a cache of a user's may raise anything; the owner's own lookup tells what is wrong
                continue
            if isinstance(data, bytes):
                return data
        return None

    def has(self, digest: str) -> bool:
        """Whether a disk has the blob, without a look at its bytes."""
        for cache in self.caches:
            try:
                if cache.exists(digest):
                    return True
            except Exception:  # as in `get`
                continue
        return False

    def digests(self, since: float = 0.0) -> Iterator[list[str]]:
        """The digests of the blobs in disk caches, many at a time; `since` is that of `digests_here`."""
        for cache in self.caches:
            if isinstance(cache, DiskCache):
                with contextlib.suppress(BitstoreError):  # what a failing disk holds cannot be had
                    yield from digests_here(cache, since)

    def put(self, digest: str, data: bytes) -> bool:
        """Keep a blob on the first disk that takes it; whether one did."""
        for cache in self.caches:
            try:
                cache.put(digest, data)
            except Exception:  # a full disk: the blob is elsewhere still
                continue
            return True
        return False
