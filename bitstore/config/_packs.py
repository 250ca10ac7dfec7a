"""The table `packs` of a cache with a URL: many blobs in one object."""

from __future__ import annotations

from typing import Annotated, ClassVar

from bitstore._packs.cache import PackCache
from bitstore.config._tier import SIZE, Context, Table, about
from bitstore.store import Store

__all__ = ["PacksTable"]


class PacksTable(Table, kw_only=True):
    """Blobs are kept in packs: see `PackCache`."""

    what: ClassVar[str] = "a packs table"

    folder: Annotated[
        str | None,
        about("Folder of this machine for journals and tables; default: beside that of the disk cache.", minLength=1),
    ] = None
    pack_size: Annotated[int | str, about("Bytes above which a pack is published.", pattern=SIZE)] = "64MB"
    publish_after: Annotated[
        float, about("Seconds after which a pack is published although it is smaller.", exclusiveMinimum=0)
    ] = 300.0
    refresh: Annotated[
        float, about("Seconds after which a digest that is not found lets the packs be listed again.", minimum=0)
    ] = 60.0
    sync: Annotated[bool, about("Whether to wait for the disk at each blob.")] = False
    max_waiting: Annotated[int | str, about("Bytes that may wait on this machine to be published.", pattern=SIZE)] = (
        "10GB"
    )
    read_ahead: Annotated[
        int | str, about("Memory for what is read ahead; 0: only what is wanted is read.", pattern=SIZE)
    ] = "64MiB"

    def store(self, context: Context, raw: Store, url: str, *, verify: bool) -> PackCache:
        """The cache below `url`."""
        try:
            return PackCache(
                raw,
                url,
                folder=None if self.folder is None else context.path(self.folder, "packs.folder"),
                pack_size=self.pack_size,
                publish_after=self.publish_after,
                refresh=self.refresh,
                verify=verify,
                algorithm=context.algorithm,
                sync=self.sync,
                max_waiting=self.max_waiting,
                read_ahead=self.read_ahead,
            )
        except TypeError as error:
            raise ValueError(f"packs: {error}") from error
