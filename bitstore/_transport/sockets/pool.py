"""Plain GETs over connections of our own.

With hundreds of transfers under way, libcurl's bookkeeping costs more than the transfers: it looks at each of them in
each turn, and at each connection for one that is free. Still it comes first: it reaches a server, with all that this
takes (names, proxies, several addresses), and only what went well is repeated here. What is not a plain answer to a
plain question goes back to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from bitstore._transport.poller import Poller
from bitstore._transport.sockets.connection import Again, Connection, Elsewhere
from bitstore._transport.sockets.http1 import Unclear
from bitstore._transport.sockets.origin import Origin
from bitstore.steps import Request

__all__ = ["WATCH_SECONDS", "Direct"]

_BARRED_SECONDS = 60.0
WATCH_SECONDS = 0.5
_BUFFER_BYTES = 512 * 1024
_MOST_ORIGINS = 256  # of one profile: who fetches from all over the world keeps no connection to each


class Direct:
    """The connections of one loop. Only its thread calls this.

    Parameters
    ----------
    poller
        Told of each socket.

    Attributes
    ----------
    active
        How many exchanges are under way.
    connections
        All that are open, by the number of their socket.
    unheard
        Connections that had more to say than anybody else could wait for.
    buffer, view
        What comes is read into this.
    now
        Seconds. To be brought up to date in each turn: what is idle for long is not used again.
    """

    def __init__(self, poller: Poller) -> None:
        self.active = 0
        self.connections: dict[int, Connection] = {}
        self.buffer = bytearray(_BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.unheard: list[Connection] = []
        self.now = time.monotonic()
        self._poller = poller
        self._watch_at = 0.0

    def begin(self, request: Request, owner: Any, most: int, *, anew: bool = False) -> Connection | None:
        """Send a plain GET; None: it is for libcurl.

        Parameters
        ----------
        owner
            Kept with the connection.
        most
            How many connections there may be.
        anew
            By no kept connection: one has just been closed at this request.
        """
        origins = request.profile.idle.get(self)
        origin: Origin | None = origins and origins.get(_prefix(request.url))
        if origin is None or not origin.usable or origin.barred_until > self.now:
            return None
        try:
            message = origin.message(request)
        except Exception:  # libcurl's way tells this task, and nobody else, what is the matter
            return None
        if message is None:
            return None
        while True:
            connection = (None if anew else origin.take(self.now)) or self._connect(origin, most)
            if connection is None:
                return None
            try:
                connection.begin(request, owner, origin, message)
            except Again:
                self.forget(connection)
            except Elsewhere:
                self.forget(connection)
                return None
            else:
                self.active += 1
                return connection

    def _connect(self, origin: Origin, most: int) -> Connection | None:
        if not origin.known(self.now):
            return None
        if not self.trim(most - 1):
            return None
        try:
            connection = origin.connect()
            self._poller.add(connection.fd)
        except OSError:  # libcurl finds out what is the matter
            return None
        self.connections[connection.fd] = connection
        return connection

    def trim(self, most: int) -> bool:
        """Close idle connections until there are at most so many. False: too many are in use."""
        if len(self.connections) > most:
            idle = [each for each in self.connections.values() if not each.active]
            for connection in idle[: len(self.connections) - most]:
                self.forget(connection)
        return len(self.connections) <= most

    def reached(self, request: Request, address: str, port: int) -> None:
        """Learn from libcurl where the server of a plain GET was reached."""
        prefix = _prefix(request.url)
        if not prefix:
            return
        origins: dict[str, Origin] = request.profile.idle.setdefault(self, {})
        origin = origins.get(prefix)
        if origin is None:
            if len(origins) >= _MOST_ORIGINS:
                del origins[next(iter(origins))]
            origin = origins[prefix] = Origin(request.profile, prefix)
        if address:
            origin.reached(address, port, self.now)

    def rest(self, connection: Connection) -> None:
        """Take back a connection whose exchange has ended well."""
        self.active -= 1
        origin = connection.origin
        if connection.rest(self.now) and origin is not None:
            origin.idle.append(connection)
        else:
            self.forget(connection)

    def drop(self, connection: Connection, error: Exception | None = None) -> None:
        """Close a connection whose exchange is given up, or has failed with `error`."""
        self.active -= 1
        if connection.origin is not None:
            if isinstance(error, Unclear):
                connection.origin.bar(math.inf)
            elif isinstance(error, Elsewhere):
                connection.origin.bar(self.now + _BARRED_SECONDS)
        self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Close a connection that carries nothing, if it is not closed by now."""
        self.connections.pop(connection.fd, None)
        connection.close()

    def due(self) -> Sequence[Connection]:
        """Connections whose exchange is to be looked after now."""
        if not self.active or self.now < self._watch_at:
            return ()
        self._watch_at = self.now + WATCH_SECONDS
        return [each for each in self.connections.values() if each.active]


def _prefix(url: str) -> str:
    """Scheme, host and port; empty if no path follows them, which is for libcurl to mend."""
    return url[: max(0, url.find("/", 8))]  # behind the scheme
