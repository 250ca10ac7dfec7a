"""The rate that a server permits, found by what it refuses.

A server that is asked for too much answers 429 or 503 (`SlowDown`) to a part of the requests. To send these again only
makes more of them, and where many processes do so, most lookups fail in the end. So from the first refusal on, the
answers of an origin are counted, and no more requests are sent to it than it has served in the second before. The rate
grows again while next to nothing is refused, and is forgotten half a minute after the last refusal. Where lower rates
bring no fewer refusals (a gateway refuses certain blobs, say), there is no bound for half a minute.

What it does is known from TCP (slow start, congestion avoidance: https://www.rfc-editor.org/rfc/rfc5681), and by HTTP
clients as adaptive retries.
"""

from __future__ import annotations

import random

from bitstore._support import clock
from bitstore.steps import Sleep, Steps

__all__ = ["AdaptiveRate"]

_FIRST = 0.5  # seconds after the first refusal in which answers are counted before the rate has a bound
_INTERVAL = 1.0  # seconds of answers by which the rate changes
_MANY = 32  # refusals in the first half second, below which there is nothing to slow down
_TOLERATED = 0.05  # part of the answers that may be refusals: more lower the rate
_FEW = 0.01  # part of the answers that may be refusals while the rate grows: a busy service refuses a few at any rate
_CUT = 0.25  # the new rate is this part of the old one at least: one second may be worse than those that follow
_LEAST = 1.0  # requests a second
_STEP = 1.1  # growth in a second, near the rate that was too high
_LEAP = 2.0  # growth in a second, far below it
_FAR = 0.5  # what is far below: this part of the rate that was too high
_FORGOTTEN = 30.0  # seconds without a refusal after which there is no bound any more
# Refusals have another cause than the rate where, some seconds after the first cut, a quarter of the requests has still
# four fifths of the part of refusals. Earlier, other processes may not have slowed down. And where more than half is
# refused, the service is far beyond what it can do.
_PATIENCE = 10.0
_QUARTER = 0.25
_STILL = 0.8
_MOST = 0.5
_BURST = 0.05  # seconds' worth of requests that may go at once: timers are no finer than that on a busy machine
_AHEAD = 1.0  # seconds for which turns are given: the rate may be another one by then


class AdaptiveRate:
    """How many requests a second an origin gets that refuses some of them: one object from the first refusal on.

    Attributes
    ----------
    per_second
        Requests a second; None: no bound.
    """

    # There are no locks, which a fork may leave locked: the threads of a process at worst count an answer too few, or
    # take the same turn.

    def __init__(self) -> None:
        self.per_second: float | None = None
        self._too_high = float("inf")  # requests a second: the last rate at which too many were refused
        self._began = self._refused_at = clock.monotonic()
        self._answers = self._refusals = 0  # of this interval
        # Before the first cut in a row: when, answers a second, refused part.
        self._cut_from: tuple[float, float, float] | None = None
        self._deaf_until = 0.0  # until then refusals do not count
        self._next = 0.0  # when the next turn is free

    @property
    def is_over(self) -> bool:
        """Whether nothing was refused for so long that there is no bound any more."""
        now = clock.monotonic()
        return (
            now - self._refused_at > (_INTERVAL if self.per_second is None else _FORGOTTEN) and now > self._deaf_until
        )

    def turn_steps(self) -> Steps[None]:
        """Wait until a request may go."""
        while (rate := self.per_second) is not None and not self.is_over:
            now = clock.monotonic()
            if self._next <= now + _AHEAD:
                turn = max(self._next, now - _BURST)
                self._next = turn + 1 / rate
                if turn > now:
                    yield Sleep(turn - now)
                return
            yield Sleep(random.uniform(_AHEAD / 2, _AHEAD))

    def count(self, *, refused: bool) -> None:
        """Count an answer."""
        now = clock.monotonic()
        if now < self._deaf_until:
            return
        self._answers += 1
        if refused:
            self._refusals += 1
            self._refused_at = now
        seconds = now - self._began
        if seconds >= (_FIRST if self.per_second is None else _INTERVAL):
            answers, refusals = self._answers, self._refusals
            self._began = now
            self._answers = self._refusals = 0
            if self.per_second is not None or refusals >= _MANY:
                self._adjust(now, answers / seconds, refusals / answers)

    def _adjust(self, now: float, answered: float, refused: float) -> None:
        """Set the rate by how many requests a second were answered, and which part of the answers were refusals."""
        rate = self.per_second
        if refused > _TOLERATED:
            since, much, part = self._cut_from = self._cut_from or (now, answered, refused)
            if now - since > _PATIENCE and answered < much * _QUARTER and part * _STILL < refused < _MOST:
                self.per_second = self._cut_from = None
                self._deaf_until = now + _FORGOTTEN
                return
            if rate is not None:
                self._too_high = rate
                self.per_second = max(_LEAST, rate * _CUT, answered * (1 - refused))
            elif refused < 1:  # else it looks like an outage, which is for the breaker
                self.per_second = max(_LEAST, answered * (1 - refused))
            return
        self._cut_from = None
        if rate is not None and refused < _FEW:
            self.per_second = max(rate + _LEAST, rate * (_LEAP if rate < self._too_high * _FAR else _STEP))
