"""The order of five sources of which each has other blobs, and a hedge against one that is slow now and then."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.results import Result, Verdict
from bitstore import HTTPRaw, LearnedOrder, Sha1Composite, Sha1Store
from bitstore.index import IndexBuilder
from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response

__all__ = ["hedge", "learned"]

_SHARES = (0.72, 0.18, 0.06, 0.03, 0.01)
"""Of the blobs, in each source: 1.43 requests for each blob in the best order, and 4.57 in the worst."""

_SECONDS = 0.005  # that each answer takes in the case of the hedge
_SLOW_SECONDS = 0.5  # that some answers of the slow source take
_SLOW_SHARE = 0.02


class _Shelves(FaultyServer):
    """Holds blobs by source and digest."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, bytes] = {}
        self.asked = 0
        self.seconds = 0.0  # until each answer
        self.slow = ""  # the source that is slow now and then; empty: none is
        self._random = random.Random(1)

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        self.asked += 1
        name = request.path.lstrip("/")
        if self.slow and name.startswith(self.slow) and self._random.random() < _SLOW_SHARE:
            await asyncio.sleep(_SLOW_SECONDS)
        elif self.seconds:
            await asyncio.sleep(self.seconds)
        data = self.held.get(name)
        return make_response(404 if data is None else 200, data or b"", {}, method=request.method)


def _skewed(server: _Shelves, count: int) -> list[str]:
    """Put blobs into the sources by their shares; their digests in an order that says nothing."""
    rng = random.Random(2)
    digests = []
    for number in range(count):
        data = f"blob {number}".encode() * 8
        digests.append(hashlib.sha1(data).hexdigest())
        server.held[f"{rng.choices(range(len(_SHARES)), _SHARES)[0]}/{digests[-1]}"] = data
    rng.shuffle(digests)
    return digests


def learned(bench: Bench) -> Result:
    """Requests for each blob found, in the worst order that the sources could have been written in."""
    count = 4000 if bench.quick else 20_000
    result = Result("order", 12, f"Five sources, {count:,} blobs of which each is in one; written in the worst order")
    result.columns = ("order", "requests", "requests a blob")
    folder = bench.scratch("order")
    figures = {}
    with _Shelves() as server:
        digests = _skewed(server, count)
        for name, order, indexed in (
            ("as written", None, False),
            ("learned", LearnedOrder(), False),
            ("learned, each source with an index", LearnedOrder(), True),
        ):
            store = Sha1Composite(order=order or "written")
            for source in reversed(range(len(_SHARES))):
                store.append_source(_source(server, source, folder if indexed else None), name=str(source))
            server.asked = 0
            found = sum(blob.found for blob in store.get_many(digests, in_flight=32))
            figures[name] = server.asked / found
            result.table.append((name, f"{server.asked:,}", f"{figures[name]:.2f}"))
            result.raw[name] = [{"requests": server.asked, "found": found}]
    result.verdicts = [
        Verdict("requests a blob, without an index", figures["learned"], most=1.7),
        Verdict("requests a blob, with an index", figures["learned, each source with an index"], most=1.05),
    ]
    result.notes.append("Learning and exploring are counted: each run begins with the order as written.")
    return result


def _source(server: _Shelves, source: int, folder: Path | None) -> Sha1Store:
    url = f"{server.url}/{source}/"
    if folder is None:
        return Sha1Store(HTTPRaw(), url, verify=True)
    with IndexBuilder("sha1") as builder:
        builder.add([name.partition("/")[2] for name in server.held if name.startswith(f"{source}/")])
        builder.write(folder / f"{source}.idx")
    return Sha1Store(HTTPRaw(), url, verify=True, index=folder / f"{source}.idx")


def hedge(bench: Bench) -> Result:
    """The slowest lookups of a chain in which the first of two sources is slow now and then, one after another."""
    count = 1000 if bench.quick else 4000
    result = Result("hedge", 12, f"Two sources, {_SECONDS * 1000:g} ms each; the blobs are in the second")
    result.columns = ("chain", "p50 ms", "p99 ms", "hedged lookups")
    slowest = {}
    with _Shelves() as server:
        server.seconds = _SECONDS
        digests = []
        for number in range(count):
            data = f"hedged {number}".encode() * 8
            digests.append(hashlib.sha1(data).hexdigest())
            server.held[f"1/{digests[-1]}"] = data
        for name, slow, share in (
            ("no slow source", "", None),
            (f"{_SLOW_SHARE:.0%} of the first take {_SLOW_SECONDS:g} s", "0/", None),
            ("the same, hedge=0.05", "0/", 0.05),
        ):
            server.slow = slow
            store = Sha1Composite(hedge=share)
            for source in (0, 1):
                store.append_source(_source(server, source, None), name=str(source))
            seconds = _timed(store, digests)
            slowest[name] = _share(seconds, 0.99)
            hedged = store.stats()["1"].hedged
            row = (name, f"{_share(seconds, 0.5) * 1000:.1f}", f"{slowest[name] * 1000:.1f}", f"{hedged / count:.1%}")
            result.table.append(row)
            result.raw[name] = [{"seconds": seconds, "hedged": hedged}]
    quiet, _, hedged_p99 = slowest.values()
    result.verdicts = [
        Verdict("p99 with a slow source and a hedge, times that without one", hedged_p99 / quiet, most=1.5)
    ]
    return result


def _timed(store: Sha1Composite, digests: Sequence[str]) -> list[float]:
    seconds = []
    for digest in digests:
        begun = time.perf_counter()
        store.get(digest)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _share(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))]
