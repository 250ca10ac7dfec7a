"""The checks of threads, pickle and fork."""

from __future__ import annotations

import multiprocessing
import pickle
import secrets
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from bitstore.errors import NotFoundInStore
from bitstore.testing.trial import Trial, must, raises, same

_THREADS = 8


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
    must(not hanging, f"{hanging} of {_THREADS} threads hang")
    must(not problems, "; ".join(problems[:1]))


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
    """A child of a fork does what its parent does, whether the parent has used the store or not; so does the parent."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    used = trial.make()
    blobs = trial.place_some(used)
    for name, data in blobs.items():
        same(used.get(name), data, "a blob")
    for store, state in ((trial.make(), "before the parent used the store"), (used, "after the parent used the store")):
        problem = _in_child(partial(_tell, trial, store, blobs), trial.limit)
        must(not problem, f"in a forked child, {state}: {problem}")
    for name, data in blobs.items():
        same(used.get(name), data, "a blob, in the parent after the fork")


def _tell(trial: Trial, store: Any, blobs: dict[str, bytes]) -> str | None:
    try:
        for name, data in (blobs if trial.shared else trial.place_some(store)).items():
            same(store.get(name), data, "a blob")
        with raises(NotFoundInStore, "get of a missing blob"):
            store.get(trial.absent())
    except Exception as error:
        return f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return None


def _in_child(work: Callable[[], str | None], limit: float) -> str | None:
    context: Any = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(work()), daemon=True)
    with warnings.catch_warnings():
        # That forking a process with threads is delicate is just what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sending.close()
    try:
        if not receiving.poll(limit):
            return f"it hangs ({limit:g} s)"
        answer: str | None = receiving.recv()
        return answer
    except EOFError:
        child.join(limit)
        return f"it died (exit code {child.exitcode})"
    finally:
        child.kill()
        child.join()
        receiving.close()


CHECKS: tuple[Callable[[Trial], None], ...] = (threads, copies, forks)
