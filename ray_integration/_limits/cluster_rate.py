"""How many requests per second a bucket gets from a whole cluster: fewer, from all of it, while it asks for less."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from bitstore._limits.line import Line
from bitstore._limits.rates import BackOff, checked_rate
from bitstore._support.fixed import Fixed
from bitstore._support.per_process import KeepsPerProcess, PerProcess, current
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Call, Sleep, Steps, Wait
from ray_integration._limits.central_actor import Central, Unreachable

__all__ = ["ClusterRate", "Lease", "RateKeeper"]

_LEASE = 0.5  # seconds of requests that a process is given at once
_UNUSED = 1.0  # seconds after which it may not use them any more
_AWAY = 2.0  # seconds after which a process that did not ask no longer gets a share


class Lease(NamedTuple):
    """What a process may send."""

    requests: int  # to be sent within a second
    again_in: float  # seconds after which the process may ask for more
    rate: float  # of the whole cluster now, in requests per second


class RateKeeper:
    """Divides a rate among the processes that ask. An actor class; its calls are served one after another.

    It keeps nothing on a disk: one that was restarted has nothing to give at first, and begins with the whole rate.

    Parameters
    ----------
    per_second
        The whole rate.
    clock
        Seconds that only grow; for tests.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._back_off = BackOff(clock)
        self._left = 0.0
        self._counted_at = clock()
        self._wants: dict[str, tuple[float, int]] = {}  # by process: when it asked, and for how much

    def lease(self, process: str, per_second: float, want: int, refused: bool) -> Lease:
        """What `process` may send in the next half second.

        Parameters
        ----------
        process
            Name of the process that asks.
        per_second
            The rate that it goes by.
        want
            Requests that it would like to send in that time.
        refused
            Whether the server asked for less since it last asked.

        Raises
        ------
        ValueError
            Another rate than that of this keeper.
        """
        if per_second != self._per_second:
            raise ValueError(
                f"this process says per_second={per_second!r}, but this rate has a keeper that was made with "
                f"per_second={self._per_second!r}: give one name the same number everywhere, or end the keeper with "
                "ClusterRate.shutdown() first"
            )
        now = self._clock()
        if refused:
            self._back_off.slow_down()
        rate = self._per_second * self._back_off.part
        most = max(1.0, rate * _LEASE)
        self._left = min(most, self._left + rate * (now - self._counted_at))
        self._counted_at = now
        self._wants = {name: entry for name, entry in self._wants.items() if now - entry[0] < _AWAY}
        self._wants[process] = (now, want)
        share = max(1, math.ceil(_fair(most, [wanted for _, wanted in self._wants.values()])))
        given = int(min(want, share, self._left))
        if given < 1:
            return Lease(0, (1 - min(1.0, self._left)) / rate + 0.001, rate)
        self._left -= given
        return Lease(given, _LEASE, rate)


def _fair(most: float, wants: list[int]) -> float:
    """What each process may have of `most`: an equal part of what processes that want less than that leave."""
    waiting = len(wants)
    for want in sorted(wants):
        if want > most / waiting:
            return most / waiting
        most -= want
        waiting -= 1
    return float(max(wants))


class _Share:
    """What one process has of the rate."""

    def __init__(self, central: Central) -> None:
        self.central = central
        # The pid alone is not enough: two nodes may have the same.
        self.name = f"{os.getpid()}-{current().token}"
        self.line = Line()
        self.rate: float | None = None  # of the whole cluster, in requests per second, as the last lease says
        self._lock = threading.Lock()
        self._left = 0
        self._good_until = 0.0
        self._used = 0  # requests sent since the last lease
        self._refused = False
        self.ask_at = 0.0  # when more may be asked for, by the monotonic clock

    def spend(self) -> bool:
        """Take the right to send one request, if there is one left."""
        with self._lock:
            if self._left < 1 or time.monotonic() > self._good_until:
                return False
            self._left -= 1
            self._used += 1
            return True

    def slow_down(self) -> None:
        """A request was refused: what is left is void, and the keeper is to know at once."""
        with self._lock:
            self._left = 0
            self._refused = True
            self.ask_at = 0.0

    def ask(self, per_second: float) -> None:
        """Get a lease."""
        with self._lock:
            want = max(1, len(self.line) + self._used)
            refused, self._refused, self._used = self._refused, False, 0
        lease: Lease = self.central.call("lease", self.name, per_second, want, refused)
        now = time.monotonic()
        with self._lock:
            self.rate = lease.rate
            if not self._refused:  # else it comes too late
                self.ask_at = now + lease.again_in
                self._left = lease.requests
                self._good_until = now + _UNUSED


class ClusterRate(KeepsPerProcess):
    """A bound on the requests per second of a whole Ray cluster: `S3Raw(limit=ClusterRate("bucket", per_second=3000))`.

    It means what `bitstore.RateLimit` means, for all processes of the cluster that give the same name, and the same
    number. One actor on the head's node hands out what may be sent in the next half second, so that a request mostly
    costs no message. Where one process is answered 429 or 503 (`SlowDown`), the rate of all halves: that of this
    process at once, that of others within half a second. Requests go in bursts of what half a second allows. What a
    process does not send within a second is void, so nothing is saved up.

    Where the actor does not answer within 30 seconds, or Ray is not running in the process that looks something up,
    the lookup fails with `StoreNotAvailable`, and nothing is sent.

    Parameters
    ----------
    name
        Name of the rate, in the cluster.
    per_second
        Requests per second, of all processes together.

    Raises
    ------
    TypeError, ValueError
        `per_second` is not a number above 0, or the name is empty.
    """

    name = Fixed[str]()
    per_second = Fixed[float]()

    def __init__(self, name: str, *, per_second: float) -> None:
        if not name.strip():
            raise ValueError(f"name={name!r}: a rate needs a name, such as that of the bucket")
        self.name = name
        self.per_second = checked_rate(per_second)
        self._share: PerProcess[_Share] = PerProcess()

    @property
    def rate(self) -> float | None:
        """Requests per second of the whole cluster when this process last asked; None: it has not."""
        return self._here().rate

    def turn_steps(self) -> Steps[None]:
        """Wait until a request may go. Raises `StoreNotAvailable` where the actor does not answer."""
        share = self._here()
        if not share.line and share.spend():
            return
        place = share.line.enter()
        try:
            if not place.first:
                yield Wait(place)
            while not share.spend():
                pause = share.ask_at - time.monotonic()
                if pause > 0:
                    yield Sleep(pause)
                yield Call(self._ask, share)
        finally:
            place.leave()

    def slow_down(self) -> None:
        """The server asks for less."""
        self._here().slow_down()

    def shutdown(self) -> None:
        """End the actor, for all processes: the next request makes another, with its number."""
        self._central().end()

    def _ask(self, share: _Share) -> None:
        try:
            share.ask(self.per_second)
        except (Unreachable, ValueError) as error:
            raise StoreNotAvailable(f"rate {self.name!r}", str(error)) from error

    def _here(self) -> _Share:
        share = self._share.get()
        return share if share is not None else self._share.set_once(_Share(self._central()))

    def _central(self) -> Central:
        per_second = self.per_second
        return Central(f"bitstore-rate-{self.name}", RateKeeper, lambda met: (per_second,))

    def __repr__(self) -> str:
        return f"ClusterRate({self.name!r}, per_second={self.per_second!r})"
