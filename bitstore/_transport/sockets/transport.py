"""Connections of our own as a transport: it takes plain GETs to origins that another transport has reached."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator

from bitstore._transport.budget import SocketBudget
from bitstore._transport.origins import Origins
from bitstore._transport.poller import Poller
from bitstore._transport.sockets.channel import Unreachable
from bitstore._transport.sockets.connection import Connection, Stale
from bitstore._transport.sockets.http1 import Unclear
from bitstore._transport.sockets.origin import Origin
from bitstore._transport.transport import Declined, Ended, Exchange, Performed
from bitstore.steps import Request, Response, TransferError

__all__ = ["FEW", "Sockets"]

# Up to so many under way libcurl costs as much CPU as connections of our own, or less. But a bare libcurl loop that
# needs 36 us a blob with 32 under way needs 62 with 512 (benchmarks/results/data-plane.md, `headline`, `latency`).
FEW = 64
_BARRED_SECONDS = 60.0
_WATCH_SECONDS = 0.5
_BUFFER_BYTES = 512 * 1024


class Sockets:
    """The connections of one transfer thread."""

    ahead = 0

    def __init__(self, poller: Poller, budget: SocketBudget) -> None:
        self.least: float = FEW + 1 if poller.tells else math.inf
        self.connections: dict[int, Connection] = {}  # all that are open, by the number of their socket
        self._active = 0  # connections that carry an exchange
        self._origins: Origins[str, Origin] = Origins()
        self._unheard: list[Connection] = []  # those that had more to say than the others could wait for
        self._buffer = bytearray(_BUFFER_BYTES)  # what comes is read into this
        self._view = memoryview(self._buffer)
        self._now = time.monotonic()  # as of the last turn
        self._poller = poller
        self._sockets = budget.share()
        self._watch_at = 0.0  # when time limits are checked next

    def begin(self, exchange: Exchange) -> bool:
        """Send a plain GET to an origin that was reached before; declines anything else."""
        request = exchange.request
        if not request.plain:
            return False
        origins = self._origins.get(request.profile)
        origin = None if origins is None else origins.get(request.origin)
        if origin is None or not origin.usable:
            return False
        return self._send(exchange, origin, kept=True)

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Take none: together they cost as much as one by one."""
        return exchanges

    def _send(self, exchange: Exchange, origin: Origin, *, kept: bool) -> bool:
        """Send the request over a connection that was kept, or a new one. False: no connection can carry it."""
        try:
            message = origin.message(exchange.request)
        except Exception:  # libcurl meets the same error, and reports it to this lookup alone
            return False
        if message is None:
            return False
        while True:
            connection = (origin.take(self._now) if kept else None) or self._connect(origin)
            if connection is None:
                return False
            try:
                connection.begin(exchange, origin, message)
            except Stale:
                self._forget(connection)
            except Unreachable:
                self._forget(connection)
                return False
            else:
                exchange.carrier = connection
                self._active += 1
                return True

    def _connect(self, origin: Origin) -> Connection | None:
        if not origin.known(self._now):
            return None
        if not self._trim(self._sockets.claim() - 1):
            return None
        try:
            connection = origin.connect()
            self._poller.add(connection.fd)
        except OSError:  # libcurl meets the same error, and reports it
            return None
        self.connections[connection.fd] = connection
        self._sockets.taken = len(self.connections)
        return connection

    def _trim(self, most: int) -> bool:
        """Close idle connections until there are at most so many. False: too many are in use."""
        if len(self.connections) > most:
            idle = [each for each in self.connections.values() if each.exchange is None]
            for connection in idle[: len(self.connections) - most]:
                self._forget(connection)
        return len(self.connections) <= most

    def _forget(self, connection: Connection) -> None:
        """Close a connection, if it is not closed already."""
        self.connections.pop(connection.fd, None)
        self._sockets.taken = len(self.connections)
        connection.close()

    def abandon(self, exchange: Exchange) -> None:
        """Close the connection that carries the exchange."""
        self._active -= 1
        self._forget(exchange.carrier)

    def patience(self, room: int) -> float:
        """Seconds until time limits want to be checked; 0 while a connection has more to say."""
        if self._unheard:
            return 0.0
        return _WATCH_SECONDS if self._active else math.inf

    def turn(self, heard: Collection[int], now: float, room: int) -> Iterator[Ended]:
        """Hear what connections say, and check their time limits."""
        self._now = now
        unheard, self._unheard = self._unheard, []
        connections = self.connections
        for fd in heard:
            if fd in connections:
                ended = self._hear(connections[fd])
                if ended is not None:
                    yield ended
        for connection in unheard:
            if connection.more and connection not in self._unheard:  # else it has just been heard
                ended = self._hear(connection)
                if ended is not None:
                    yield ended
        if self._active and now >= self._watch_at:
            self._watch_at = now + _WATCH_SECONDS
            yield from self._watch(now)
        self._trim(self._sockets.most)

    def _hear(self, connection: Connection) -> Ended | None:
        try:
            response = connection.hear(self._buffer, self._view)
        except (Stale, Unreachable, Unclear, TransferError) as error:
            return self._broken(connection, error)
        if response is None:
            if connection.more:
                self._unheard.append(connection)
            elif not connection.open:
                self._forget(connection)
            return None
        return self._whole(connection, response)

    def _whole(self, connection: Connection, response: Response) -> Ended:
        exchange, origin = connection.exchange, connection.origin
        assert exchange is not None
        self._active -= 1
        if connection.rest(self._now):
            origin.idle.append(connection)
        else:
            self._forget(connection)
        return exchange, response

    def _watch(self, now: float) -> Iterator[Ended]:
        for connection in list(self.connections.values()):
            if connection.exchange is not None:
                try:
                    connection.watch(now)
                except (Unreachable, TransferError) as error:
                    ended = self._broken(connection, error)
                    if ended is not None:
                        yield ended

    def _broken(self, connection: Connection, error: Exception) -> Ended | None:
        """The outcome of an exchange whose connection is of no use; None: another connection carries it now."""
        exchange: Exchange | None = connection.exchange
        origin: Origin = connection.origin
        self._active -= exchange is not None
        self._forget(connection)
        if exchange is None:
            return None
        if isinstance(error, TransferError):
            return exchange, error
        if isinstance(error, Stale):
            # By a new connection: if it is this request that the server hangs up at, it would do so at all kept ones,
            # and be asked as often.
            return None if self._send(exchange, origin, kept=False) else (exchange, Declined())
        origin.close()
        return exchange, Declined(math.inf if isinstance(error, Unclear) else _BARRED_SECONDS)

    def learn(self, request: Request, address: str, port: int) -> None:
        """Remember where the server of a plain GET was reached."""
        prefix = request.origin
        if not prefix or not request.plain:
            return
        origin = self._origins.get(request.profile, {}).get(prefix)
        if origin is None:
            try:
                origin = Origin(request.profile, prefix)
            except Exception:  # it cannot be signed: libcurl meets the same error, and reports it
                return
            self._origins.keep(request.profile, prefix, origin)
        origin.reached(address, port, self._now)

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed | None:
        """Decline: a single blocking call gains nothing here."""
        return None

    @staticmethod
    def reached(request: Request, address: str, port: int) -> None:
        """Learn nothing: only the exchanges of transfer threads are carried here."""
