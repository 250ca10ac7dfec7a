"""The disk cache of a node, read by the processes of the node that would else ask its node store for the blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bitstore._caches.disk import DiskCache, find_here
from bitstore._tiers.composite import Composite
from bitstore._tiers.views import is_watched
from bitstore.errors import BitstoreError, InvalidDataFound

__all__ = ["DiskPlace", "OwnDisk", "Reads"]


class DiskPlace(NamedTuple):
    """Where a node store's disk cache is: equal for processes that see the same folder as the same tier."""

    tier: str
    folder: str
    # Numbers of the folder's file system, and of the folder in it.
    device: int
    inode: int


class Reads(NamedTuple):
    """What a process read from a disk cache in place of its node store, to be counted there."""

    hits: int
    bytes: int
    # Damaged files. Their misses are counted by the node store, which is asked next.
    invalid: int


class OwnDisk:
    """The first tier of a store, if that is a disk cache and a hit in it concerns no other tier.

    A hit is then what the whole lookup would come to, so that another process of the node may read it.

    Parameters
    ----------
    tier
        Name of the tier.
    cache
        Its store.
    """

    def __init__(self, tier: str, cache: DiskCache) -> None:
        self.tier = tier
        self._cache = cache
        self._hits = self._bytes = self._invalid = 0

    @classmethod
    def of(cls, store: Any) -> OwnDisk | None:
        """The first tier of `store`; None unless it is such a disk cache.

        Classes of the user's may do more at a hit, and so may callbacks and observers.
        """
        if not isinstance(store, Composite) or is_watched(store):
            return None
        if type(store).__module__.partition(".")[0] != "bitstore" or "get" in vars(store):
            return None
        first = next((tier for tier in store.tiers if tier.read), None)
        if first is None or type(first.store) is not DiskCache or "get" in vars(first.store):
            return None
        return None if store.keepers_of(first) else cls(first.name, first.store)

    def place(self) -> DiskPlace | None:
        """Where the cache is; None while it has no folder."""
        try:
            folder = self._cache.folder
            found = Path(folder).stat()
        except (BitstoreError, OSError):
            return None
        return DiskPlace(self.tier, str(folder), found.st_dev, found.st_ino)

    def read(self, digest: str) -> bytes | None:
        """The blob; None unless the cache has it and its bytes are right. A failure is the node store's to report."""
        try:
            data = find_here(self._cache, digest)
        except InvalidDataFound:
            self._invalid += 1
            return None
        except BitstoreError:
            return None
        if data is None:
            return None
        self._hits += 1
        self._bytes += len(data)
        return data

    def taken(self) -> Reads | None:
        """What was read since the last call; None: nothing that counts."""
        reads = Reads(self._hits, self._bytes, self._invalid)
        self._hits = self._bytes = self._invalid = 0
        return reads if any(reads) else None
