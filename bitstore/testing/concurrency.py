"""The checks of threads, pickle and fork."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import secrets
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from bitstore.errors import NotFoundInStore
from bitstore.testing.trial import Trial, many, must, raises, same

_THREADS = 8
_CHILDREN = 3


def threads(trial: Trial) -> None:
    """Threads that begin with a store at the same moment do not disturb each other."""
    store = trial.make()
    blobs = trial.place_some(store, 12)
    store = trial.other(store)
    missing = [trial.absent() for _ in range(4)]
    barrier = threading.Barrier(_THREADS)
    problems: list[str] = []

    def work(shift: int) -> None:
        try:
            barrier.wait(trial.limit)
            names = [*blobs, *missing] * 2
            for name in names[shift:] + names[:shift]:
                if name in blobs:
                    same(store.get(name), blobs[name], "one of many blobs")
                else:
                    with raises(NotFoundInStore, "get of a missing blob"):
                        store.get(name)
            if trial.writable:
                data = secrets.token_bytes(1000)
                same(store.get(trial.place(store, data)), data, "a blob put while other threads put theirs")
        except Exception as error:
            told = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            problems.append(f"in one of several threads: {told}")

    workers = [threading.Thread(target=work, args=(3 * number,), daemon=True) for number in range(_THREADS)]
    for thread in workers:
        thread.start()
    deadline = time.monotonic() + trial.limit
    for thread in workers:
        thread.join(max(0.0, deadline - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in workers)
    must(not hanging, f"{hanging} of {_THREADS} threads hang\n{_stacks() if hanging else ''}")
    must(not problems, "; ".join(problems[:1]))


def _stacks() -> str:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")


def copies(trial: Trial) -> None:
    """A copy through pickle does what the original does, used before or not."""
    used = trial.make()
    blobs = trial.place_some(used)
    for name, data in blobs.items():
        same(used.get(name), data, "a blob")
    for store, state in ((trial.make(), "a fresh"), (used, "a used")):
        try:
            copy = pickle.loads(pickle.dumps(store))
        except Exception as error:
            raise AssertionError(f"{state} store does not pickle ({type(error).__name__}: {error})") from error
        with raises(NotFoundInStore, f"get of a missing blob, from the pickled copy of {state} store"):
            copy.get(trial.absent())
        for name, data in (blobs if trial.shared else trial.place_some(copy)).items():
            same(copy.get(name), data, f"the pickled copy of {state} store")
    same(used.get(name := trial.place(used, b"after")), b"after", f"a store that was pickled ({name})")


def forks(trial: Trial) -> None:
    """Children of a fork do what their parent does, whether it has used the store or not; all at the same time."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    used = trial.make()
    blobs = trial.place_some(used, 10)
    must(not (problem := _use(trial, used, blobs)), f"before a fork: {problem}")
    for store, state in ((trial.make(), "before the parent used the store"), (used, "after the parent used the store")):
        children = [_Child(partial(_use, trial, store, blobs)) for _ in range(_CHILDREN)]
        try:
            if store is used:
                # A store that shares a connection or a lock with its children fails when all use it at once.
                must(not (problem := _use(trial, used, blobs)), f"in the parent, after a fork: {problem}")
            deadline = time.monotonic() + trial.limit
            for child in children:
                problem = child.problem(deadline)
                must(not problem, f"in a forked child, {state}: {problem}")
        finally:
            for child in children:
                child.end()
    must(not (problem := _use(trial, used, blobs)), f"in the parent, after its children have ended: {problem}")


def _use(trial: Trial, store: Any, blobs: dict[str, bytes]) -> str | None:
    try:
        if not trial.shared:
            blobs = trial.place_some(store)
        for name, data in [*blobs.items()] * 3:
            same(store.get(name), data, "a blob")
        with raises(NotFoundInStore, "get of a missing blob"):
            store.get(trial.absent())
        told = {blob.uri: blob.data for blob in many(store, blobs)}
        must(told == blobs, "get_many did not give the blobs")
    except Exception as error:
        return f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return None


class _Child:
    """A forked process that reports what `work` returns."""

    def __init__(self, work: Callable[[], str | None]) -> None:
        context: Any = multiprocessing.get_context("fork")
        self._answers, sending = context.Pipe(duplex=False)
        self._stacks = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`

        def report() -> None:
            faulthandler.register(signal.SIGUSR1, self._stacks, all_threads=True)
            sending.send(work())

        self._process = context.Process(target=report, daemon=True)
        with warnings.catch_warnings():
            # That forking a process with threads is delicate is just what is tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        sending.close()

    def problem(self, deadline: float) -> str | None:
        """What it reports. Waits until `deadline` (`time.monotonic()`)."""
        if not self._answers.poll(max(0.0, deadline - time.monotonic())):
            return f"it hangs\n{self._stack()}"
        try:
            answer: str | None = self._answers.recv()
        except EOFError:
            self._process.join()
            return f"it died (exit code {self._process.exitcode})"
        return answer

    def _stack(self) -> str:
        # The handler is C code, which needs no lock of Python: it answers whatever the child waits for.
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGUSR1)
        for _ in range(50):
            # Without moving the position in the file, which the child shares.
            if (text := os.pread(self._stacks.fileno(), 1_000_000, 0).decode(errors="replace")).count("\n") > 1:
                break
            time.sleep(0.02)
        return text

    def end(self) -> None:
        """Kill it if it is still there."""
        self._process.kill()
        self._process.join()
        self._answers.close()
        self._stacks.close()


CHECKS: tuple[Callable[[Trial], None], ...] = (threads, copies, forks)
