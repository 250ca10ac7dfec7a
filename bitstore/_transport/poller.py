"""Waiting for sockets, or for another thread's word, whichever comes first."""

from __future__ import annotations

import contextlib
import os
import select
import time
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["Poller"]

# Where epoll is lacking, nothing can interrupt the wait, so it is kept short.
_FALLBACK_SECONDS = 0.005


class Poller:
    """Lets one thread sleep until one of its sockets, or `wake`, has something for it.

    Each socket is registered once with an *edge-triggered* epoll, for both directions. The kernel latches an event
    that comes before `wait`. libcurl's own `select` knows no file descriptor above 1023 and cannot be interrupted.
    """

    def __init__(self) -> None:
        # What the thread sleeps in where there is no epoll; a transport that has something better sets it.
        self.sleep: Callable[[float], object] = time.sleep
        self._asleep = False
        self._epoll: Any = None
        if hasattr(select, "epoll"):
            self._epoll = select.epoll()
            self._read_end, self._write_end = os.pipe()
            # Not at the end of the process: its thread may be asleep in it.
            weakref.finalize(self, _close, self._read_end, self._write_end).atexit = False
            os.set_blocking(self._read_end, False)
            os.set_blocking(self._write_end, False)
            self._epoll.register(self._read_end, select.EPOLLIN)

    @property
    def tells(self) -> bool:
        """Whether `wait` can tell which socket has something new."""
        return self._epoll is not None

    def add(self, fd: int) -> None:
        """Watch a socket, until it is closed."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def about_to_wait(self) -> None:
        """Announce `wait`. Look for work once more after this and before it: a `wake` from now on counts."""
        self._asleep = True

    def wait(self, seconds: float) -> list[int]:
        """Sleep for at most `seconds`; a socket or `wake` ends it. Returns numbers of sockets with something new."""
        if self._epoll is None:
            self.sleep(max(0.0, min(seconds, _FALLBACK_SECONDS)))
            self._asleep = False
            return []
        heard = [fd for fd, _ in self._epoll.poll(max(0.0, seconds))]
        self._asleep = False
        if self._read_end in heard:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 4096)
        return heard

    def wake(self) -> None:
        """End the `wait` of the other thread, or the one that it is about to begin."""
        if self._asleep and self._epoll is not None:
            with contextlib.suppress(BlockingIOError):  # a pipe full of calls that the sleeper has yet to hear
                os.write(self._write_end, b"!")


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
