"""Where plain GETs of one profile go: a server that another transport has reached, and the connections to it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from bitstore._transport.certificates import authorities, context
from bitstore._transport.messages import Messages
from bitstore._transport.sockets.channel import Channel, dial
from bitstore._transport.sockets.connection import Connection
from bitstore.steps import Profile, Request

if TYPE_CHECKING:
    import ssl

__all__ = ["Origin"]

_STALE_SECONDS = 60.0  # as libcurl keeps the addresses of a name
_LONGEST_IDLE = 60.0  # seconds: something on the way may have forgotten the connection, without a word


class Origin:
    """The way to one scheme, host and port (`prefix`: the URL up to its path), for the requests of one profile."""

    def __init__(self, profile: Profile, prefix: str) -> None:
        self.idle: list[Connection] = []  # connections that wait for a request, the last used last
        self._address: tuple[int, Any] = (0, None)  # family and address of the socket
        self._learned = 0.0  # when the address was learned, in seconds on the user's clock
        self._context: ssl.SSLContext | None = None  # of TLS; None: plain HTTP
        self._messages = Messages(profile, prefix)
        self.usable = self._messages.usable  # whether the origin can be reached so at all
        if self.usable and self._messages.server_name is not None:
            try:
                self._context = context(authorities(profile))
            except (OSError, ValueError):  # the file has gone: libcurl may remember what was in it
                self.usable = False

    def reached(self, address: str, port: int, now: float) -> None:
        """Learn where the server is."""
        if ":" in address:
            self._address = socket.AF_INET6, (address, port)
        else:
            self._address = socket.AF_INET, (address, port)
        self._learned = now

    def known(self, now: float) -> bool:
        """Whether a connection can be made."""
        return self._address[1] is not None and now - self._learned < _STALE_SECONDS

    def connect(self) -> Connection:
        """A new connection, which is not there yet. Raises OSError."""
        return Connection(Channel(dial(*self._address), self._context, self._messages.server_name))

    def close(self) -> None:
        """Close the connections that wait for a request."""
        while self.idle:
            self.idle.pop().close()

    def message(self, request: Request) -> bytes | None:
        """The text of a request; None: it cannot be written without interpretation."""
        text = self._messages.of(request)
        return None if text is None else text.encode()

    def take(self, now: float) -> Connection | None:
        """The connection that was used last, if it can be used again."""
        while self.idle:
            connection = self.idle.pop()
            if now - connection.since < _LONGEST_IDLE and connection.quiet():
                return connection
            connection.close()
        return None

    def __del__(self) -> None:
        self.close()
