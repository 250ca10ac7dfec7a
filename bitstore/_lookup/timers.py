"""What is due later for the lookups of one transfer thread: pauses and time limits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from bitstore._lookup.task import Task
from bitstore._support import clock

__all__ = ["Timers"]

_FEWEST_TO_PRUNE = 1000


class Timers:
    """Calls for tasks, each at its time. Only the transfer thread uses this."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()  # equal times are due in the order in which they were added
        self._prune_at = _FEWEST_TO_PRUNE  # so many timers that those of finished tasks are dropped

    def at(self, when: float, function: Callable[..., None], task: Task, *args: Any) -> None:
        """Call `function(task, *args)` at `when`, in seconds on the runtime's clock."""
        if len(self._heap) >= self._prune_at:
            # Mostly time limits of lookups that ended long before them.
            self._heap = [timer for timer in self._heap if not timer[3][0].finished]
            heapq.heapify(self._heap)
            self._prune_at = max(_FEWEST_TO_PRUNE, 2 * len(self._heap))
        heapq.heappush(self._heap, (when, next(self._order), function, (task, *args)))

    def run_due(self) -> None:
        """Make the calls that are due."""
        if self._heap:
            now = clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                _, _, function, args = heapq.heappop(self._heap)
                function(*args)

    def pause(self, longest: float) -> float:
        """Seconds until the next call is due, at most `longest`."""
        return max(0.0, min(longest, self._heap[0][0] - clock.monotonic())) if self._heap else longest

    def first_is(self, function: Callable[..., None]) -> bool:
        """Whether the next call is `function`, for a task that is not finished."""
        return bool(self._heap) and self._heap[0][2] == function and not self._heap[0][3][0].finished

    def clear(self) -> None:
        """Forget all calls."""
        self._heap.clear()
