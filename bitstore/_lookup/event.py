"""What lookups wait for by a step `Wait`, without a lock.

A lock that another thread holds at the moment of a fork would wedge the child. What follows rests on `list.append` and
`list.pop` being atomic.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Event"]


class Event:
    """A `Landing` that a subclass lets land.

    Attributes
    ----------
    landed
        Whether it has happened.
    """

    __slots__ = ("_callbacks", "landed")

    def __init__(self) -> None:
        self.landed = False
        self._callbacks: list[Callable[[], object]] = []

    def on_landing(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when it has happened (at once if it has)."""
        # Append first, then look: if the landing comes in between, both sides drain the same list and
        # each callback is popped, hence called, exactly once.
        self._callbacks.append(callback)
        if self.landed:
            self._drain()

    def _drain(self) -> None:
        """Call all callbacks, after `landed` was set."""
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:  # the other side took the last one
                return
            callback()
