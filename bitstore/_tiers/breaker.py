"""A circuit breaker: a store that keeps failing is left alone for a while.

The pattern: https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

from bitstore._support import clock as runtime_clock
from bitstore._support.once import warn_once
from bitstore.errors import described

__all__ = ["Breaker"]

logger = logging.getLogger("bitstore")

FAILURES = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
PROBE_LIMIT = 30.0  # seconds after which a probe that has not reported no longer keeps others back
# Seconds without a failure after which the next one begins another outage: what was in between is not known. The
# longest pause and all tries of a call take less.
FORGOTTEN = 120.0
PROBE_PAUSE = 0.25  # seconds after which to ask again while it is not known whether the store answers


class Breaker:
    """Closed: all calls pass. Open, after `FAILURES` in a row: none does, for a pause that doubles each time.

    When the pause is over, one call passes as a probe: its success closes the breaker, its failure opens it again.

    Parameters
    ----------
    name
        Of the store, for the log.
    clock
        Seconds; for tests.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] | None = None) -> None:
        self._name = name
        self._clock = clock or runtime_clock.monotonic
        self._lock = threading.Lock()
        self._failures = 0  # failures in a row
        self._openings = 0  # how often it has opened, or stayed open after a probe
        self._open = False
        self._failing_since = 0.0  # when the first failure of this outage came, on `clock`
        self._failing_at = 0.0  # when the last failure or probe came, on `clock`
        self._looks_out = False  # whether a failure of this outage said that the store is unreachable
        self._pause = FIRST_PAUSE
        self._probe_at = 0.0  # the next probe may go then
        self._probing_until = 0.0  # a probe is under way, and no other may go until then
        self.reason = ""  # what the store said when it was last left alone

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """What it is now."""
        if not self._open:
            return "closed"
        return "open" if self._clock() < self._probe_at else "half-open"

    @property
    def retry_in(self) -> float | None:
        """Seconds after which it is worth asking again what has failed; None: the store answers."""
        if not self._open:
            return PROBE_PAUSE if self._failures else None
        now = self._clock()
        return PROBE_PAUSE if now < self._probing_until else max(0.0, self._probe_at - now)

    @property
    def down_for(self) -> float:
        """Seconds since the first of the failures in a row, if they make an outage; else 0.

        They do when there are enough of them to leave the store alone. But few calls make few failures, so they also
        do when one of them says that the store is unreachable. What was long ago (`FORGOTTEN`) does not count.
        """
        return self._clock() - self._failing_since if self._open or self._looks_out else 0.0

    def admit(self) -> int | None:
        """A ticket for one call; None: leave the store alone.

        After the call comes `succeeded`, `failed(ticket)` or `abandoned(ticket)`.
        """
        if not self._open:
            return self._openings
        with self._lock:
            if self._open:  # asked again under the lock: another call may have closed it
                now = self._clock()
                if now < self._probe_at or now < self._probing_until:
                    return None
                self._probing_until = now + PROBE_LIMIT
                self._note(now)
            return self._openings

    def admit_if_closed(self) -> int | None:
        """A ticket for one call, as `admit` gives it; None: it is not closed, so that the call may be a probe."""
        return None if self._open else self._openings

    def _note(self, now: float) -> None:
        """A failure, or a probe: it belongs to the present outage, or begins one."""
        if not self._failures or now - self._failing_at > FORGOTTEN:
            self._failing_since = now
            self._looks_out = False
        self._failing_at = now

    def abandoned(self, ticket: int) -> None:
        """The call of `ticket` was given up before the store could answer: another may be the probe."""
        with self._lock:
            if ticket == self._openings:
                self._probing_until = 0.0

    def succeeded(self) -> None:
        """The store answered a call, be it that it lacks the blob."""
        if not self._failures:
            return
        with self._lock:
            self._failures = 0
            self._looks_out = False
            self._probing_until = 0.0
            closes, self._open = self._open, False
            self._pause = FIRST_PAUSE
        if closes:
            warn_once(logger, ("answers again", self._name), "%s answers again", self._name, again=logging.INFO)

    def failed(self, ticket: int, error: BaseException) -> None:
        """The store did not answer the call of `ticket`."""
        with self._lock:
            if ticket != self._openings:
                return  # begun before the breaker opened: many are, and they are no news
            self._note(self._clock())
            self._failures += 1
            self._looks_out = self._looks_out or bool(getattr(error, "unreachable", False))
            if self._failures < FAILURES:
                return
            opens = not self._open
            self._open = True
            self.reason = described(error)
            self._openings += 1
            self._probing_until = 0.0
            self._probe_at = self._clock() + self._pause
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
        if opens:
            text = "%s failed %d times in a row and is left alone for now: %s"
            cause = ("left alone", self._name, type(error))
            warn_once(logger, cause, text, self._name, FAILURES, self.reason, again=logging.INFO)
