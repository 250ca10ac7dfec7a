"""What a transport is: one way to carry HTTP exchanges, as the scheduler sees it.

The scheduler (`bitstore._transport.scheduler`) knows nothing else of its transports. It asks them in the order of
`bitstore._transport.transports`: the first that takes an exchange carries it. A transport that can carry some
exchanges only *declines* the others, at once (`begin` is False) or later (`Declined` is the outcome), and the next
transport is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

from bitstore.steps import Request, Response

__all__ = ["WAITING", "Declined", "Ended", "Exchange", "Performed", "Transport"]

WAITING = -1  # the level of an exchange that no transport carries


class Exchange:
    """One request, from the moment at which a lookup asks for it to its outcome."""

    __slots__ = ("behind", "carrier", "level", "owner", "peer", "request", "until")

    def __init__(self, owner: Any, request: Request, until: float | None) -> None:
        self.owner: Any = owner  # what the scheduler returns with the outcome; None: the exchange was abandoned
        self.request = request
        self.until = until  # seconds on the runtime's clock at which the answer is of no use any more; None: no limit
        self.behind = WAITING  # the last level that took and declined it: that one and those before are asked no more
        self.level = WAITING  # place of the transport that carries it, in the order in which transports are asked
        self.carrier: Any = None  # what the transport keeps for it: a type of the transport's own
        self.peer: tuple[str, int] | None = None  # address and port that answered, where the transport tells them


class Declined(NamedTuple):
    """The outcome of an exchange that a transport took, and cannot carry to its end: the next transport is asked."""

    # For so long the transport is not asked for the same origin and profile. 0: only this exchange is declined.
    seconds: float = 0.0


class Performed(NamedTuple):
    """The outcome of a request that was carried in the calling thread."""

    response: Response
    peer: tuple[str, int] | None = None  # as `Exchange.peer`


# A `TransferError`, unless a transport has a defect or no memory.
Ended: TypeAlias = tuple[Exchange, Response | Declined | Exception]


class Transport(Protocol):
    """One way to carry exchanges. Each transfer thread has an instance, which only that thread calls.

    An exchange that was taken ends in exactly one of three ways: `turn` returns it with its outcome, `abandon` is
    called with it, or the process ends.
    """

    least: float  # with fewer exchanges at once than this another transport is better, and this one is not asked

    @property
    def ahead(self) -> int:
        """How many exchanges it takes now beyond those that may be under way.

        It begins each of them by itself when another one has ended, without waiting for the scheduler.
        """

    def begin(self, exchange: Exchange) -> bool:
        """Take `exchange`; False: it is declined.

        Never blocks. May set `exchange.carrier`.

        Raises
        ------
        TransferError
            No transport can carry this request.
        """

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Take those of `exchanges` that can be taken together; returns the others, which are begun one by one.

        Never blocks, and raises nothing.
        """

    def abandon(self, exchange: Exchange) -> None:
        """End an exchange without an outcome, and the connection that carries it."""

    def patience(self, room: int) -> float:
        """Seconds that may pass before the next `turn` although no socket has been heard of; infinite: any time.

        Parameters
        ----------
        room
            As for `turn`.
        """

    def turn(self, heard: Collection[int], now: float, room: int) -> Iterable[Ended]:
        """Do what can be done without waiting, and return the exchanges that have ended.

        The scheduler may call `begin` between two of them.

        Parameters
        ----------
        heard
            Numbers of sockets that have something new, of this transport and of others.
        now
            Seconds on `time.monotonic()`.
        room
            How many exchanges may be under way beside those that transports have taken; negative: so many of those that
            were taken ahead have to wait.
        """

    def learn(self, request: Request, address: str, port: int) -> None:
        """Another transport has carried `request`, and the server was at this address. Not called below `least`."""

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed | None:
        """Carry a request in the calling thread, any thread, and wait for the whole answer; None: it is declined.

        Parameters
        ----------
        timeout
            Seconds for the whole exchange; None: the limits of the request's profile alone.

        Raises
        ------
        TransferError
            No whole answer came.
        """

    @staticmethod
    def reached(request: Request, address: str, port: int) -> None:
        """Another transport has carried `request` in a calling thread, and the server was at this address."""
