"""The transports of this process and its sockets: which carry requests, how many there are, and which are our own."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import pytest

from bitstore._lookup.loop import Loop
from bitstore._lookup.loops import loop
from bitstore._support.per_process import PerProcess
from bitstore._transport.libcurl.transport import Libcurl
from bitstore._transport.native.choice import choice
from bitstore._transport.sockets.channel import Channel
from bitstore._transport.sockets.connection import Connection
from bitstore._transport.sockets.transport import Sockets
from bitstore._transport.transport import Exchange
from bitstore.steps import Profile, Request

__all__ = [
    "TRANSPORTS", "asking", "carry_by", "open_sockets", "own_connections", "own_sockets", "prefer_own_connections",
]  # fmt: skip

TRANSPORTS = ["native", "sockets", "libcurl"]


def carry_by(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have one transport carry all that it can, and libcurl the rest, in new transfer threads and in single requests.

    The test is skipped where that transport was not built.
    """
    if name == "native":
        native = choice()
        if native.state != "used":
            pytest.skip(str(native))
        from bitstore._transport.native.transport import Native

        kinds: list[type] = [Native]
    else:
        kinds = [Sockets] if name == "sockets" else []
    monkeypatch.setattr("bitstore._transport.transports._KINDS", (*kinds, Libcurl))
    monkeypatch.setattr("bitstore._transport.sockets.transport.FEW", -1)
    monkeypatch.setattr("bitstore._lookup.loops._loops", PerProcess())


def open_sockets(port: int | None = None) -> int:
    """How many connected sockets this process has open: all, or those to `port`."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as end:
                    found += port is None or end.getpeername()[1:2] == (port,)
    return found


def asking(profile: Profile) -> tuple[Connection, socket.socket]:
    """A connection that sends a request as soon as it is heard of, and the server's end of it."""
    near, far = socket.socketpair()
    near.setblocking(False)
    connection = Connection(Channel(near, None, None))
    exchange = Exchange("owner", Request(profile, "http://127.0.0.1:1/blob"), None)
    connection.begin(exchange, None, b"GET / HTTP/1.1\r\n\r\n")
    return connection, far


def own_sockets(driver: Loop | None = None) -> Sockets:
    """The transport of our own connections, of a transfer thread."""
    scheduler = (driver or loop()).scheduler
    [found] = [each for each in scheduler._transports if isinstance(each, Sockets)]
    return found


def own_connections(port: int) -> list[Connection]:
    """The open connections of our own to `port`, of the first transfer thread of this process."""
    connections = own_sockets().connections.values()
    return [each for each in connections if each.open and each._channel._socket.getpeername()[1] == port]


def prefer_own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use connections of our own however few exchanges are under way, in new transfer threads."""
    carry_by(monkeypatch, "sockets")
