"""Descriptors that stay open between two operations."""

from __future__ import annotations

import os
from collections.abc import Callable

from bitstore._support.per_process import current

__all__ = ["Held"]


class Held:
    """An open descriptor, which is closed with the last reference to it: no thread loses it while another lets it go.

    A forked child does not close those of its parent: by then it may have closed all descriptors that it had
    inherited, and given their numbers to other files.

    Parameters
    ----------
    fd
        The descriptor, from now on owned by this object.
    """

    __slots__ = ("_process", "fd", "kept")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.kept = False  # another use may follow
        self._process = current()

    def done(self) -> None:
        """End one use: unless it is kept for another, the descriptor is closed at once."""
        if not self.kept and self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # `close` is bound early, because the modules may be empty when the interpreter ends.
        if self.fd >= 0 and self._process is current():
            try:
                close(self.fd)
            except OSError:
                return  # it is closed all the same, or was before
