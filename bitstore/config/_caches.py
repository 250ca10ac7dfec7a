"""Tiers of a configuration file that are caches of this machine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from bitstore._caches.disk import DiskCache
from bitstore._caches.memory import MemoryCache
from bitstore.config._tier import SIZE, Context, Tier, about
from bitstore.store import Store

__all__ = ["DiskTier", "MemoryTier"]


class DiskTier(Tier, kw_only=True):
    """A folder on this machine, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "disk"'

    cache: Annotated[str, about('`"disk"`: a folder on this machine.', enum=["disk"])]
    path: Annotated[
        str | None, about("The folder; default: `BITSTORE_CACHE_DIR`, or the usual place for caches.", minLength=1)
    ] = None
    max_size: Annotated[
        int | str | None,
        about("The most bytes that it holds: a number, or a size such as `50GB`; default: 10 GB.", pattern=SIZE),
    ] = None
    max_blob_size: Annotated[int | str | None, about("Larger blobs are not kept.", pattern=SIZE)] = None
    verify: Annotated[bool, about("Whether each read checks the bytes.")] = True
    allow_foreign_owner: Annotated[bool, about("Whether the folder may belong to another user.")] = False

    def store(self, context: Context) -> Store:
        """The `DiskCache`."""
        folder = None if self.path is None else context.path(self.path, "path")
        return DiskCache(
            folder,
            self.max_size,
            verify=self.verify,
            max_blob_size=self.max_blob_size,
            allow_foreign_owner=self.allow_foreign_owner,
        )


class MemoryTier(Tier, kw_only=True):
    """Memory of the process, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "memory"'

    cache: Annotated[str, about('`"memory"`: memory of the process.', enum=["memory"])]
    max_size: Annotated[
        int | str, about("The most bytes that it holds: a number, or a size such as `1GB`.", pattern=SIZE)
    ] = "256MB"

    def store(self, context: Context) -> Store:
        """The `MemoryCache`."""
        options: dict[str, Any] = {"max_size": self.max_size}
        return MemoryCache(**options)
