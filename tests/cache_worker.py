"""One of the processes that share a disk cache in test_model_processes.py: does as it is told, by lines of JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from bitstore import DiskCache, NotFoundInStore


def main() -> None:
    caches: list[DiskCache] = []
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        print(json.dumps(_do(caches, **order)), flush=True)


def _do(caches: list[DiskCache], do: str, key: str = "", data: str = "", size: int = 0, folder: str = "") -> Any:
    if do == "open":
        caches[:] = [DiskCache(folder, max_size=size, algorithm="sha1")]
        return None
    (cache,) = caches
    if do == "put":
        return cache.put(key, data.encode())
    if do == "get":
        try:
            return cache.get(key).decode()
        except NotFoundInStore:
            return None
    if do == "delete":
        return cache.delete(key)
    if do == "prune":
        return cache.prune(size)
    raise AssertionError(do)


if __name__ == "__main__":
    main()
