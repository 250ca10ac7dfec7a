"""How many transfers to have under way: found by trying, not by configuration.

More transfers hide latency, until something is full (the wire, the server, a CPU); beyond that they only cost.
So the number grows while throughput grows with it, and shrinks where that costs no throughput, or where a server
asks for less (429, 503).
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]

# A transfer counts as one plus its size in these, so that both many small and few large blobs are throughput.
_BYTES_PER_POINT = 64 * 1024
# Part of the ideal gain (twice the transfers, twice the throughput) that a larger number must bring.
_WORTH = 0.35
_CALM_SECONDS = 1.0
_FEWEST = 8  # under way, however often a server asks for less


class Pace:
    """Hill climbing on throughput, in rounds of a few transfers per place.

    Parameters
    ----------
    least, first, most
        Bounds of the number that it looks for, and where it begins. Only where a server asks for less it may have to
        go below the least.
    clock
        Seconds; for tests.

    """

    def __init__(
        self, *, least: int = 32, first: int = 32, most: int = 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = min(first, most)  # how many transfers may be under way now
        self._least = min(least, most)
        self.most = most  # the upper bound of `limit`
        self._clock = clock
        self._began = clock()
        self._settling = 0  # transfers until this round begins
        self._ended = 0  # transfers in this round
        self._points = 0.0  # throughput of this round: a point for each transfer and each _BYTES_PER_POINT of it
        self._hungry = 0  # transfers of this round that ended while another one waited
        self._before: tuple[int, float] | None = None  # the number and the rate before the last change
        self._doubling = True  # until the first change that was taken back
        self._hold = 0  # rounds until the next change is tried
        self._patience = 2  # rounds to hold after a change that was taken back
        self._upwards = True  # the direction of the next change
        self._calm_at = 0.0  # when a server's wish for less is heeded again, in seconds on the clock

    def ended(self, count: int, size: int, hungry: int) -> None:
        """Count transfers that ended together.

        Parameters
        ----------
        count, size
            How many, and their bytes in all.
        hungry
            For how many of them another one waits, to take the place.
        """
        if self._settling:
            self._settling = max(0, self._settling - count)
            if not self._settling:
                self._began = self._clock()
            return
        self._ended += count
        self._points += count + size / _BYTES_PER_POINT
        self._hungry += hungry
        if self._ended >= (2 if self._doubling else 6) * self.limit and self._clock() - self._began >= 0.02:
            self._round()

    def slow_down(self) -> None:
        """A server asks for less. Heeded once a second: one burst of refusals is one request."""
        now = self._clock()
        if now < self._calm_at:
            return
        self._calm_at = now + _CALM_SECONDS
        self._set(max(min(_FEWEST, self.limit), int(self.limit * 0.7)), None)
        self._doubling = False
        self._hold = self._patience = 8

    def _round(self) -> None:
        rate = self._points / max(1e-6, self._clock() - self._began)
        hungry = self._hungry >= self._ended // 2
        self._began = self._clock()
        self._ended = self._hungry = 0
        self._points = 0.0
        if not hungry:
            self._before = None  # the limit was not what held it back: the round says nothing about the limit
            return
        if self._before is not None:
            self._judge(rate)
        elif self._hold > 0:
            self._hold -= 1
        else:
            self._try(rate)

    def _judge(self, rate: float) -> None:
        """Keep the last change if it was worth it, else take it back."""
        assert self._before is not None
        number, rate_before = self._before
        growth = self.limit / number
        self._before = None
        if growth > 1 and rate >= rate_before * (1 + _WORTH * (growth - 1)):
            self._patience = 2
            self._try(rate)
        elif growth < 1 and rate >= rate_before:
            self._patience = 2  # fewer do as well
            self._hold = 2
        else:
            self._set(number, None)
            self._doubling = False
            self._upwards = not self._upwards
            self._hold = self._patience
            self._patience = min(64, self._patience * 2)

    def _try(self, rate: float) -> None:
        if self._doubling:
            wanted = self.limit * 2
        elif self._upwards:
            wanted = max(self.limit + 4, self.limit * 5 // 4)
        else:
            wanted = max(self.limit * 4 // 5, min(self._least, self.limit))
        wanted = min(self.most, wanted)
        if wanted == self.limit:
            self._upwards = not self._upwards
            self._doubling = False
            self._hold = self._patience
            return
        self._set(wanted, (self.limit, rate))

    def _set(self, limit: int, before: tuple[int, float] | None) -> None:
        self.limit = limit
        self._before = before
        # The first transfers of a new number began under the old one, or have to connect, which the next ones need not.
        self._settling = limit
        self._ended = self._hungry = 0
        self._points = 0.0
