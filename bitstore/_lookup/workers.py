"""Threads for blocking calls: users' own stores, long reads and writes of files."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from bitstore._support.per_process import Process, current

__all__ = ["Job", "Workers", "taken", "transfers_here"]

_SIGNAL_PAUSE = 1.0  # seconds for which a wait may last before signals are handled
_MOST_LEFT = 256  # calls whose result is not awaited any longer, in place of which more threads may be started

T = TypeVar("T")


class Job:
    """One call, and what becomes of it."""

    __slots__ = ("args", "done", "function", "given_up", "running")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], object]
    ) -> None:
        self.function = function
        self.args = args
        self.done = done
        self.running = False
        self.given_up = False


class Workers:
    """Up to `limit` threads, started when needed and stopped by `stop`.

    Calls wait in order when all threads are busy. A thread that waits for other lookups (`taken`) is not counted:
    those lookups may need a thread themselves, and if all threads were waiting, all would wait for ever. Nor is one
    whose call was given up: calls that hang must not take the threads from those that do not.
    """

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0  # of the threads
        self._left = 0  # of the threads: those in calls that were given up
        self._unfinished = 0
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Whether a call is running or waiting for a thread."""
        return self._unfinished > 0

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], object]
    ) -> Job:
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
        job = Job(function, args, done)
        self._jobs.put(job)
        return job

    def give_up(self, job: Job) -> None:
        """Do not make the call of `job` unless it has begun: it may cost money. One that has begun goes on."""
        with self._lock:
            if job.given_up:
                return
            job.given_up = True
            self._left += job.running
        if job.running:
            with contextlib.suppress(RuntimeError):  # no other thread can be had
                self._grow()

    def _grow(self) -> None:
        """Start a thread if there is work for it."""
        with self._lock:
            if self._stopped or self._threads >= min(
                self._unfinished, self.limit + self._waiting + min(self._left, _MOST_LEFT)
            ):
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
            with self._lock:
                job.running = not job.given_up
            result, error = None, None
            if job.running:
                try:
                    result = job.function(*job.args)
                except BaseException as raised:  # whatever it is, a lookup waits for it
                    error = raised
            with self._lock:
                self._unfinished -= 1
                self._left -= job.running and job.given_up
                job.running = False
            job.done(result, error)
            del job, result, error  # an idle thread must not keep a blob alive

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
        """Let every thread end when it has done what was submitted so far. Nothing may be submitted after this."""
        with self._lock:
            threads, self._threads = self._threads, 0
            self._stopped = True
        for _ in range(threads):
            self._jobs.put(None)


class _Mine(threading.local):
    """The workers that the calling thread is one of. A child that a worker has forked is no worker."""

    process: Process | None = None
    workers: Workers | None = None
    # The process in which the thread performs lookups of batches; None: it does not.
    transfers: Process | None = None


_mine = _Mine()


def transfers_here() -> None:
    """Note that the calling thread performs lookups, for which it must not wait."""
    _mine.transfers = current()


def taken(items: queue.SimpleQueue[T], left: float | None = None) -> T:
    """The next of `items`, which are put there by threads that perform lookups.

    Raises
    ------
    queue.Empty
        `left` seconds are over.
    RuntimeError
        The calling thread is such a thread, and would wait for itself.
    """
    if _mine.transfers is not None and _mine.transfers is current():
        raise RuntimeError(
            "a lookup was begun where lookups are performed (in on_answer, is_valid or the steps of a store), which "
            "would wait for itself: hand it to another thread"
        )

    def wait() -> T:
        end = None if left is None else time.monotonic() + left
        while True:
            # A signal that arrives just before a wait does not end it: Python handles it after this pause.
            pause = _SIGNAL_PAUSE if end is None else min(_SIGNAL_PAUSE, max(0.0, end - time.monotonic()))
            try:
                return items.get(timeout=pause)
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    raise

    workers = _mine.workers
    return wait() if workers is None or _mine.process is not current() else workers.wait(wait)
