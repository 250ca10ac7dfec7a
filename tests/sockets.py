"""The sockets of this process, and which transport uses them: tests choose it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import pytest

from bitstore._lookup import loops
from bitstore._lookup.loop import Loop
from bitstore._lookup.loops import loop
from bitstore._transport import transports
from bitstore._transport.libcurl.transport import Libcurl
from bitstore._transport.native.choice import chosen
from bitstore._transport.sockets.channel import Channel
from bitstore._transport.sockets.connection import Connection
from bitstore._transport.sockets.transport import Sockets
from bitstore._transport.transport import Exchange
from bitstore.steps import Profile, Request

__all__ = ["OWN", "TRANSPORTS", "asking", "fresh_threads", "only_by", "open_sockets", "own_connections"]

# By name: what is asked before libcurl.
TRANSPORTS: dict[str, tuple[type, ...]] = {"libcurl": (), "sockets": (Sockets,)}
if chosen():
    from bitstore._transport.native.transport import Native

    TRANSPORTS["native"] = (Native,)
OWN = [name for name in TRANSPORTS if name != "libcurl"]  # those that make connections of our own


def only_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use this transport and libcurl, however few exchanges are under way, in fresh transfer threads."""
    monkeypatch.setattr(transports, "_KINDS", (*TRANSPORTS[name], Libcurl))
    monkeypatch.setattr("bitstore._transport.sockets.transport.FEW", -1)
    fresh_threads(monkeypatch)


def fresh_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fresh transfer threads: those there are may have learned from other tests to send few requests at once."""
    loop()
    found = loops._loops.get()
    assert found is not None
    monkeypatch.setattr(found, "by_number", {})


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


def own_connections(driver: Loop | None = None) -> int:
    """How many connections of our own are open, of a transfer thread (else the first one of this process)."""
    [own] = [each for each in (driver or loop()).scheduler._transports if not isinstance(each, Libcurl)]
    if isinstance(own, Sockets):
        return sum(each.open for each in own.connections.values())
    connections: int = own._connections.group.connections  # type: ignore[attr-defined]
    return connections
