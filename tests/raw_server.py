"""A server whose answers are written byte by byte by the test, one thread a connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Answerer", "RawServer", "said"]

# Gets the connection, the head of the request and how many requests came before it; False: close the connection.
Answerer: TypeAlias = Callable[[socket.socket, bytes, int], object]


class RawServer:
    """Calls `answer` for each request (its body is left unread).

    Attributes
    ----------
    heads
        The heads of all requests, in order of arrival.
    connections
        How many connections it took.
    over
        Set when the server ends: what waits in `answer` waits for this as well.
    """

    def __init__(
        self, answer: Answerer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self.heads: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'' if tls is None else 's'}://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for peer in self._open:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.ExitStack() as ending, contextlib.suppress(OSError):
            ending.enter_context(peer)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                wrapped = self._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
                peer = ending.enter_context(wrapped)
                self._open.append(peer)
                if self.over.is_set():  # checked after the append: else neither this thread nor `__exit__` would end it
                    return
                wrapped.do_handshake()
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = peer.recv(65536)
                    if not piece:
                        return
                    head += piece
                with self._lock:
                    count = len(self.heads)
                    self.heads.append(head)
                if self._answer(peer, head, count) is False:
                    return


def said(answer: bytes, *, stays: bool = True) -> Answerer:
    """Give this answer to each request; `stays`: the connection, after it."""

    def serve(peer: socket.socket, _: bytes, __: int) -> bool:
        peer.sendall(answer)
        return stays

    return serve
