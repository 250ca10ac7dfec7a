"""Single-flight: several lookups of one key at the same time share one fetch.

No lock is held anywhere: a lock that another thread holds at the moment of a fork would wedge the child.
What follows rests on `dict.setdefault`, `dict.pop`, `list.append` and `list.pop` being atomic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bitstore.errors import LookupTimedOut
from bitstore.transfer.steps import Found, Steps, Wait

__all__ = ["Flights"]


class _Flight:
    """One fetch in progress. `outcome` is what it came to; None if the leader gave up (closed, out of time)."""

    __slots__ = ("_callbacks", "landed", "outcome")

    def __init__(self) -> None:
        self.landed = False
        self.outcome: Found | Exception | None = None
        self._callbacks: list[Callable[[], object]] = []

    def on_landing(self, callback: Callable[[], object]) -> None:
        # Append first, then look: if the landing comes in between, both sides drain the same list and
        # each callback is popped, hence called, exactly once.
        self._callbacks.append(callback)
        if self.landed:
            self._drain()

    def land(self, outcome: Found | Exception | None) -> None:
        self.outcome = outcome
        self.landed = True
        self._drain()

    def _drain(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:  # the other side took the last one
                return
            callback()


class Flights:
    """The fetches in progress of one composite in one process."""

    def __init__(self) -> None:
        self._open: dict[Any, _Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def steps(self, key: Any, fetch: Callable[[Any], Steps[Found]]) -> Steps[Found]:
        """The result of `fetch(key)`, by whoever is fetching it already, or else by the caller.

        A leader that is closed or runs out of its caller's time takes nobody with it: one of those that
        wait fetches anew. Its result, also an error, is an answer for all.
        """
        while True:
            mine = _Flight()
            flight = self._open.setdefault(key, mine)
            if flight is mine:
                return (yield from self._lead(key, mine, fetch))
            yield Wait(flight)
            outcome = flight.outcome
            if isinstance(outcome, Exception):
                raise _own(outcome)
            if outcome is not None:
                return outcome

    def _lead(self, key: Any, flight: _Flight, fetch: Callable[[Any], Steps[Found]]) -> Steps[Found]:
        outcome: Found | Exception | None = None
        try:
            outcome = yield from fetch(key)
        except LookupTimedOut:
            raise
        except Exception as error:
            outcome = error
            raise
        finally:
            # First out of the table, then landed: who comes in between starts a fetch of its own
            # rather than waiting for one that is over.
            self._open.pop(key, None)
            flight.land(outcome)
        return outcome


def _own(error: Exception) -> Exception:
    """A copy of `error`: raising one object in several threads would mix up their tracebacks."""
    try:
        mine = copy.copy(error)
    except Exception:  # a user's exception with an odd constructor: then the shared one must do
        return error
    mine.__cause__ = error
    return mine
