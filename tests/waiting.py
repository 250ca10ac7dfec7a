"""Waiting for what has no event to await: the end of threads, sockets and pools of processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["lookup_threads", "processes", "wait_until"]


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


@contextlib.contextmanager
def processes(method: str, count: int) -> Iterator[Any]:
    """A pool of so many processes that end by themselves: `Pool.terminate`, which `with` calls, can wait for ever."""
    pool = multiprocessing.get_context(method).Pool(count)
    try:
        yield pool
    except BaseException:
        pool.terminate()
        raise
    pool.close()
    pool.join()
