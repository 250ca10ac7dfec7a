"""Many nodes that ask one bucket for more than it permits.

Each node has the real scheduler with its pace, the real retries of a request, the real breaker of a tier, and the real
`RateLimit` or `ClusterRate`. What is modelled: the clock, the bucket, the window of lookups of a batch with its
patience, and the time that a message to the keeper of a rate takes.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bitstore._limits.rates import RateLimit
from bitstore._lookup import window
from bitstore._lookup.options import LookupOptions
from bitstore._lookup.retry import Rate, Retry, TransferCounts, send
from bitstore._support import clock as runtime
from bitstore._tiers.breaker import PROBE_PAUSE, Breaker
from bitstore._transport.pace import Pace
from bitstore._transport.scheduler import Scheduler
from bitstore._transport.transport import Ended, Exchange
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Call, Profile, Request, Response, Sleep, Steps, Wait
from ray_integration._limits import cluster_rate
from ray_integration._limits.cluster_rate import ClusterRate, RateKeeper

__all__ = ["run"]

_LATENCY = 0.03  # seconds until a blob is here
_REFUSAL = 0.01  # seconds until a 503 is here
_BURST = 0.1  # seconds' worth of requests that the bucket answers at once
_MESSAGE = 0.0005  # seconds that one call takes the keeper of a cluster's rate, one after another
_BODY = b"x" * 16_384
_AHEAD = 32  # exchanges that a transport takes ahead
_PATIENCE = LookupOptions().patience


class World:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()

    def clock(self) -> float:
        return self.now

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), act))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()


class Bucket:
    """Answers so many requests a second, and all others by 503."""

    def __init__(self, world: World, per_second: float) -> None:
        self._world = world
        self._gap = 1 / per_second
        self._free_at = 0.0

    def answer(self) -> tuple[int, float]:
        """The status, and the seconds until it is there."""
        now = self._world.now
        if self._free_at > now + _BURST:
            return 503, _REFUSAL
        self._free_at = max(self._free_at, now) + self._gap
        return 200, _LATENCY


class Wire:
    """The transport of one node, which takes some exchanges ahead as the native one does."""

    least = 0.0

    def __init__(self, world: World, bucket: Bucket, wake: Callable[[], object]) -> None:
        self._world, self._bucket, self._wake = world, bucket, wake
        self._ended: list[Ended] = []
        self._queue: deque[Exchange] = deque()
        self._taken = self._under_way = 0
        self._limit = float("inf")  # exchanges that may be under way, as of the last turn

    @property
    def ahead(self) -> int:
        return _AHEAD if self._taken else 0

    def begin(self, exchange: Exchange) -> bool:
        self._taken += 1
        self._queue.append(exchange)
        self._send()
        return True

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        return [exchange for exchange in exchanges if not self.begin(exchange)]

    def _send(self) -> None:
        while self._queue and self._under_way < self._limit:
            exchange = self._queue.popleft()
            self._under_way += 1
            status, seconds = self._bucket.answer()
            response = Response(status, _BODY if status == 200 else b"", {}, 0.0)
            self._world.after(seconds, partial(self._end, exchange, response))

    def _end(self, exchange: Exchange, response: Response) -> None:
        self._under_way -= 1
        self._ended.append((exchange, response))
        self._send()
        self._wake()

    def abandon(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def patience(self, room: int) -> float:
        return float("inf")

    def turn(self, heard: Collection[int], now: float, room: int) -> list[Ended]:
        self._limit = self._taken + room
        self._send()
        ended, self._ended = self._ended, []
        self._taken -= len(ended)
        return ended

    def learn(self, request: Request, address: str, port: int) -> None:
        """The server is known."""

    perform = reached = staticmethod(lambda *_: None)


class Lookup:
    """One lookup of a node: performs its steps."""

    exchange: Exchange | None = None

    def __init__(self, node: Node) -> None:
        self.node = node
        node.lookups.add(self)
        self._steps = node.steps()
        self.resume(None)

    def resume(self, answer: Any) -> None:
        node = self.node
        try:
            step = self._steps.send(answer)
        except StopIteration as ended:
            node.lookups.discard(self)
            node.ended(bool(ended.value))
            return
        if isinstance(step, Request):
            node.begin(self, step)
        elif isinstance(step, Sleep):
            node.world.after(step.seconds, lambda: self.resume(None))
        elif isinstance(step, Wait):
            step.event.on_landing(lambda: node.world.after(0.0, lambda: self.resume(None)))
        else:
            assert isinstance(step, Call)
            node.world.after(node.keeper_delay(), lambda: self.resume(step.function(*step.args)))

    def close(self) -> None:
        self._steps.close()


class Node:
    """A node that has always more to ask for."""

    def __init__(self, world: World, bucket: Bucket, rate: Rate | None, keeper_delay: Callable[[], float]) -> None:
        self.world, self.keeper_delay = world, keeper_delay
        self.tally = TransferCounts(rate)
        self.breaker = Breaker("bucket", clock=world.clock)
        self.pace = Pace(clock=world.clock)
        wire: Any = Wire(world, bucket, self._turn)
        waiter: Any = SimpleNamespace(wait=lambda seconds: [])
        self.scheduler = Scheduler([wire], self.pace, waiter, clock=world.clock)
        self._is_woken = False  # whether a turn of the scheduler is due at this moment
        self.lookups: set[Lookup] = set()
        self.found = self.failed = 0
        world.after(random.uniform(0, 1), self.fill)  # nodes do not start in the same moment

    def fill(self) -> None:
        while len(self.lookups) < max(window._LOOKUPS, window._PER_TRANSFER * self.pace.limit + window._SPARE):
            Lookup(self)

    def ended(self, found: bool) -> None:
        self.found += found
        self.failed += not found
        self.world.after(0.0, self.fill)

    def begin(self, lookup: Lookup, request: Request) -> None:
        self.scheduler.begin(lookup, request)
        if not self._is_woken:
            self._is_woken = True
            self.world.after(0.0, self._turn)

    def _turn(self) -> None:
        self._is_woken = False
        for lookup, outcome in self.scheduler.turn(0.0):
            if isinstance(outcome, Exception):
                raise outcome
            lookup.resume(outcome)

    def steps(self) -> Steps[bool]:
        """A lookup of one tier: its breaker, its request, and the patience of a batch (`Window._try_again`)."""
        tries, failed_at = 0, float("-inf")
        while True:
            ticket = self.breaker.admit()
            if ticket is not None:
                response = yield from send(_REQUEST, _RETRY, self.tally)
                if response.status == 200:
                    self.breaker.succeeded()
                    return True
                self.breaker.failed(ticket, StoreNotAvailable("bucket", "503"))
            retry_in, down_for = self.breaker.retry_in, self.breaker.down_for
            if retry_in is None:  # it has answered others since (`Question.error`)
                retry_in = PROBE_PAUSE
            tries += down_for == 0 or self.world.now - down_for > failed_at
            failed_at = self.world.now
            most = window._TRIES_OVERRUN if self.tally.is_eased else window._TRIES
            if tries > most or down_for + retry_in > _PATIENCE:
                return False
            yield Sleep(retry_in * max(1, tries) + random.uniform(0.05, 0.25))


_REQUEST = Request(Profile(), "https://bucket/key")
_RETRY = Retry()


class _Rate(ClusterRate):
    """The share that one node has of a cluster's rate."""

    def __init__(self, name: str, keeper: RateKeeper, per_second: float) -> None:
        super().__init__("bucket", per_second=per_second)
        central: Any = SimpleNamespace(call=lambda method, *args: getattr(keeper, method)(*args))
        self._mine = cluster_rate._Share(central)
        self._mine.name = name

    def _here(self) -> Any:
        return self._mine


def run(nodes: int, kind: str, rate: float, *, bucket: float, seconds: float) -> dict[str, Any]:
    """What comes of so many seconds, of which the second half counts.

    Parameters
    ----------
    kind
        What bounds the requests: "none", "process" (`RateLimit`), "cluster" (`ClusterRate`).
    rate
        Requests a second of all nodes together that this permits.
    bucket
        Requests a second that the bucket answers.
    """
    world = World()
    free_at = 0.0

    def keeper_delay() -> float:
        nonlocal free_at
        free_at = max(free_at, world.now) + _MESSAGE
        return free_at - world.now

    with _clock(world.clock):
        random.seed(7)
        keeper = RateKeeper(rate, world.clock)
        rates: dict[str, Callable[[int], Rate | None]] = {
            "none": lambda number: None,
            "process": lambda number: RateLimit(per_second=rate / nodes, clock=world.clock),
            "cluster": lambda number: _Rate(f"node-{number}", keeper, rate),
        }
        server = Bucket(world, bucket)
        every = [Node(world, server, rates[kind](number), keeper_delay) for number in range(nodes)]
        world.run(seconds / 2)
        before = [(node.found, node.failed, node.tally.requests) for node in every]
        world.run(seconds)
        for node in every:
            for lookup in list(node.lookups):
                lookup.close()
    found, failed, requests = (
        [now - then for now, then in zip(counts, column, strict=True)]
        for counts, column in zip(
            ([node.found for node in every], [node.failed for node in every], [node.tally.requests for node in every]),
            zip(*before, strict=True),
            strict=True,
        )
    )
    return {
        "served": round(sum(found) / (bucket * seconds / 2), 4),
        "requests": round(sum(requests) / max(1, sum(found)), 4),
        "failed": round(sum(failed) / max(1, sum(found) + sum(failed)), 4),
        "slowest": round(min(found) / max(1, sum(found)) * nodes, 4),
    }


@contextmanager
def _clock(clock: Callable[[], float]) -> Iterator[None]:
    with (
        mock.patch.object(runtime, "monotonic", clock),
        mock.patch.object(cluster_rate, "time", SimpleNamespace(monotonic=clock)),
    ):
        yield
