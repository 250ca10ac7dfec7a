"""Native connections at their edges: forks, servers that are left to libcurl, time limits."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any

import pytest

from bitstore import HTTPRaw, Retry
from bitstore._transport import transports
from bitstore._transport.transport import Performed
from bitstore.steps import TIMED_OUT, Profile, Request, Response, TransferError
from tests.raw_server import RawServer, said
from tests.sockets import TRANSPORTS, only_by

pytestmark = pytest.mark.skipif("native" not in TRANSPORTS, reason="the native transport is not built")
ONCE = Retry(attempts=1)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    only_by("native", monkeypatch)


def test_a_connection_that_a_forked_child_still_holds_is_not_heard_of_once_it_is_closed() -> None:
    """Its memory is free by then; the kernel drops what it watches only where the last copy of a socket is closed."""
    from bitstore._transport.native._core import Group, Origin

    peers: list[socket.socket] = []

    def serve(peer: socket.socket, _: bytes, __: int) -> None:
        peers.append(peer)
        peer.sendall(HELLO)

    with RawServer(serve) as server:
        group = Group(Response, {}, lambda *_: None)
        origin = Origin(None, "", 30.0, 30.0, 0)
        origin.reached("127.0.0.1", server.port, 60.0)
        group.begin("exchange", origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, 0)
        assert group.perform(30.0)[0][1].body == b"hello"
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
        try:
            del origin
            assert group.connections == 0
            peers[0].shutdown(socket.SHUT_RDWR)
            assert select.select([group.fileno()], [], [], 0) == ([], [], [])
        finally:
            os.close(write_end)
            os.close(read_end)
            os.waitpid(child, 0)


def test_a_server_that_calling_threads_leave_to_libcurl_is_asked_once_for_each_blob() -> None:
    with RawServer(said(b"HTTP/1.1 200 OK\r\n\r\nhello", stays=False)) as server:  # the body ends with the connection
        store = HTTPRaw(retry=ONCE)
        assert [store.get(f"{server.url}/{number}") for number in range(5)] == [b"hello"] * 5
        assert len(server.heads) == 5 + 1  # the second one showed it


def test_a_request_that_is_declined_late_has_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Late:
        @staticmethod
        def perform(_: Request, timeout: float | None) -> None:
            given.append(timeout)
            time.sleep(timeout or 0.0)

    class Next:
        @staticmethod
        def perform(_: Request, timeout: float | None) -> Performed:
            given.append(timeout)
            return Performed(Response(200, b"", {}, 0.0))

    monkeypatch.setattr(transports, "_KINDS", (Late, Next))
    request = Request(Profile(), "http://127.0.0.1:9/")
    with pytest.raises(TransferError, match=r"no answer within 0.01 seconds") as caught:
        transports.perform(request, 0.01)
    assert caught.value.code == TIMED_OUT and given == [0.01]
    assert transports.perform(request).status == 200 and given == [0.01, None, None]
