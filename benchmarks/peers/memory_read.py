"""Hits in memory: a `MemoryCache`, and a dict under a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    with open(job["names"]) as file:
        held = dict.fromkeys(file.read().split(), b"x" * 1024)
    lock = threading.Lock()

    def look_up(name: str) -> bytes:
        with lock:
            return held[name]

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        get = cache_get if job["reader"] == "ours" else look_up
        blobs = 0
        for name in names:
            get(name)
            blobs += 1
        return {"blobs": blobs, "bytes": 0}

    from bitstore import MemoryCache

    cache = MemoryCache("1GB")
    for name, data in held.items():
        cache.put(name, data)
    cache_get = cache.get
    return fetch
