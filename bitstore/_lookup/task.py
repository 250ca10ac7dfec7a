"""A lookup that the transfer thread performs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bitstore._support import clock
from bitstore.steps import Steps

if TYPE_CHECKING:
    from bitstore._lookup.workers import Job
    from bitstore._transport.scheduler import Outcome
    from bitstore._transport.transport import Exchange
    from bitstore.steps import Request

__all__ = ["Lane", "Task"]


class Lane:
    """Begins and ends lookups that are alike, many at a time: for each of them that is cheaper than its steps.

    It keeps the steps of each lookup where they would be, so that they can go on at any moment.
    """

    __slots__ = ()

    def begin(self, tasks: Iterable[Task], begin: Callable[[Task, Request, float | None], None]) -> Iterable[Task]:
        """Begin the first requests of `tasks` by the function `begin`; returns those whose steps have to begin."""
        raise NotImplementedError

    def end(self, outcomes: Iterable[Outcome], finish: Callable[[Task, Any, None], None]) -> Iterator[Outcome]:
        """End the lookups whose answer is plain by the function `finish`; yields the outcomes that are for steps.

        All in their order: the steps go on with one before the next lookup ends.
        """
        raise NotImplementedError


class Task:
    """One lookup given to the loop.

    Parameters
    ----------
    steps
        The generator of the lookup.
    deliver
        Called in the transfer thread with a list of finished tasks, each exactly once unless it is cancelled.
        Tasks that share one such function are delivered together, once a round.
    timeout
        Seconds from the moment the loop takes it up; None: no limit.
    """

    __slots__ = (
        "__weakref__",
        "call",
        "deliver",
        "error",
        "exchange",
        "finished",
        "lane",
        "parts",
        "result",
        "steps",
        "ticket",
        "timeout",
        "until",
    )

    def __init__(
        self, steps: Steps[Any], deliver: Callable[[list[Task]], object], timeout: float | None = None
    ) -> None:
        self.steps = steps
        lane = getattr(steps, "lane", None)  # steps of a third party may have something else of this name
        self.lane = lane if isinstance(lane, Lane) else None  # begins and ends it with others; None: its steps do
        self.deliver = deliver
        self.timeout = timeout
        self.until: float | None = None  # deadline in seconds on `clock.monotonic()`
        self.exchange: Exchange | None = None  # under way, or waiting for a place; the scheduler sets it
        self.call: tuple[int, Job] | None = None  # the last blocking call, with its ticket
        self.parts: Sequence[Task] = ()  # of a `Together` that the steps wait for
        self.ticket = 0  # grows with each step, so that an answer to an abandoned step is known as such
        self.finished = False  # whether `result` and `error` are final
        self.result: Any = None  # what the steps returned
        self.error: BaseException | None = None  # what the steps raised

    def again(self, steps: Steps[Any]) -> None:
        """Make a finished task one that may be submitted once more, with other steps, in the time that is left."""
        if self.until is not None:
            self.timeout = max(0.001, self.until - clock.monotonic())
        self.steps = steps
        self.lane = None
        self.result = self.error = None
        self.finished = False
