"""Blobs that go to the disk as they arrive."""

from __future__ import annotations

from collections.abc import Callable

from bitstore._lookup.partial import Partial
from bitstore._raw.problems import Problem
from bitstore.steps import Response, Steps

__all__ = ["into"]


def into(partial: Partial, ask: Callable[[], Steps[Response | Problem]]) -> Steps[Problem | None]:
    """Bring the whole blob into `partial`; what is there already is gone on from. Returns what went wrong, if anything.

    Raises
    ------
    CannotWrite
        The disk does not take it.
    """
    for _ in range(3):
        if partial.complete:
            return None
        answer = yield from ask()
        partial.check()
        if isinstance(answer, Response):
            partial.ended(answer.status, answer.headers)
            return None
        if not (partial.stale or answer.status in (412, 416)):
            return answer
        partial.restart()  # it was the beginning of another version
    return Problem(message="the blob was replaced while it was read, again and again")
