"""Threads for blocking calls: users' own stores, long reads and writes of files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from bitstore._support.per_process import Process, current

__all__ = ["Workers", "waited"]

_Job = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any, BaseException | None], object]]

T = TypeVar("T")


class Workers:
    """Up to `limit` threads, started when needed and stopped by `stop`.

    Calls wait in order when all threads are busy. A thread that waits for other lookups (`waited`) is not counted:
    those lookups may need a thread themselves, and if all threads were waiting, all would wait for ever.
    """

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0  # of the threads
        self._unfinished = 0

    @property
    def busy(self) -> bool:
        """Whether a call is running or waiting for a thread."""
        return self._unfinished > 0

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], object]
    ) -> None:
        """Run `function(*args)` in a thread, then there `done(result, error)`.

        Raises
        ------
        RuntimeError
            There is no thread, and none can be had.
        """
        with self._lock:
            self._unfinished += 1
        try:
            self._grow()
        except RuntimeError:
            with self._lock:
                self._unfinished -= 1
            raise
        self._jobs.put((function, args, done))

    def _grow(self) -> None:
        """Start a thread if there is work for it."""
        with self._lock:
            if self._threads >= min(self._unfinished, self.limit + self._waiting):
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="bitstore-worker", daemon=True).start()
        except RuntimeError:  # the system gives no more threads: those that there are will do
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    raise

    def _work(self) -> None:
        _mine.process, _mine.workers = current(), self
        while (job := self._jobs.get()) is not None:
            function, args, done = job
            result, error = None, None
            try:
                result = function(*args)
            except BaseException as raised:  # whatever it is, a lookup waits for it
                error = raised
            with self._lock:
                self._unfinished -= 1
            done(result, error)
            del job, function, args, done, result, error  # an idle thread must not keep a blob alive

    def wait(self, until: Callable[[], T]) -> T:
        """What `until()` returns; another thread may work instead of the calling one while that waits."""
        with self._lock:
            self._waiting += 1
        try:
            self._grow()
            return until()
        finally:
            with self._lock:
                self._waiting -= 1

    def stop(self) -> None:
        """Let every thread end when it has done what was submitted so far."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._jobs.put(None)


class _Mine(threading.local):
    """The workers that the calling thread is one of. A child that a worker has forked is no worker."""

    process: Process | None = None
    workers: Workers | None = None


_mine = _Mine()


def waited(until: Callable[[], T]) -> T:
    """What `until()` returns, which waits for lookups that other threads perform."""
    workers = _mine.workers
    return until() if workers is None or _mine.process is not current() else workers.wait(until)
