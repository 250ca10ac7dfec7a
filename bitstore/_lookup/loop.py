"""The transfer thread: drives the steps of many lookups at once.

Only that thread touches its exchanges and the generators of its tasks.
Others hand it work through `_inbox` (a deque: append and popleft are atomic) and wake it.
The thread runs while there are tasks and ends with the last; kept connections outlive it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from bitstore._lookup.task import Lane, Task
from bitstore._lookup.timers import Timers
from bitstore._lookup.workers import Workers, transfers_here
from bitstore._support import clock
from bitstore._transport.budget import SocketBudget
from bitstore._transport.pace import Pace
from bitstore._transport.poller import Poller
from bitstore._transport.scheduler import Outcome, Scheduler
from bitstore._transport.transport import Transport
from bitstore._transport.transports import new_transports
from bitstore.steps import (
    EARLY,
    TIMED_OUT,
    Call,
    Cancelled,
    Request,
    Response,
    Sleep,
    Steps,
    Together,
    TransferError,
    Wait,
)

__all__ = ["Loop"]

logger = logging.getLogger("bitstore")

_LONGEST_PAUSE = 60.0  # seconds: a limit that a caller named may be farther away than the kernel can count
# Seconds for which the thread stays without a lookup. A batch with a slow consumer has none now and then, and to begin
# again with another thread costs the CPU of a dozen small blobs.
_LINGER = 0.2


class Loop:
    """One transfer thread, and what it needs.

    Parameters
    ----------
    pace
        Says how many HTTP exchanges may be under way at once; more wait in order.
    transports
        Makes the transports that carry them.
    """

    def __init__(
        self, pace: Pace, transports: Callable[[Poller, SocketBudget], Sequence[Transport]] = new_transports
    ) -> None:
        self.pace = pace
        self.workers = Workers()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()  # guards only the thread's coming and going
        self._thread: threading.Thread | None = None
        self._tasks: set[Task] = set()
        self._idle_until = math.inf  # seconds on `time.monotonic()` up to which the thread stays without a task
        self._hurried = False  # whether it is not to stay
        self._finished: dict[Callable[[list[Task]], object], list[Task]] = {}
        self._timers = Timers()
        self._poller = Poller()
        ways = transports(self._poller, SocketBudget(pace.most))
        self.scheduler = Scheduler(ways, pace, self._poller)

    # What other threads call

    def submit(self, tasks: Iterable[Task]) -> None:
        """Take up `tasks`."""
        self._post(self._take_up, list(tasks))

    def cancel(self, tasks: Iterable[Task], *, wait: bool = True) -> None:
        """Give up those of `tasks` that are not done: close their steps and connections.

        With `wait`, return when that is so; without, soon: a thread that must not block has this called.
        """
        given_up = threading.Event()
        try:
            self._post(self._give_up, list(tasks), given_up)
        except RuntimeError:  # no thread can be had: so none performs them, and one that comes gives them up at once
            return
        if wait and threading.current_thread() is not self._thread and not sys.is_finalizing():
            given_up.wait(60)  # it takes milliseconds; but no defect of the thread may hold its callers for ever

    def end_idle_thread(self) -> None:
        """End the thread, if it has no lookup, and wait until it is out; a second at most."""
        thread = self._thread
        if thread is None or self._tasks or thread is threading.current_thread():
            return
        self._hurried = True
        self._poller.wake()
        thread.join(1.0)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        self._inbox.append((function, args))
        # The thread leaves under the same lock, after it has seen the inbox empty: so either it sees this
        # entry, or we see here that it is gone.
        with self._lock:
            start = self._thread is None
        if start:
            self._start()
        self._poller.wake()

    def _start(self) -> None:
        # The thread takes its place by itself: one that cannot be started, or whose start is interrupted, must not seem
        # to be there. Several may be started at once; all but one find the place taken.
        threading.Thread(target=self._run, name="bitstore-transfer", daemon=True).start()

    # The transfer thread

    def _run(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.current_thread()
        transfers_here()
        try:
            self._hear_outcomes(0.0)  # which kept connections were closed while there was no thread?
            while self._turn():
                pass
        except BaseException as error:  # a defect of ours must leave no lookup waiting for ever
            self._fail_all(error)
            with self._lock:
                self._thread = None
            if self._inbox:  # what was submitted meanwhile
                self._start()
            raise

    def _fail_all(self, error: BaseException) -> None:
        """End all tasks with `error`, their transfers and their steps, so that none of them is resumed."""
        self.scheduler.clear()
        for task in list(self._tasks):
            with contextlib.suppress(Exception):  # the defect is reported, and not what comes of it
                self._close(task)
            self._finish(task, None, error)
        while self._finished:
            self._deliver()

    def _turn(self) -> bool:
        """One round: what others sent, what is due, what arrived. False: nothing left to do, the thread is out."""
        self._hear()
        self._timers.run_due()
        while self._finished:  # the last part of a task may finish the task
            self._deliver()
        if self._tasks:
            self._idle_until = math.inf
        elif not self._stays():
            return False
        self._poller.about_to_wait()
        leaves = self._hurried and not self._tasks
        pause = 0.0 if self._inbox or leaves else self._timers.pause(_LONGEST_PAUSE)
        pause = min(pause, max(0.0, self._idle_until - time.monotonic()))
        self._hear_outcomes(clock.idle(pause) if pause and self._only_pauses() else pause)
        return True

    def _stays(self) -> bool:
        """Whether the thread waits a little more for lookups to come, although it has none. False: it is out."""
        now = time.monotonic()
        if self._idle_until == math.inf:
            self._idle_until = now + _LINGER
            self.scheduler.clear()  # what was abandoned before it could begin: it may have a body to send
            self._timers.clear()
            self.workers.stop()
            self.workers = Workers()  # threads in calls that hang end by themselves, and take no other's work
        if now < self._idle_until and not self._hurried:
            return True
        with self._lock:
            if self._inbox:
                return True
            self._thread = None
            self._idle_until, self._hurried = math.inf, False
        return False

    def _hear(self) -> None:
        """Do what other threads have sent. `_turn` sleeps with no variable that keeps a lookup, and its blob, alive."""
        inbox = self._inbox
        while inbox:
            function, args = inbox.popleft()
            function(*args)

    def _hear_outcomes(self, pause: float) -> None:
        """Wait for outcomes of exchanges, for at most `pause` seconds, and resume the lookups that asked for them."""
        for lane, outcomes in groupby(self.scheduler.turn(pause), _lane_of):
            for task, outcome in outcomes if lane is None else lane.end(outcomes, self._finish):
                if isinstance(outcome, Response):
                    self._advance(task, task.steps.send, outcome)
                else:
                    self._failed(task, outcome)

    def _only_pauses(self) -> bool:
        """Whether the next event is the end of a lookup's `Sleep`: nothing is on the wire, and no call is running."""
        return self.scheduler.is_idle and not self.workers.busy and self._timers.first_is(self._resume)

    def _take_up(self, tasks: list[Task]) -> None:
        tasks = [task for task in tasks if not task.finished]  # the others were given up before they could begin
        self._tasks.update(tasks)
        for lane, alike in groupby(tasks, attrgetter("lane")):
            for task in alike if lane is None else self._take_up_together(lane, list(alike)):
                self._take_up_one(task)
        limited = [task for task in tasks if task.until is not None and not task.finished]
        limited.sort(key=attrgetter("until"))  # those that begin together were first
        for _, alike in groupby(limited, attrgetter("timeout")):
            self._timers.at_limits(self._time_out, list(alike))

    def _take_up_together(self, lane: Lane, tasks: list[Task]) -> Iterable[Task]:
        now = clock.monotonic()
        for task in tasks:
            if task.timeout is not None:
                task.until = now + task.timeout
        return lane.begin(tasks, self.scheduler.begin)

    def _take_up_one(self, task: Task) -> None:
        if task.finished:
            return
        if task.timeout is not None:
            task.until = clock.monotonic() + task.timeout
        if hasattr(task.steps, "send"):
            self._advance(task, task.steps.send, None)
        else:  # a store of a third party
            self._finish(task, None, TypeError(f"not a generator of steps: {task.steps!r}"))

    def _advance(self, task: Task, resume: Callable[[Any], Any], value: Any) -> None:
        """Resume the steps with an answer and begin what they ask for next."""
        task.ticket += 1
        try:
            step = resume(value)
        except StopIteration as end:
            self._finish(task, end.value, None)
            return
        except BaseException as error:  # also Cancelled: the task is over, with this error
            # Without this frame, which refers to the task, and it to the error: such a cycle would keep what the steps
            # hold of a large blob in memory until the collector finds it.
            self._finish(task, None, error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
            return
        try:
            if type(step) is Request:
                self.scheduler.begin(task, step, task.until)
            else:
                self._begin(task, step)
        except Exception as error:  # no step, or one that cannot be performed: the lookup is told, others go on
            self._advance(task, task.steps.throw, error)

    def _begin(self, task: Task, step: Any) -> None:
        """Begin what is no request."""
        if type(step) is Call:
            ticket = task.ticket
            job = self.workers.submit(
                step.function,
                step.args,
                lambda result, error: self._post(self._resume, task, ticket, result, error),
            )
            task.call = ticket, job
        elif type(step) is Wait:
            ticket = task.ticket
            step.event.on_landing(lambda: self._post(self._resume, task, ticket, None, None))
        elif type(step) is Sleep:
            self._timers.at(clock.monotonic() + step.seconds, self._resume, task, task.ticket, None, None)
        elif type(step) is Together:
            self._begin_parts(task, step.parts)
        else:
            raise TypeError(f"not a step of a lookup: {step!r}")

    def _begin_parts(self, task: Task, parts: Sequence[Steps[Any]]) -> None:
        ticket, left = task.ticket, len(parts)

        def landed(ended: list[Task]) -> None:
            nonlocal left
            left -= len(ended)
            failed = next((part.error for part in ended if part.error is not None), None)
            if (failed is None and left) or task.finished or task.ticket != ticket:
                return
            results = [part.result for part in task.parts]
            self._drop_parts(task)
            self._resume(task, ticket, results, failed)

        task.parts = [Task(steps, landed) for steps in parts]
        self._take_up(task.parts)

    def _drop_parts(self, task: Task) -> None:
        parts, task.parts = task.parts, ()
        for part in parts:
            self._close(part)

    def _resume(self, task: Task, ticket: int, value: Any, error: BaseException | None) -> None:
        if task.finished or task.ticket != ticket:
            return  # the answer to a step that was given up
        task.call = None
        if error is None:
            self._advance(task, task.steps.send, value)
        else:
            self._advance(task, task.steps.throw, error)

    def _finish(self, task: Task, result: Any, error: BaseException | None) -> None:
        task.result = result
        task.error = error
        task.finished = True
        self._tasks.discard(task)
        together = self._finished.get(task.deliver)
        if together is None:
            self._finished[task.deliver] = [task]
        else:
            together.append(task)

    def _deliver(self) -> None:
        """Hand over what finished in this round, all at once: waking a consumer per blob costs more than the blob."""
        finished, self._finished = self._finished, {}
        for deliver, tasks in finished.items():
            deliver(tasks)

    def _failed(self, task: Task, error: Exception) -> None:
        timed_out = isinstance(error, TransferError) and error.code == TIMED_OUT
        if task.until is not None and timed_out and task.until - clock.monotonic() < EARLY:
            self._time_out(task)  # libcurl was a little faster than our own timer
        else:
            self._advance(task, task.steps.throw, error)

    def _abandon(self, task: Task) -> None:
        """End the exchange or the call of `task`, if it has one, and those of its parts."""
        self._drop_parts(task)
        if task.call is not None and task.call[0] == task.ticket:
            self.workers.give_up(task.call[1])
        task.call = None
        self.scheduler.abandon(task)

    def _time_out(self, task: Task) -> None:
        if not task.finished:
            self._abandon(task)
            # Whatever the steps ask for after this has no time left either.
            self._timers.at(0.0, self._time_out, task)
            self._advance(task, task.steps.throw, Cancelled("timeout"))

    def _give_up(self, tasks: list[Task], given_up: threading.Event) -> None:
        try:
            for task in tasks:
                self._close(task)
        finally:
            given_up.set()

    def _close(self, task: Task) -> None:
        if task.finished:
            return
        task.finished = True
        self._tasks.discard(task)
        self._abandon(task)
        try:
            task.steps.close()
        except Exception:  # the clean-up of one lookup must not keep the others from theirs
            logger.exception("a lookup did not end cleanly")


def _lane_of(outcome: Outcome) -> Lane | None:
    lane: Lane | None = outcome[0].lane
    return lane
