"""The table `misses` of a source: a ledger of what it has said it lacks."""

from __future__ import annotations

from typing import Any

from bitstore._digests.remembers import RemembersMisses
from bitstore._misses.ledger import MissLedger
from bitstore._misses.share import SharedMisses
from bitstore.config._tables import tier
from bitstore.config._tier import Context, MissesTable, ReadTier
from bitstore.config._urls import URLTier
from bitstore.store import Store

__all__ = ["remembering"]


# Keys of a tier that say nothing about where its bytes are, and how it is asked.
_OF_BLOBS = {*ReadTier.__struct_fields__, "verify", "compression", "max_blob_size", "references"}


def remembering(store: Store, item: ReadTier, context: Context) -> Store:
    """`store`, with the ledger that its table names, if there is one. ValueError for what cannot be."""
    table = item.misses
    if table is None:
        return store
    if item.is_cache:
        raise ValueError("misses belongs to a source, and this tier is a cache (cache = true)")
    share = None if table.share is None else _share(table, context)
    path = context.path(table.path, "misses.path")
    same = {"path": path, "share": None if share is None else (id(share.raw), share.prefix, share.refresh)}
    ledger = context.once("misses", same, lambda **_: MissLedger(path, share=share))
    return RemembersMisses(
        store,
        ledger,
        name=item.name if table.name is None else table.name,
        lifetime=table.lifetime,
        recheck=table.recheck,
        algorithm=context.algorithm,
    )


def _share(table: MissesTable, context: Context) -> SharedMisses:
    given: dict[str, Any] = {"url": table.share} if isinstance(table.share, str) else dict(table.share or {})
    if unknown := sorted(given.keys() & _OF_BLOBS):
        raise ValueError(f"misses.share: {unknown[0]!r} has no meaning there")
    try:
        place = tier({"name": "share", **given})
        if not isinstance(place, URLTier):
            raise ValueError("give a url, such as s3://bucket/misses/")
        return SharedMisses(place.raw_store(context), place.prefix(context), refresh=table.refresh)
    except (ValueError, TypeError) as error:
        raise ValueError(f"misses.share: {error}") from error
