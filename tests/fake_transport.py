"""A transport without sockets: it takes what the test lets it take, and ends exchanges as the test says."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator

from bitstore._transport.transport import Declined, Ended, Exchange, Performed
from bitstore.steps import Request, Response, TransferError

__all__ = ["OK", "FakeTransport"]

OK = Response(200, b"blob", {}, 0.0)


class FakeTransport:
    """Notes what the scheduler asks of it.

    Parameters
    ----------
    takes
        Whether it takes a request; an error is raised.
    answers
        The outcome of each request that it takes, in the next turn; None: the test calls `end`.
    together
        Whether it takes several requests at once.
    ahead
        How many requests it takes beyond those that may be under way.
    """

    def __init__(
        self,
        takes: Callable[[Request], bool | TransferError] = lambda request: True,
        *,
        answers: Callable[[Request], Response | Declined | TransferError] | None = None,
        least: float = 0,
        patience: float = math.inf,
        together: bool = False,
        ahead: int = 0,
    ) -> None:
        self.takes = takes
        self.answers = answers
        self.least = least
        self.wanted = patience
        self.together = together
        self.ahead = ahead
        self.rooms: list[int] = []  # how many more it was told in each turn that may be under way
        self.groups: list[list[str]] = []  # URLs of the requests that it was offered together
        self.asked: list[str] = []  # URLs of the requests that it was offered
        self.begun: list[Exchange] = []
        self.abandoned: list[Exchange] = []
        self.learned: list[tuple[str, str, int]] = []
        self.heard: list[int] = []
        self._ended: deque[Ended] = deque()

    @property
    def active(self) -> list[str]:
        """URLs of the exchanges that it carries."""
        return [each.request.url for each in self.begun if each.carrier is self]

    def begin(self, exchange: Exchange) -> bool:
        self.asked.append(exchange.request.url)
        taken = self.takes(exchange.request)
        if isinstance(taken, TransferError):
            raise taken
        if taken:
            exchange.carrier = self
            self.begun.append(exchange)
            if self.answers is not None:
                self.end(exchange, self.answers(exchange.request))
        return taken

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        self.groups.append([exchange.request.url for exchange in exchanges])
        return [exchange for exchange in exchanges if not (self.together and self.begin(exchange))]

    def end(self, exchange: Exchange, outcome: Response | Declined | TransferError = OK) -> None:
        """Let an exchange end so in the next turn."""
        self._ended.append((exchange, outcome))

    def abandon(self, exchange: Exchange) -> None:
        assert exchange.carrier is self
        exchange.carrier = None
        self.abandoned.append(exchange)
        self._ended = deque(each for each in self._ended if each[0] is not exchange)

    def patience(self, room: int) -> float:
        return 0.0 if self._ended else self.wanted

    def turn(self, heard: Collection[int], now: float, room: int) -> Iterator[Ended]:
        self.heard += heard
        self.rooms.append(room)
        while self._ended:
            exchange, outcome = self._ended.popleft()
            exchange.carrier = None
            yield exchange, outcome

    def learn(self, request: Request, address: str, port: int) -> None:
        self.learned.append((request.url, address, port))

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed | None:
        return None

    @staticmethod
    def reached(request: Request, address: str, port: int) -> None:
        pass
