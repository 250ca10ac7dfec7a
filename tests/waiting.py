"""Waiting for what has no event to await: the end of threads and sockets, a thread that has begun to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["lookup_threads", "wait_until"]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true. AssertionError if that does not come about in half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        threading.Event().wait(0.005)


def lookup_threads() -> list[str]:
    """Names of the threads of this process that perform lookups. Those of other kinds may be left by other tests."""
    names = ("bitstore-transfer", "bitstore-worker")
    return [thread.name for thread in threading.enumerate() if thread.name in names]
