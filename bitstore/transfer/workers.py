"""Threads for blocking calls: users' own stores, long reads and writes of files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Workers"]

_Job = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any, BaseException | None], object]]


class Workers:
    """Up to `limit` threads, started when needed and stopped by `stop`.

    Calls wait in order when all threads are busy.
    """

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], object]
    ) -> None:
        """Run `function(*args)` in a thread, then there `done(result, error)`."""
        with self._lock:
            self._unfinished += 1
            start = self._threads < min(self._unfinished, self.limit)
            self._threads += start
        self._jobs.put((function, args, done))
        if start:
            threading.Thread(target=self._work, name="bitstore-worker", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, args, done = job
            result, error = None, None
            try:
                result = function(*args)
            except BaseException as raised:  # whatever it is, somebody waits for it
                error = raised
            with self._lock:
                self._unfinished -= 1
            done(result, error)
            del job, function, args, done, result, error  # an idle thread must not keep a blob alive

    def stop(self) -> None:
        """Let every thread end when it has done what was submitted so far."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._jobs.put(None)
