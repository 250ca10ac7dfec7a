"""bitstore with its default settings, the way users call it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .threads import looping

DISTRIBUTIONS = ("pycurl",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    from bitstore import S3Raw, Sha1Composite, Sha1Store

    raw = S3Raw(endpoint_url=job["url"])
    store = Sha1Composite()
    for bucket in job.get("buckets", [job.get("bucket")]):
        store.append_source(Sha1Store(raw, f"s3://{bucket}/", verify=job.get("verify", True)))
    return _HOW[job.get("how", "get_many")](store, job)


def _get_many(store: Any, job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = size = 0
        for blob in store.get_many(names):
            if blob.error is not None:
                raise blob.error
            blobs += 1
            size += len(blob.data)
        return {"blobs": blobs, "bytes": size}

    return fetch


def _ultimap(store: Any, job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    ultimap: Any = importlib.import_module("ultima").ultimap
    empty = {
        "nothing": lambda name: None,  # what ultimap itself costs
        "yielding": lambda name: time.sleep(0),  # each call lets another thread run, as all I/O does
        "away": lambda name: time.sleep(1e-4),  # each call is away for about as long as a request takes here
    }
    get = empty.get(job["how"], store.get)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = size = 0
        for data in ultimap(get, names, backend="threading", n_workers=job["threads"]):
            blobs += 1
            size += len(data) if data is not None else job["size"]
        return {"blobs": blobs, "bytes": size}

    return fetch


def _threads(store: Any, job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    return lambda names: looping(lambda name: len(store.get(name)), names, job["threads"])


def _consumer(store: Any, job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    """A consumer that burns Python for each blob; the same burning without fetching is told as `alone`."""

    def burn_for(items: Iterable[Any], rounds: int) -> int:
        count = 0
        for _ in items:
            _burn(rounds)
            count += 1
        return count

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        # Found again each time: the speed of these machines changes from one minute to the next.
        burn = _rounds(job["burn"])
        wanted = list(names)
        half = len(wanted) // 2
        # Half of it before and half after, so that a change of the machine's speed meets both alike.
        started = time.perf_counter()
        burn_for(wanted[:half], burn)
        between = time.perf_counter()
        blobs = burn_for(store.get_many(wanted), burn)
        fetched = time.perf_counter()
        burn_for(wanted[half:], burn)
        alone = between - started + time.perf_counter() - fetched
        return {"blobs": blobs, "bytes": blobs * job["size"], "seconds": fetched - between, "alone": alone}

    return fetch


def _rounds(seconds: float) -> int:
    """How many rounds of `_burn` take so long."""
    rounds = 1000
    while (took := _timed(rounds)) < 0.05:
        rounds *= 2
    return max(1, int(rounds * seconds / took))


def _timed(rounds: int) -> float:
    started = time.perf_counter()
    _burn(rounds)
    return time.perf_counter() - started


def _burn(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += number & 7
    return total


_HOW = {
    "get_many": _get_many,
    "ultimap": _ultimap,
    "nothing": _ultimap,
    "yielding": _ultimap,
    "away": _ultimap,
    "threads": _threads,
    "consumer": _consumer,
}
