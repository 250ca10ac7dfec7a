"""The blocking driver: performs the steps of one lookup in the caller's thread."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, TypeVar

from bitstore._lookup.workers import Workers, taken
from bitstore._support import clock
from bitstore.steps import EARLY, TIMED_OUT, Call, Cancelled, Sleep, Steps, Together, TransferError, Wait

__all__ = ["run"]

T = TypeVar("T")


def run(steps: Steps[T], *, timeout: float | None = None) -> T:
    """Perform `steps` to their end and return their result.

    Parameters
    ----------
    steps
        The generator of a lookup.
    timeout
        Seconds for all of it. When they are over, `Cancelled` is thrown into the steps and comes out here
        unless they answer otherwise. A blocking call (`Call`) cannot be interrupted: it runs in another thread
        then, and its result is lost.
    """
    deadline = None if timeout is None else clock.monotonic() + timeout
    resume: Callable[[Any], Any] = steps.send
    value: Any = None
    try:
        while True:
            step = resume(value)
            try:
                value = _perform(step, deadline)
                resume = steps.send
            except BaseException as error:  # also KeyboardInterrupt: the steps' own clean-up must see it
                value = error
                resume = steps.throw
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        # An error that comes out of the steps may be one that was thrown into them. It refers to this frame: such a
        # cycle would keep what they hold of a large blob in memory until the collector finds it.
        value = None
        steps.close()


def _perform(step: Any, deadline: float | None) -> Any:
    left = None if deadline is None else deadline - clock.monotonic()
    if left is not None and left <= 0:
        raise Cancelled("timeout")
    if isinstance(step, Call):
        return step.function(*step.args) if left is None else _within(step, left)
    if isinstance(step, Wait):
        landed: queue.SimpleQueue[None] = queue.SimpleQueue()
        step.event.on_landing(lambda: landed.put(None))
        try:
            return taken(landed, left)
        except queue.Empty:
            raise Cancelled("timeout") from None
    if isinstance(step, Sleep):
        if left is not None and left < step.seconds:
            clock.sleep(left)
            raise Cancelled("timeout")
        clock.sleep(step.seconds)
        return None
    if isinstance(step, Together):
        return _together(step, left)
    from bitstore._transport.transports import perform

    try:
        return perform(step, left)
    except TransferError as error:
        # The caller's own time limit is no failure of the store: neither its breaker nor others that wait must take
        # it for one. libcurl counts in milliseconds, so it may be a little early.
        if deadline is not None and error.code == TIMED_OUT and deadline - clock.monotonic() < EARLY:
            raise Cancelled("timeout") from None
        raise


def _within(step: Call, left: float) -> Any:
    """The result of a blocking call, which is left to itself when time is up."""
    ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    workers = Workers(1)
    try:
        job = workers.submit(step.function, step.args, lambda result, error: ended.put((result, error)))
    except RuntimeError:  # the system gives no thread: better without a limit than not at all
        return step.function(*step.args)
    workers.stop()  # after this one call
    try:
        result, error = taken(ended, left)
    except queue.Empty:
        workers.give_up(job)
        raise Cancelled("timeout") from None
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # it refers to this frame, which must not refer to it: such a cycle would keep a blob in memory


def _together(step: Together, left: float | None) -> Any:
    """The transfer thread can do several things at once, so it does these."""
    from bitstore._lookup.loops import loop
    from bitstore._lookup.task import Task

    def whole() -> Steps[Any]:
        return (yield step)

    done: queue.SimpleQueue[list[Task]] = queue.SimpleQueue()
    task = Task(whole(), done.put, left)
    driver = loop()
    try:
        driver.submit([task])
        taken(done)
    finally:  # also when this thread is interrupted
        if not task.finished:
            driver.cancel([task])
    if task.error is None:
        return task.result
    try:
        raise task.error
    finally:
        del task  # it refers to the error, and that to this frame: see `run`
