"""Servers that misbehave in ways that no library serves by itself: answers written byte by byte."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from bitstore import HTTPRaw, Retry, Store, StoreNotAvailable
from tests.raw_server import Answerer, RawServer

ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)


def failure(store: Store, uri: str) -> str:
    """What a lookup fails with; one that would never end is ended, with another error."""
    [blob] = store.get_many([uri], timeout=60, patience=0)
    assert isinstance(blob.error, StoreNotAvailable), blob
    assert "no answer within" not in str(blob.error)
    return str(blob.error)


def same_bytes(peer: socket.socket, head: bytes, count: int) -> bool:
    peer.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 100000\r\n\r\n' + bytes(10_000))
    return False


def one_byte(peer: socket.socket, head: bytes, count: int) -> bool:
    match = re.search(rb"Range: bytes=(\d+)-", head)
    at = int(match[1]) if match else 0
    status = b"206 Partial Content\r\nContent-Range: bytes %d-999999/1000000" % at if at else b"200 OK"
    peer.sendall(b'HTTP/1.1 %b\r\nETag: "e"\r\nContent-Length: %d\r\n\r\nx' % (status, 1_000_000 - at))
    return False


@pytest.mark.parametrize("answer", [same_bytes, one_byte])
def test_cut_for_ever(answer: Answerer, tmp_path: Path) -> None:
    """Each try brings bytes, and none brings the blob much nearer."""
    with RawServer(answer) as server:
        store = HTTPRaw(retry=QUICK)
        failure(store, f"{server.url}/blob")
        assert len(server.heads) <= 4
        with pytest.raises(StoreNotAvailable, match="curl error 18"):
            store.download(f"{server.url}/blob", tmp_path / "out", timeout=60)
        assert len(server.heads) <= 8


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "])
def test_a_trickle_is_as_good_as_silence(head: str) -> None:
    """Never silent for long, and never done either."""

    def trickle(peer: socket.socket, _: bytes, __: int) -> None:
        peer.sendall(head.encode())
        while not server.over.wait(0.2):
            peer.sendall(b"xx")

    with RawServer(trickle) as server:
        assert "too slow" in failure(HTTPRaw(stall_timeout=1, retry=ONCE), f"{server.url}/blob")
