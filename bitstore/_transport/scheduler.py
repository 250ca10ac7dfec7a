"""The HTTP exchanges of one transfer thread: how many at once, in which order, by which transport."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from bitstore._transport.bars import Bars
from bitstore._transport.pace import Pace
from bitstore._transport.transport import WAITING, Declined, Exchange, Transport
from bitstore.steps import REFUSED, Request, Response, TransferError

__all__ = ["Outcome", "Owner", "Scheduler", "Waiter"]

# The owner of an exchange that has ended, and what it asked for; or the error that it got instead, a `TransferError`
# unless a transport has a defect.
Outcome: TypeAlias = tuple[Any, Response | Exception]


class Owner(Protocol):
    """The lookup that asked for an exchange."""

    exchange: Exchange | None  # under way, or waiting for a place; written by the scheduler


class Waiter(Protocol):
    """What the transfer thread sleeps in: `bitstore._transport.poller.Poller`."""

    def wait(self, seconds: float) -> list[int]:
        """Sleep for at most `seconds`, or until a socket has something new; returns the numbers of such sockets."""


class Scheduler:
    """As many exchanges at once as the pace allows; more wait in order. Only the transfer thread calls this.

    Some of those that wait are with the first transport already, which begins them when others end.

    Parameters
    ----------
    transports
        In the order in which they are asked for each exchange.
    pace
        Says how many exchanges may be under way.
    waiter
        What the thread sleeps in.
    clock
        Seconds; for tests.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        pace: Pace,
        waiter: Waiter,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.active = 0  # exchanges that a transport has taken
        self._transports = tuple(transports)
        self._levels = tuple(enumerate(transports))
        self._pace = pace
        self._waiter = waiter
        self._clock = clock
        self._now = clock()
        self._waiting: deque[Exchange] = deque()  # for the next turn, or for room
        self._outcomes: list[Outcome] = []  # of this turn, so far
        self._bars = Bars()
        # Whether the exchange that waits longest was left by the first transport while others were taken ahead.
        self._is_passed_by = False

    @property
    def is_idle(self) -> bool:
        """Whether there is no exchange at all."""
        return not self.active and all(exchange.owner is None for exchange in self._waiting)  # else it was abandoned

    def begin(self, owner: Owner, request: Request, until: float | None = None) -> None:
        """Carry `request` for `owner`, from the next turn on or when there is room.

        Parameters
        ----------
        until
            Seconds on the runtime's clock: transports may give up then. Ending the exchange then is the owner's task.
        """
        exchange = owner.exchange = Exchange(owner, request, until)
        self._waiting.append(exchange)

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
        """Forget the exchanges that wait, and the outcomes of a turn that was broken off."""
        self._waiting.clear()
        self._is_passed_by = False
        self._outcomes.clear()

    def turn(self, seconds: float) -> list[Outcome]:
        """Begin what waits, sleep until there is something to do, for at most `seconds`, and return what has ended."""
        self._start_waiting()
        for transport in self._transports:
            seconds = min(seconds, transport.patience(self._pace.limit - self.active))
        heard = self._waiter.wait(0.0 if self._outcomes else seconds)
        self._now = self._clock()
        short = len(self._waiting) + max(0, self.active - self._pace.limit)  # exchanges for which there was no room
        answered = size = 0
        for transport in self._transports:
            for exchange, outcome in transport.turn(heard, self._now, self._pace.limit - self.active):
                if not isinstance(outcome, Response):
                    self._ended_badly(exchange, outcome)
                    continue
                self.active -= 1
                answered += 1
                size += len(outcome.body)
                if exchange.peer is not None or outcome.status in (429, 503):
                    self._learn(exchange, outcome)
                owner = exchange.owner
                owner.exchange = None
                self._outcomes.append((owner, outcome))
        if answered:
            self._pace.ended(answered, size, min(answered, short))
        self._start_waiting()  # what is sent at once gives servers something to do while the answers are looked at
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _start_waiting(self) -> None:
        while self._waiting and (room := self._pace.limit - self.active) > 0:
            self._is_passed_by = False
            for exchange in self._start_together(self._longest_waiting(room)):
                self._start(exchange)
        self._start_ahead()

    def _start_ahead(self) -> None:
        """Give the first transport more than may be under way now.

        A server has nothing to do while Python looks at answers, unless the transport sends more requests by itself.
        """
        room = self._pace.limit + self._transports[0].ahead - self.active
        if self._is_passed_by or min(room, len(self._waiting)) < 2:
            return
        offered = self._longest_waiting(room)
        left = self._start_together(offered)
        self._waiting.extendleft(reversed(left))
        # Nothing more goes past it: else it would wait for as long as others come.
        self._is_passed_by = bool(left) and left[0] is offered[0]

    def _longest_waiting(self, most: int) -> list[Exchange]:
        waiting = self._waiting
        exchanges = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        return [exchange for exchange in exchanges if exchange.owner is not None]  # else it was abandoned

    def _start_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Offer several to the first transport at once, which is cheaper than one by one; returns those it leaves."""
        transport, bars = self._transports[0], self._bars
        wanted = [exchange for exchange in exchanges if exchange.behind == WAITING]
        if bars.any:
            try:
                wanted = [exchange for exchange in wanted if not bars.hold(0, exchange.request, self._now)]
            except Exception:  # the trouble of one of them, which meets it again in `_start`
                return exchanges
        if len(wanted) < 2 or self._pace.limit < transport.least:
            return exchanges
        for exchange in wanted:
            exchange.level = 0
        declined = transport.begin_together(wanted)
        for exchange in declined:
            exchange.level = WAITING
        self.active += len(wanted) - len(declined)
        return [exchange for exchange in exchanges if exchange.level == WAITING]

    def _start(self, exchange: Exchange) -> None:
        """Find the transport for an exchange, behind the one that has declined it."""
        self.active += 1
        request = exchange.request
        limit, bars = self._pace.limit, self._bars
        for level, transport in self._levels[exchange.behind + 1 :]:
            if limit < transport.least:
                continue
            try:
                if bars.any and bars.hold(level, request, self._now):
                    continue
                exchange.level = level
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
        self._outcomes.append((owner, error.with_traceback(None)))

    def _learn(self, exchange: Exchange, response: Response) -> None:
        """Take what an answer says of its server: that it wants less, or where it is."""
        if response.status in (429, 503):
            self._pace.slow_down()
        if exchange.peer is not None:
            for level, transport in self._levels:
                if level != exchange.level and self._pace.limit >= transport.least:  # else it is not asked either
                    transport.learn(exchange.request, *exchange.peer)

    def _ended_badly(self, exchange: Exchange, outcome: Declined | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(exchange, outcome)
            return
        self.active -= 1
        if outcome.seconds:
            self._bars.add(exchange.level, exchange.request, self._now + outcome.seconds)
        exchange.behind, exchange.level = exchange.level, WAITING
        if self.active < self._pace.limit:
            self._start(exchange)
        else:  # others that were taken ahead have the place
            self._waiting.appendleft(exchange)
            self._is_passed_by = True
