"""Warm reads of small files from one folder: a `DiskCache`, and what the bare system calls take."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("diskcache",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    get = _READERS[job["reader"]](job)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = size = 0
        for name in names:
            size += len(get(name))
            blobs += 1
        return {"blobs": blobs, "bytes": size}

    return fetch


def _ours(job: dict[str, Any]) -> Callable[[str], bytes]:
    from bitstore import DiskCache

    cache = DiskCache(job["folder"], "1TB", algorithm="sha1", verify=job["verify"])
    return cache.get


def _open_read(job: dict[str, Any]) -> Callable[[str], bytes]:
    prefix, size = f"{job['folder']}/sha1/", job["size"]

    def get(name: str) -> bytes:
        file = os.open(f"{prefix}{name[:3]}/{name}", os.O_RDONLY)
        try:
            data = os.read(file, size)  # told, so that no larger buffer is made first
        finally:
            os.close(file)
        if job["verify"] and hashlib.sha1(data).hexdigest() != name:
            raise RuntimeError(f"{name}: damaged")
        return data

    return get


def _diskcache(job: dict[str, Any]) -> Callable[[str], bytes]:
    diskcache: Any = importlib.import_module("diskcache")
    cache = diskcache.Cache(job["other_folder"], size_limit=1 << 40)
    with open(job["names"]) as names:
        for name in names.read().split():
            with open(f"{job['folder']}/sha1/{name[:3]}/{name}", "rb") as file:
                cache.set(name, file.read())

    def get(name: str) -> bytes:
        data: bytes = cache[name]
        return data

    return get


def _opening(job: dict[str, Any]) -> Callable[[str], bytes]:
    """Opens the cache again for each read: what a new process pays before its first hit, without the imports."""
    from bitstore import DiskCache

    def get(name: str) -> bytes:
        return DiskCache(job["folder"], "1TB", algorithm="sha1", verify=job["verify"]).get(name)

    return get


def _opening_to_write(job: dict[str, Any]) -> Callable[[str], bytes]:
    """Opens the cache again and writes one new blob."""
    from bitstore import DiskCache

    def get(name: str) -> bytes:
        data = f"{name} {time.time_ns()}".encode()
        DiskCache(job["folder"], "1TB", algorithm="sha1").put(hashlib.sha1(data).hexdigest(), data)
        return data

    return get


_READERS = {
    "ours": _ours,
    "open+read": _open_read,
    "diskcache": _diskcache,
    "opening": _opening,
    "opening to write": _opening_to_write,
}
