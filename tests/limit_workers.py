"""API sources with limits, and what processes do with them, in a module that others can import."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from bitstore import (
    CallLimit,
    LimitReached,
    NotFoundInStore,
    Sha1APISource,
    StoreNotAvailable,
    TooManyRequests,
)
from bitstore._limits.calls import Limit
from tests.servers import CountedAPI
from tests.servers.http import Upstream
from tests.servers.wire import Request, Response
from tests.stores import composed

__all__ = [
    "Asker",
    "LimitedAPI",
    "TimedAPI",
    "ask_as_job",
    "call_until_used_up",
    "digest_of",
    "kill_at_work",
    "most_within",
]


class TimedAPI(CountedAPI):
    """A counted API that notes when it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        self.times.append(time.monotonic())
        return await super()._respond(request, upstream)


def kill_at_work(
    api: TimedAPI, requests: int, work: Callable[..., object], arguments: Iterable[tuple[Any, ...]]
) -> int:
    """Do `work` in a process for each of `arguments`, and kill them all after so many more `requests` have come.

    Returns how many were killed: those that were still at work.
    """
    workers = [multiprocessing.get_context("fork").Process(target=work, args=args) for args in arguments]
    wanted = len(api.times) + requests
    for worker in workers:
        worker.start()
    pause = threading.Event()
    while len(api.times) < wanted and any(worker.is_alive() for worker in workers):
        pause.wait(0.002)
    kills = 0
    for worker in workers:
        if worker.is_alive():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            kills += 1
        worker.join()
    return kills


class LimitedAPI(Sha1APISource):
    """The counted API as a source that is careful."""

    def __init__(self, url: str, limit: Limit | None, **options: Any) -> None:
        super().__init__(True, limit=limit, **options)
        self.url = url

    def api_get(self, digest: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"{self.url}/blob/{digest}", timeout=30) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 429:
                raise TooManyRequests(error.headers["Retry-After"]) from error
            raise


def digest_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def most_within(seconds: float, times: list[float]) -> int:
    """The largest number of `times` in any span of so many seconds."""
    times = sorted(times)
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def call_until_used_up(url: str, state: str, budget: int, worker: int) -> int:
    """Look up one blob after another until the budget is used up; returns how many were found missing."""
    store = composed(LimitedAPI(url, CallLimit("api", budget=budget, per_day=1000, state=state)))
    for number in range(10_000):
        try:
            store.get(digest_of(f"{worker} {number}".encode()))
        except StoreNotAvailable as error:
            if isinstance(error.__cause__, LimitReached):
                return number
            raise
        except FileNotFoundError:
            continue
    raise AssertionError("the budget was never used up")


class Asker:
    """A process that looks up digests made of a word and a number."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def ask(self, word: str, count: int) -> list[str]:
        """One after the other: `missing`, or the name of the error."""
        return [self._outcome(digest_of(f"{word} {number}".encode())) for number in range(count)]

    def ask_many(self, word: str, count: int) -> list[str]:
        """All at once."""
        digests = [digest_of(f"{word} {number}".encode()) for number in range(count)]
        return [_told(blob.error) for blob in self.store.get_many(digests)]

    def rate(self) -> float | None:
        """Of the store's bucket."""
        rate: float | None = self.store.base_store.limit.rate
        return rate

    def _outcome(self, digest: str) -> str:
        try:
            self.store.get(digest)
        except Exception as error:
            return _told(error)
        return "found"


def _told(error: Exception | None) -> str:
    return "missing" if isinstance(error, NotFoundInStore) else type(error).__name__


def ask_as_job(nodes: list[str], url: str, limit: str) -> None:
    """A driver's work: an asker on each node; what became of all lookups is printed."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from ray_integration import ClusterLimit

    source = LimitedAPI(url, eval(limit, {"ClusterLimit": ClusterLimit}))
    count = 6 if source.limit is not None and source.limit.terms.per_minute else 400
    actors: list[Any] = [
        ray.remote(Asker)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(source)
        for node in nodes[:3]
    ]
    pending = [actor.ask.remote(f"other {number}", count) for number, actor in enumerate(actors)]
    print(*[outcome for ref in pending for outcome in ray.get(ref, timeout=150)])
