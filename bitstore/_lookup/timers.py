"""What is due later for the lookups of one transfer thread: pauses and time limits."""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from bitstore._lookup.task import Task
from bitstore._support import clock

__all__ = ["Timers"]

_FEWEST_TO_PRUNE = 1000


class Timers:
    """Calls for tasks, each at its time. Only the transfer thread uses this.

    A task that has ended is not kept: its time limit may be minutes away, and it has a blob.
    """

    def __init__(self) -> None:
        # When, order, what to call with each task, the tasks, further arguments (None: each at its own time limit).
        self._heap: list[tuple[float, int, Callable[..., None], list[weakref.ref[Task]], tuple[Any, ...] | None]] = []
        self._order = count()  # equal times are due in the order in which they were added
        self._tasks = 0  # in all timers together
        self._prune_at = _FEWEST_TO_PRUNE  # so many tasks that timers of finished ones are dropped

    def at(self, when: float, function: Callable[..., None], task: Task, *args: Any) -> None:
        """Call `function(task, *args)` at `when`, in seconds on the runtime's clock."""
        self._add(when, function, [weakref.ref(task)], args)

    def at_limits(self, function: Callable[..., None], tasks: Sequence[Task]) -> None:
        """Call `function(task)` for each of `tasks` when its time limit is over; they are in the order of their limits.

        One timer for all of them costs little more than one for one of them.
        """
        if tasks and tasks[0].until is not None:
            self._add(tasks[0].until, function, [weakref.ref(task) for task in tasks], None)

    def _add(
        self, when: float, function: Callable[..., None], tasks: list[weakref.ref[Task]], args: tuple[Any, ...] | None
    ) -> None:
        if self._tasks >= self._prune_at:
            # Mostly time limits of lookups that ended long before them.
            self._heap = [timer for timer in self._heap if not all(map(_is_over, timer[3]))]
            heapq.heapify(self._heap)
            self._tasks = sum(len(timer[3]) for timer in self._heap)
            self._prune_at = max(_FEWEST_TO_PRUNE, 2 * self._tasks)
        heapq.heappush(self._heap, (when, next(self._order), function, tasks, args))
        self._tasks += len(tasks)

    def run_due(self) -> None:
        """Make the calls that are due."""
        if self._heap:
            now = clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                _, _, function, tasks, args = heapq.heappop(self._heap)
                self._tasks -= len(tasks)
                for number, reference in enumerate(tasks):
                    task = reference()
                    if task is None:
                        continue
                    if args is None and task.until is not None and task.until > now:
                        self._add(task.until, function, tasks[number:], None)
                        break
                    function(task, *(args or ()))

    def pause(self, longest: float) -> float:
        """Seconds until the next call is due, at most `longest`."""
        return max(0.0, min(longest, self._heap[0][0] - clock.monotonic())) if self._heap else longest

    def first_is(self, function: Callable[..., None]) -> bool:
        """Whether the next call is `function`, for a task that is not finished."""
        return bool(self._heap) and self._heap[0][2] == function and not all(map(_is_over, self._heap[0][3]))

    def clear(self) -> None:
        """Forget all calls."""
        self._heap.clear()
        self._tasks = 0


def _is_over(reference: weakref.ref[Task]) -> bool:
    task = reference()
    return task is None or task.finished
