"""Single-flight: several lookups of one key at the same time share one fetch.

No lock is held anywhere, as in `Event`. What follows rests on `dict.setdefault` and `dict.pop` being atomic.
"""

from __future__ import annotations

import copy
from typing import Any

from bitstore._lookup.event import Event
from bitstore.steps import Found

__all__ = ["Flight", "Flights"]


class Flight(Event):
    """One fetch in progress. `outcome` is what it came to; None if the leader gave up (closed, out of time)."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:  # each lookup makes one: as `Event` does, without a call
        self.landed = False
        self._callbacks = []
        self.outcome: Found | Exception | None = None

    @property
    def result(self) -> Found | None:
        """What the leader found; None if it gave up. Raises a copy of the leader's error."""
        if isinstance(self.outcome, Exception):
            raise _own(self.outcome)
        return self.outcome

    def land(self, outcome: Found | Exception | None) -> None:
        """Make `outcome` known to all lookups that wait."""
        self.outcome = outcome
        self.landed = True
        if self._callbacks:
            self._drain()


class Flights:
    """The fetches in progress of one composite in one process.

    A lookup calls `lead`; if it gets None, it fetches and then calls `land`, whatever happens. If it gets
    the flight of another lookup, it waits for that (`Wait(flight)`) and asks for its `result`.
    """

    def __init__(self) -> None:
        self._open: dict[Any, Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: Any) -> bool:
        return key in self._open

    def lead(self, key: Any) -> Flight | None:
        """None: the caller now fetches `key`. Else the flight of the lookup that does."""
        mine = Flight()
        flight = self._open.setdefault(key, mine)
        return None if flight is mine else flight

    def land(self, key: Any, outcome: Found | Exception | None) -> None:
        """End the flight of `key` and tell those that wait; None: the leader gave up without an answer."""
        # First out of the table, then landed: a lookup that comes in between starts a fetch of its own
        # rather than waiting for one that is over.
        self._open.pop(key).land(outcome)


def _own(error: Exception) -> Exception:
    """A copy of `error`: raising one object in several threads would mix up their tracebacks."""
    try:
        mine = copy.copy(error)
    except Exception:  # a user's exception with an odd constructor: then the shared one must do
        return error
    mine.__cause__ = error
    return mine
