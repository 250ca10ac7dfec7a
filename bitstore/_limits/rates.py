"""How many requests per second a bucket gets: fewer while it asks for less."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bitstore._support.fixed import Fixed
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.steps import Sleep, Steps

__all__ = ["BackOff", "RateLimit", "checked_rate"]

_BURST = 0.05  # seconds' worth of requests that may go at once: timers are no finer than that on a busy machine
_CALM = 1.0  # seconds in which all refusals count as one: they answer requests of the same moment
_STEP = 0.05  # of the full rate, that each second without a refusal brings back
_LEAST = 1 / 64  # of the full rate


class BackOff:
    """What part of the full rate is right for a server that refuses some requests. Not for several threads at once.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._part = 1.0
        self._since = clock() - _CALM

    @property
    def part(self) -> float:
        """Between 1/64 and 1. It grows by a twentieth each second."""
        if self._part >= 1.0:
            return 1.0
        return min(1.0, self._part + _STEP * max(0, int(self._clock() - self._since)))

    def slow_down(self) -> None:
        """A request was refused: halve the rate, unless that was done within the last second."""
        if self._clock() - self._since >= _CALM:
            self._part = max(_LEAST, self.part / 2)
            self._since = self._clock()


class _Slots:
    """When requests of one process may go."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._back_off = BackOff(clock)
        self._next = 0.0

    def reserve(self) -> float:
        """Seconds until the next free slot, which is the caller's from now on."""
        with self._lock:
            now = self._clock()
            slot = max(self._next, now - _BURST)
            self._next = slot + 1 / (self._per_second * self._back_off.part)
        return slot - now

    def slow_down(self) -> None:
        """See `BackOff`."""
        with self._lock:
            self._back_off.slow_down()

    @property
    def rate(self) -> float:
        """Requests per second, now."""
        with self._lock:
            return self._per_second * self._back_off.part


class RateLimit(KeepsPerProcess):
    """A bound on the requests per second of one process: `S3Raw(limit=RateLimit(per_second=300))`.

    Every request counts, retries as well. Where the server answers 429 or 503 (`SlowDown`), the rate halves, at most
    once a second, and comes back step by step, a twentieth each second. It pickles as its configuration; stores that
    are given the same object share its rate.

    Parameters
    ----------
    per_second
        Requests per second, evenly spread; after a pause up to a twentieth of them at once.
    clock
        Seconds that only grow; for tests.

    Raises
    ------
    TypeError, ValueError
        `per_second` is no number above 0.
    """

    per_second = Fixed[float]()

    def __init__(self, *, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = checked_rate(per_second)
        self._clock = clock
        self._live: PerProcess[_Slots] = PerProcess()

    @property
    def rate(self) -> float:
        """Requests per second that are allowed now, in this process."""
        return self._slots().rate

    def turn_steps(self) -> Steps[None]:
        """Wait until a request may go."""
        wait = self._slots().reserve()
        if wait > 0:
            yield Sleep(wait)

    def slow_down(self) -> None:
        """The server asks for less."""
        self._slots().slow_down()

    def _slots(self) -> _Slots:
        slots = self._live.get()
        return slots if slots is not None else self._live.set_once(_Slots(self.per_second, self._clock))

    def __repr__(self) -> str:
        return f"RateLimit(per_second={self.per_second!r})"


def checked_rate(per_second: float) -> float:
    """`per_second`, if it is one. Raises TypeError or ValueError."""
    if isinstance(per_second, bool) or not isinstance(per_second, (int, float)):
        raise TypeError(f"per_second={per_second!r}: expected a number of requests per second")
    if not 0 < per_second < float("inf"):
        raise ValueError(f"per_second={per_second!r}: must be more than 0 requests per second")
    return per_second
