"""Waiting for libcurl's sockets, or for another thread's word, whichever comes first."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Sequence
from typing import Any

import pycurl

from bitstore._support.once import warn_once

__all__ = ["Poller"]

logger = logging.getLogger("bitstore")

# Where epoll is lacking, nothing can interrupt libcurl's own waiting, so it is kept short.
_FALLBACK_SECONDS = 0.005


class Poller:
    """Lets one thread sleep until a socket of its transfers, or `wake`, has something for it.

    libcurl's own `select` knows no file descriptor above 1023 and cannot be interrupted. So each socket is
    made here and registered with an *edge-triggered* epoll once, for both directions. After any event
    `CurlMulti.perform` looks at all transfers by itself, so events need no bookkeeping, and one that comes
    between `perform` and `wait` is latched by the kernel.

    Attributes
    ----------
    opened
        How many sockets it has made for libcurl, which does not tell when it closes one. Its user may count anew.
    """

    def __init__(self) -> None:
        self._asleep = False
        self.opened = 0
        self._epoll: Any = None
        if hasattr(select, "epoll"):
            self._epoll = select.epoll()
            self._read_end, self._write_end = os.pipe()
            os.set_blocking(self._read_end, False)
            os.set_blocking(self._write_end, False)
            self._epoll.register(self._read_end, select.EPOLLIN)

    @property
    def tells(self) -> bool:
        """Whether it can say of which socket it has heard."""
        return self._epoll is not None

    def configure(self, curl: Any) -> None:
        """Make the handle's sockets known here."""
        if self._epoll is not None:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)

    def _open_socket(self, purpose: int, address: Any) -> Any:
        family, kind, protocol, _ = address
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:  # too many open files: libcurl reports that it cannot connect, and there is a retry
            warn_once(logger, ("no socket", error.errno), "a connection cannot be made: %s", error)
            return pycurl.SOCKET_BAD
        made.setblocking(False)
        # pycurl works on a duplicate of the descriptor: the kernel watches what both refer to, and forgets
        # it when libcurl closes its own.
        self.add(made.fileno())
        self.opened += 1
        return made

    def add(self, fd: int) -> None:
        """Watch a socket, until it is closed."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def about_to_wait(self) -> None:
        """Announce `wait`. Look for work once more after this and before it: a `wake` from now on counts."""
        self._asleep = True

    def wait(self, multi: Any, seconds: float) -> Sequence[tuple[int, int]]:
        """Sleep for at most `seconds`, or as long as libcurl allows; a socket or `wake` ends it.

        Returns what was heard: numbers of sockets, each with the kernel's mask. Numbers of libcurl's mean nothing.
        """
        timeout = multi.timeout()  # milliseconds; -1: libcurl has no wish
        if timeout >= 0:
            seconds = min(seconds, timeout / 1000)
        if self._epoll is None:
            multi.select(min(seconds, _FALLBACK_SECONDS))
            self._asleep = False
            return ()
        events: Sequence[tuple[int, int]] = self._epoll.poll(max(0.0, seconds))
        self._asleep = False
        if any(fd == self._read_end for fd, _ in events):
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 4096)
        return events

    def no_wait(self) -> None:
        """Take back `about_to_wait`."""
        self._asleep = False

    def wake(self) -> None:
        """End the `wait` of the other thread, or the one it is about to begin."""
        if self._asleep and self._epoll is not None:
            with contextlib.suppress(BlockingIOError):  # a pipe full of calls that the sleeper has yet to hear
                os.write(self._write_end, b"!")

    def close(self) -> None:
        """Release the descriptors."""
        if self._epoll is not None:
            self._epoll.close()
            os.close(self._read_end)
            os.close(self._write_end)
            self._epoll = None
