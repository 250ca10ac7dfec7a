# ruff: noqa: PTH103, PTH104 - what is measured here are the bare calls
"""Writes of new 16 KB blobs by several processes into one folder.

What was written stays until the end: ext4 takes far longer to find an inode while many were freed within the last few
seconds, and the contestant of the next turn would pay for the deletion.
"""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("diskcache",)

_SIZE = 16 * 1024


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    processes = job["processes"]

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        each = sum(1 for _ in names) // processes
        context = multiprocessing.get_context("fork")
        ready, told = context.Barrier(processes + 1), context.Queue()
        running = [context.Process(target=_write, args=(job, each, ready, told)) for _ in range(processes)]
        for process in running:
            process.start()
        ready.wait()  # all have made their blobs
        started = time.perf_counter()
        parts = [told.get() for _ in running]
        seconds = time.perf_counter() - started
        for process in running:
            process.join()
            if process.exitcode:
                raise RuntimeError("a writer failed")
        return {
            "blobs": each * processes,
            "bytes": each * processes * _SIZE,
            "seconds": seconds,
            "cpu": sum(cpu for cpu, _ in parts),
            "kept": sum(kept for _, kept in parts),
        }

    return fetch


def _write(job: dict[str, Any], count: int, ready: Any, told: Any) -> None:
    blobs = [os.urandom(_SIZE) for _ in range(count)]
    pairs = [(hashlib.sha1(data).hexdigest(), data) for data in blobs]
    put = _WRITERS[job["writer"]](job)
    ready.wait()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for name, data in pairs:
        put(name, data)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cache: Any = getattr(put, "__self__", None)
    kept = cache.stats()["written"] if job["writer"].startswith("ours") else count
    told.put((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, kept))


def _bare(job: dict[str, Any]) -> Callable[[str, bytes], object]:
    root = f"{job['folder']}/sha1"
    os.makedirs(f"{job['folder']}/tmp", exist_ok=True)

    def put(name: str, data: bytes) -> None:
        draft = f"{job['folder']}/tmp/{name}"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(file, data)
        finally:
            os.close(file)
        os.rename(draft, f"{root}/{name[:3]}/{name}")

    return put


def _ours(job: dict[str, Any]) -> Callable[[str, bytes], object]:
    from bitstore import DiskCache

    return DiskCache(job["folder"], job["max_size"], algorithm="sha1").put


def _diskcache(job: dict[str, Any]) -> Callable[[str, bytes], object]:
    diskcache: Any = importlib.import_module("diskcache")
    cache = diskcache.Cache(job["folder"], size_limit=1 << 40, timeout=600)
    put: Callable[[str, bytes], object] = cache.set
    return put


_WRITERS = {"create+rename": _bare, "ours": _ours, "ours, evicting": _ours, "diskcache": _diskcache}
