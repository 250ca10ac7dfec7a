"""`get_many` over digests that a store in memory does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    from bitstore import MemoryCache, NotFoundInStore, Sha1Composite

    store = Sha1Composite()
    store.append_cache(MemoryCache())

    def digests(count: int) -> Iterator[str]:
        for number in range(count):
            yield f"{number:040x}"

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        missing = 0
        for blob in store.get_many(digests(sum(1 for _ in names))):
            missing += isinstance(blob.error, NotFoundInStore)
        return {"blobs": missing, "bytes": 0}

    return fetch
