"""A socket on its way to a server: connecting, then TLS, then ready for bytes. It never blocks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

__all__ = ["Channel", "Unreachable", "dial"]


class Unreachable(Exception):
    """No connection can be made as it was made before: libcurl finds out why."""


def dial(family: int, address: Any) -> socket.socket:
    """A socket that is being connected. Raises OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        refused = made.connect_ex(address)
        if refused not in (0, errno.EINPROGRESS):
            raise OSError(refused, os.strerror(refused))
    except BaseException:
        made.close()
        raise
    return made


class Channel:
    """A socket without blocking (`dial`), and TLS on top of it where there is a `context`."""

    __slots__ = ("_connected", "_context", "_server_name", "_socket", "fd", "not_yet", "read", "secure", "send")

    def __init__(self, made: socket.socket, context: ssl.SSLContext | None, server_name: str | None) -> None:
        self.fd: int = made.fileno()
        # What `read` and `send` raise when they would have to wait.
        self.not_yet: tuple[type[OSError], ...] = (BlockingIOError, InterruptedError)
        self.secure = context is not None  # whether TLS is on top of the socket
        self._connected = False
        self._context = context
        self._server_name = server_name
        self._use(made)

    def _use(self, made: Any) -> None:
        self._socket = made
        self.read: Callable[[bytearray], int] = made.recv_into
        self.send: Callable[[bytes], int] = made.send

    def ready(self) -> bool:
        """Get on with connecting; whether bytes can be sent now. Raises `Unreachable`."""
        if not self._connected:
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise Unreachable
            try:
                self._socket.getpeername()
            except OSError:
                return False
            self._connected = True
            if self._context is not None:
                self._secure(self._context)
        if self._context is not None:
            try:
                self._socket.do_handshake()
            except self.not_yet:
                return False
            except (OSError, ValueError):
                raise Unreachable from None
        return True

    def _secure(self, context: ssl.SSLContext) -> None:
        import ssl

        self.not_yet = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        try:
            self._use(
                context.wrap_socket(
                    self._socket,
                    server_hostname=self._server_name,
                    do_handshake_on_connect=False,
                    # A body until the end of the connection may have been cut on the way, unless TLS says goodbye.
                    suppress_ragged_eofs=False,
                )
            )
        except (OSError, ValueError):
            raise Unreachable from None

    def pending(self) -> int:
        """Bytes that TLS has taken from the socket already."""
        left: int = self._socket.pending()
        return left

    def close(self) -> None:
        """Close the socket, without a goodbye."""
        self._socket.close()

    def __del__(self) -> None:
        self._socket.close()
