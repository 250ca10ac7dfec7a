"""A transport of our own without a transfer thread: the test asks, turns, and says what the server sends."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from typing import Any

from bitstore._transport.budget import SocketBudget
from bitstore._transport.poller import Poller
from bitstore._transport.transport import Exchange
from bitstore.steps import Profile, Request
from tests.sockets import TRANSPORTS

__all__ = ["Asker"]

_LONGEST = 30.0  # seconds of waiting: then something hangs
_ROOM = 64  # exchanges that may be under way


class Asker:
    """Carries one request after another to a server of its own, on which `answered` says what comes.

    Parameters
    ----------
    name
        Of the transport, as in `TRANSPORTS`.
    profile
        Of the requests.
    """

    def __init__(self, name: str, profile: Profile) -> None:
        self._poller = Poller()
        [kind] = TRANSPORTS[name]
        self.own: Any = kind(self._poller, SocketBudget(64))
        self._profile = profile
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}/blob"

    def begin(self, request: Request | None = None, address: tuple[str, int] | None = None) -> Exchange:
        """Begin a request to a server that was reached at `address`."""
        request = request or Request(self._profile, self.url)
        self.own.learn(request, *(address or self.address))
        exchange = Exchange("owner", request, None)
        assert self.own.begin(exchange)
        return exchange

    def turn(self, seconds: float = 0.0) -> list[Any]:
        """Outcomes of one turn, which waits so long at most."""
        heard = self._poller.wait(min(self.own.patience(_ROOM), seconds))
        return [outcome for _, outcome in self.own.turn(heard, time.monotonic(), _ROOM)]

    def outcome(self) -> Any:
        """The outcome of the one request that is under way."""
        until = time.monotonic() + _LONGEST
        while time.monotonic() < until:
            if outcomes := self.turn(1.0):
                [outcome] = outcomes
                return outcome
        raise AssertionError("it hangs")

    def accept(self) -> socket.socket:
        """The server's end of the connection that was begun, once the request is there."""
        self.turn()
        peer = self._listener.accept()[0]
        peer.settimeout(0.0)
        while True:
            with contextlib.suppress(BlockingIOError):
                assert peer.recv(65536).endswith(b"\r\n\r\n")
                peer.settimeout(_LONGEST)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return peer
            assert self.turn(0.1) == []

    def answered(self, pieces: Iterable[bytes]) -> Any:
        """The outcome of a request at which the server sends these, one after another, and ends the connection."""
        self.begin()
        outcomes = []
        with self.accept() as peer, contextlib.suppress(OSError):  # this end may have been closed by then
            for piece in pieces:
                peer.sendall(piece)
                outcomes += self.turn()
            peer.shutdown(socket.SHUT_WR)
            return outcomes[0] if outcomes else self.outcome()
        return outcomes[0] if outcomes else self.outcome()

    def close(self) -> None:
        """End the server."""
        self._listener.close()
