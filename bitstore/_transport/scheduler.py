"""The HTTP exchanges of one transfer thread: how many at once, in which order, by which transport."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bitstore._transport.bars import Bars
from bitstore._transport.pace import Pace
from bitstore._transport.transport import WAITING, Declined, Exchange, Transport
from bitstore.steps import REFUSED, Request, Response, TransferError

__all__ = ["Owner", "Scheduler", "Waiter"]


class Owner(Protocol):
    """The lookup that asked for an exchange."""

    exchange: Exchange | None  # under way, or waiting for a place; written by the scheduler


class Waiter(Protocol):
    """What the transfer thread sleeps in: `bitstore._transport.poller.Poller`."""

    def wait(self, seconds: float) -> list[int]:
        """Sleep for at most `seconds`, or until a socket has something new; returns the numbers of such sockets."""


class Scheduler:
    """As many exchanges at once as the pace allows; more wait in order. Only the transfer thread calls this.

    Parameters
    ----------
    transports
        In the order in which they are asked for each exchange.
    pace
        Says how many exchanges may be under way.
    waiter
        What the thread sleeps in.
    answered
        Called with an owner and the `Response` to what it asked for.
    failed
        Called with an owner and the error that it got instead, a `TransferError` unless a transport has a defect.
    clock
        Seconds; for tests.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        pace: Pace,
        waiter: Waiter,
        answered: Callable[[Any, Response], None],
        failed: Callable[[Any, Exception], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.active = 0  # exchanges that a transport carries
        self._transports = tuple(transports)
        self._levels = tuple(enumerate(transports))
        self._pace = pace
        self._waiter = waiter
        self._answered = answered
        self._failed = failed
        self._clock = clock
        self._now = clock()
        self._waiting: deque[Exchange] = deque()
        self._bars = Bars()

    def begin(self, owner: Owner, request: Request, until: float | None = None) -> None:
        """Carry `request` for `owner`, now or when there is room.

        Parameters
        ----------
        until
            Seconds on the runtime's clock: transports may give up then. Ending the exchange then is the owner's task.
        """
        exchange = owner.exchange = Exchange(owner, request, until)
        if self._waiting or self.active >= self._pace.limit:
            self._waiting.append(exchange)
        else:
            self._start(exchange)

    def abandon(self, owner: Owner) -> None:
        """End the exchange of `owner`, if it has one. Its place goes to a waiting exchange in the next `turn`."""
        exchange, owner.exchange = owner.exchange, None
        if exchange is None:
            return
        exchange.owner = None
        if exchange.level != WAITING:
            self.active -= 1
            self._transports[exchange.level].abandon(exchange)

    def clear(self) -> None:
        """Forget the exchanges that wait."""
        self._waiting.clear()

    def turn(self, seconds: float) -> None:
        """Sleep until there is something to do, for at most `seconds`; then do it, and report what has ended."""
        self._start_waiting()
        for transport in self._transports:
            seconds = min(seconds, transport.patience())
        heard = self._waiter.wait(seconds)
        self._now = self._clock()
        for transport in self._transports:
            for exchange, outcome in transport.turn(heard, self._now):
                if exchange.owner is not None:  # else it was abandoned after it had ended
                    self._end(exchange, outcome)

    def _start_waiting(self) -> None:
        while self._waiting and self.active < self._pace.limit:
            exchange = self._waiting.popleft()
            if exchange.owner is not None:
                self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        """Find the transport for an exchange, behind the one that has declined it."""
        self.active += 1
        request = exchange.request
        limit, bars = self._pace.limit, self._bars
        for level, transport in self._levels[exchange.level + 1 :]:
            if limit < transport.least or (bars.any and bars.hold(level, request, self._now)):
                continue
            exchange.level = level
            try:
                if transport.begin(exchange):
                    return
            except Exception as error:  # the trouble of this exchange; the others go on
                self._fail(exchange, error)
                return
        self._fail(exchange, TransferError(REFUSED, "no transport can carry this request"))

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        self.active -= 1
        owner = exchange.owner
        owner.exchange = None
        # Its frames lead up to `turn`, which refers to the error: such a cycle would keep what had come of a large blob
        # in memory until the collector finds it.
        self._failed(owner, error.with_traceback(None))

    def _end(self, exchange: Exchange, outcome: Response | Declined | Exception) -> None:
        if not isinstance(outcome, Response):
            self._end_badly(exchange, outcome)
            return
        self.active -= 1
        self._pace.ended(len(outcome.body), bool(self._waiting))
        if outcome.status in (429, 503):
            self._pace.slow_down()
        if exchange.peer is not None:
            for level, transport in self._levels:
                if level != exchange.level and self._pace.limit >= transport.least:  # else it is not asked either
                    transport.learn(exchange.request, *exchange.peer)
        owner = exchange.owner
        owner.exchange = None
        if self._waiting:
            self._start_waiting()
        self._answered(owner, outcome)

    def _end_badly(self, exchange: Exchange, outcome: Declined | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(exchange, outcome)
            self._start_waiting()
            return
        self.active -= 1
        if outcome.seconds:
            self._bars.add(exchange.level, exchange.request, self._now + outcome.seconds)
        self._start(exchange)
