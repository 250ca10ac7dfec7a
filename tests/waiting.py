"""Waiting for what has no event to await: the end of threads and sockets, a thread that has begun to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["wait_until"]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true. AssertionError if that does not come about in half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        threading.Event().wait(0.005)
