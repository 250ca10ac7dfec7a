"""A lookup that the transfer thread performs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bitstore._support import clock
from bitstore.steps import Steps

if TYPE_CHECKING:
    from bitstore._lookup.workers import Job
    from bitstore._transport.transport import Exchange

__all__ = ["Task"]


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
        self.result = self.error = None
        self.finished = False
