"""Small blobs in packs and as single files: written into caches of one machine, and read from a slow origin."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .threads import looping

DISTRIBUTIONS = ("pycurl",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    return _writing(job) if "writer" in job else _reading(job)


def _writing(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    """New blobs into a new folder each turn, which stays until the end, as deletions slow the next turn down."""
    turns = itertools.count()

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = [os.urandom(job["size"]) for _ in names]
        pairs = [(hashlib.sha1(data).hexdigest(), data) for data in blobs]
        folder = Path(job["folder"]) / f"{job['writer']}-{next(turns)}"
        cache, end = _WRITERS[job["writer"]](folder, Path(job["bucket"]) / folder.name)
        started, used = time.perf_counter(), time.process_time()
        for name, data in pairs:
            cache.put(name, data)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        told = {"blobs": len(pairs), "bytes": job["size"] * len(pairs), "seconds": seconds, "cpu": cpu}
        return {**told, "puts": end()}

    return fetch


def _packs(folder: Path, bucket: Path) -> tuple[Any, Callable[[], int]]:
    from bitstore import FileRaw, PackCache

    bucket.mkdir(parents=True)
    cache = PackCache(FileRaw(), f"file://{bucket}/", folder=folder, algorithm="sha1", refresh=3600.0)

    def end() -> int:
        cache.flush()
        count = sum(1 for _ in bucket.iterdir())
        shutil.rmtree(bucket)
        return count

    return cache, end


def _files(folder: Path, _: Path) -> tuple[Any, Callable[[], int]]:
    from bitstore import DiskCache

    cache = DiskCache(folder, "1TB", algorithm="sha1")
    return cache, lambda: int(cache.stats()["written"] or 0)


class _Floor:
    """What every cache has to do that checks its blobs and survives its process: a hash, and one call of the system."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._head = bytes(512)

    def put(self, name: str, data: bytes) -> None:
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() != name:
            raise ValueError(name)
        os.writev(self._file, (self._head, data))

    def close(self) -> int:
        os.close(self._file)
        return 1


def _floor(folder: Path, _: Path) -> tuple[Any, Callable[[], int]]:
    floor = _Floor(folder)
    return floor, floor.close


_WRITERS = {"packs": _packs, "files": _files, "floor": _floor}


def _reading(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    from bitstore import S3Raw, Sha1References, Sha1Store

    raw = S3Raw(endpoint_url=job["url"])

    def made() -> Any:
        if "table" in job:
            return Sha1References(job["table"], base_url=f"s3://{job['bucket']}/", raw=raw)
        return Sha1Store(raw, f"s3://{job['bucket']}/", verify=True)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        store = made()  # a new one each turn, that has read nothing ahead
        if job["threads"]:
            return looping(lambda name: len(store.get(name)), names, job["threads"])
        blobs = size = 0
        for blob in store.get_many(names, errors="raise"):
            blobs += 1
            size += len(blob.data or b"")
        return {"blobs": blobs, "bytes": size}

    return fetch
