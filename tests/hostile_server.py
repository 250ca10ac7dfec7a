"""A server that sends more than a client should take: endless bodies and endless headers, one thread a connection."""

from __future__ import annotations

import socket

from tests.raw_server import RawServer

__all__ = ["HostileServer"]

_PIECE = b"x" * (1 << 20)
_CHUNK = b"100000\r\n" + _PIECE + b"\r\n"


class HostileServer(RawServer):
    """What it sends depends on the last part of the path, see `_send_what`. `sent` counts the bytes that were taken."""

    def __init__(self) -> None:
        super().__init__(self._misbehave)
        self.sent = 0

    def _misbehave(self, peer: socket.socket, head: bytes, _: int) -> bool:
        path = head.split(b" ", 2)[1].partition(b"?")[0].replace(b"%2F", b"/")
        self._send_what(peer, path.rsplit(b"/", 1)[1].decode())
        return False  # and that was the last on this connection

    def _send_what(self, peer: socket.socket, what: str) -> None:
        if what == "named-10gb":
            self._send(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
            self._send_all(peer, _PIECE)
        elif what == "unnamed":  # neither a length nor chunks: until the connection ends, which it does not
            self._send(peer, b"HTTP/1.1 200 OK\r\n\r\n")
            self._send_all(peer, _PIECE)
        elif what in ("chunks", "error-chunks"):
            status = b"200 OK" if what == "chunks" else b"404 Not Found"
            self._send(peer, b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._send_all(peer, _CHUNK)
        elif what == "more-than-named":
            self._send(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            self._send_all(peer, _PIECE)
        elif what == "header-1mb":
            self._send(peer, b"HTTP/1.1 200 OK\r\nX-Long: " + _PIECE + b"\r\nContent-Length: 5\r\n\r\nhello")
        elif what == "endless-headers":
            self._send(peer, b"HTTP/1.1 200 OK\r\n")
            self._send_all(peer, b"X-More: and more\r\n" * 5000)
        elif what == "endless-100":
            self._send_all(peer, b"HTTP/1.1 100 Continue\r\n\r\n" * 5000)
        elif what == "negative-length":
            self._send(peer, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello")
        elif what == "two-lengths":
            self._send(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nhello")
        elif what == "odd-redirect":  # to what is no text in any encoding that one would expect
            self._send(peer, b"HTTP/1.1 301 x\r\nLocation: %b/\xf3\r\nContent-Length: 0\r\n\r\n" % self.url.encode())
        elif what == "%F3":
            self._send(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        elif what == "part":  # which was not asked for
            self._send(peer, b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello")
        elif what == "nothing":
            self._send(peer, b"HTTP/1.1 204 No Content\r\n\r\n")
        elif what == "no-http":
            self._send(peer, b"\x00\x01\x02" * 1000)
        else:
            raise AssertionError(what)

    def _send(self, peer: socket.socket, data: bytes) -> None:
        peer.sendall(data)
        self.sent += len(data)

    def _send_all(self, peer: socket.socket, piece: bytes) -> None:
        while True:  # until the peer has enough and closes
            self._send(peer, piece)
