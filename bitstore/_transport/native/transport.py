"""The native transport: it takes GETs into memory, to origins that libcurl has reached."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection

from bitstore._support.per_process import PerProcess, hold_after_fork
from bitstore._transport.bars import Bars
from bitstore._transport.budget import SocketBudget
from bitstore._transport.native.connections import STALE_SECONDS, Connections
from bitstore._transport.origins import Origins
from bitstore._transport.poller import Poller
from bitstore._transport.transport import Declined, Ended, Exchange, Performed
from bitstore.steps import TIMED_OUT, Request, TransferError

__all__ = ["Native"]

_WATCH_SECONDS = 0.5
# Answers that are handed over at once, and the longest that the first of them waits for the others: each time costs a
# wait for the GIL, and the consumer's thread is woken.
_PORTION = 32
_PATIENCE = 0.001  # seconds
# Exchanges that are taken ahead. As many as end at once: the server has something to do while Python looks at these.
_AHEAD = _PORTION


class Native:
    """The native connections of one transfer thread."""

    def __init__(self, poller: Poller, budget: SocketBudget) -> None:
        self._connections = Connections()
        self._group = group = self._connections.group
        self.least: float = 0 if poller.tells else math.inf  # without epoll, only calling threads are served
        self._active = 0
        self._sockets = budget.share(lambda: group.trim(0))
        if poller.tells:
            poller.add(group.fileno())

    def begin(self, exchange: Exchange) -> bool:
        """Take a GET into memory, to an origin that was reached before; declines anything else."""
        number = self._connections.begin(exchange, exchange.request)
        if number is None:
            return False
        exchange.carrier = number
        self._active += 1
        return True

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Take the plain GETs that are of one profile, origin and digest with the first, by one call."""
        self._connections.begin_together(exchanges)
        declined = [exchange for exchange in exchanges if exchange.carrier is None]
        self._active += len(exchanges) - len(declined)
        return declined

    def abandon(self, exchange: Exchange) -> None:
        """End an exchange and its connection, unless it has just ended."""
        number, exchange.carrier = exchange.carrier, None
        if number is not None:
            self._active -= 1
            self._group.abandon(number)

    @property
    def ahead(self) -> int:
        """How many exchanges it takes beyond those that may be under way; 0 while it has none, and may decline all."""
        return _AHEAD if self._active else 0

    def patience(self, room: int) -> float:
        """Seconds until time limits want to be checked; 0 while there is something to do."""
        group = self._group
        if group.busy() or (group.queued and group.carried < self._active + room):
            return 0.0
        return _WATCH_SECONDS if self._active else math.inf

    def turn(self, heard: Collection[int], now: float, room: int) -> list[Ended]:
        """Do what can be done, without the GIL; the group knows by itself which sockets have something new."""
        ended = self._group.turn(max(0, self._active + room), self._sockets.claim(), _PORTION, _PATIENCE)
        self._sockets.taken = self._group.connections
        self._active -= len(ended)
        for exchange, _ in ended:
            exchange.carrier = None
        return ended

    def learn(self, request: Request, address: str, port: int) -> None:
        """Remember where the server of a GET was reached."""
        self._connections.learn(request, address, port)

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed | None:
        """Carry a GET into memory, to an origin that was reached before, with one release of the GIL."""
        if not request.into_memory:
            return None
        blocking = _blocking()
        where = blocking.where(request)
        return None if where is None else blocking.perform(request, timeout, where)

    @staticmethod
    def reached(request: Request, address: str, port: int) -> None:
        """Another transport has carried `request` in a calling thread, and the server was at this address."""
        _blocking().learn(request, address, port)


class _Blocking:
    """The connections of calling threads, and where servers were reached."""

    def __init__(self) -> None:
        self.idle: deque[Connections] = deque(maxlen=64)
        # By profile and origin: address, port, and the second on `time.monotonic()` up to which they hold.
        self._known: Origins[str, tuple[str, int, float]] = Origins()
        self._bars = Bars()

    def learn(self, request: Request, address: str, port: int) -> None:
        if self._bars.any and self._bars.hold(0, request, time.monotonic()):
            return
        until = time.monotonic() + STALE_SECONDS
        self._known.keep(request.profile, request.origin, (address, port, until))

    def where(self, request: Request) -> tuple[str, int, float] | None:
        known = self._known.get(request.profile)
        where = None if known is None else known.get(request.origin)
        return None if where is None or where[2] < time.monotonic() else where

    def perform(self, request: Request, timeout: float | None, where: tuple[str, int, float]) -> Performed | None:
        try:
            connections = self.idle.pop()
        except IndexError:  # no look before: another thread may take the last one in between
            connections = Connections()
        if connections.known is not where:
            address, port, until = where
            connections.learn(request, address, port, until - time.monotonic())
            connections.known = where
        number = connections.begin(Exchange(None, request, None), request)
        if number is None:
            self.idle.append(connections)
            return None
        # What a signal handler raises ends `connections` with this frame, and what they carry.
        ended = connections.group.perform(1e9 if timeout is None else timeout)
        if not ended:  # time is over
            connections.group.abandon(number)
        self.idle.append(connections)
        if not ended:
            raise TransferError(TIMED_OUT, f"no answer within {timeout:g} seconds")
        outcome = ended.pop()[1]
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome  # it refers to this frame: such a cycle would keep what had come of a large blob in memory
        if not isinstance(outcome, Declined):
            return Performed(outcome)
        if outcome.seconds:  # else libcurl's answer would teach the same address again, and each request go out twice
            self._bars.add(0, request, time.monotonic() + outcome.seconds)
            self._known.get(request.profile, {}).pop(request.origin, None)
        return None


_processes: PerProcess[_Blocking] = PerProcess()
hold_after_fork(_processes.get)


def _blocking() -> _Blocking:
    return _processes.get() or _processes.set_once(_Blocking())
