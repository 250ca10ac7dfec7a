"""What may be asked of an API source: calls per second, minute and day, and a budget."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from bitstore._limits.accounts import Account, AccountError, FileAccount, MemoryAccount
from bitstore._limits.line import Line, Place
from bitstore._limits.windows import Terms, Verdict
from bitstore._support import clock
from bitstore._support.fixed import Fixed
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.errors import LimitReached, StoreNotAvailable, TooManyRequests
from bitstore.steps import Call, Sleep, Steps, Wait

__all__ = ["CallLimit", "Limit", "call_again_steps"]

WAIT = 600.0
_TRIES = 3  # calls for one lookup, where the API answers that there are too many
_FIRST_PAUSE = 1.0  # seconds after such an answer that names no pause; doubled each time
_SHORTEST_SLEEP = 0.001


class _Live(NamedTuple):
    """What a limit has in one process."""

    line: Line
    account: Account


class _Made(NamedTuple):
    """A call was made, and returned `data`."""

    data: Any


class Limit(KeepsPerProcess, ABC):
    """How many calls an API source may make, wherever they are counted. Pickles as its configuration.

    Parameters
    ----------
    name
        Name of the account with the API, in errors and where calls are counted.
    per_second, per_minute, per_day
        Calls in any span of that length; None: no such limit.
    budget
        Calls in all, ever; None: no such limit.
    state
        Path of the file in which calls are counted; None: see the class.
    wait
        Seconds that a lookup may wait for its turn; None: as long as its caller's time limit allows.
    clock
        What to count by instead (seconds); for tests.
    """

    name = Fixed[str]()
    terms = Fixed[Terms]()
    state = Fixed["str | None"]()

    def __init__(
        self,
        name: str,
        *,
        per_second: int | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        budget: int | None = None,
        state: str | os.PathLike[str] | None = None,
        wait: float | None = WAIT,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not name.strip():
            raise ValueError(f"name={name!r}: a limit needs a name, such as that of the account with the API")
        if wait is not None and not wait >= 0:
            raise ValueError(f"wait={wait!r}: must be None or at least 0 seconds")
        self.name = name
        self.terms = Terms(per_second, per_minute, per_day, budget)
        self.state = None if state is None else os.fspath(state)
        self.wait = wait
        self._clock = clock
        self._live: PerProcess[_Live] = PerProcess()
        self._check()

    def _check(self) -> None:
        """Raise where the options do not fit this kind of limit."""

    @abstractmethod
    def _new_account(self) -> Account:
        """Where this process counts."""

    def call_steps(self, store: object, function: Callable[..., Any], *args: Any) -> Steps[Any]:
        """What `function(*args)` returns, called when its turn has come.

        Where it raises `TooManyRequests`, no lookup calls for as long as it says. Then it is called again, a few times.
        Each of these calls counts.

        Raises
        ------
        LimitReached
            The turn would come too late, or never.
        StoreNotAvailable
            The calls cannot be counted.
        """
        until = None if self.wait is None else clock.monotonic() + self.wait
        for again in range(_TRIES):
            try:
                return (yield from self._in_turn(store, until, function, args))
            except TooManyRequests as error:
                pause = _pause(error, again)
                yield Call(self._hold, store, pause)
                if again + 1 == _TRIES:
                    raise LimitReached(store, f"limit {self.name!r}: {error.reason}", pause) from error
        raise AssertionError("no call was made")

    def _in_turn(
        self, store: object, until: float | None, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> Steps[Any]:
        place = self._here().line.enter()
        try:
            if not place.first:
                yield Wait(place)
            while True:
                outcome = yield Call(self._attempt, store, place, function, args)
                if isinstance(outcome, _Made):
                    return outcome.data
                yield Sleep(self._bearable(store, outcome, until))
        finally:
            place.leave()

    def _attempt(
        self, store: object, place: Place, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> Verdict | _Made:
        """Count a call and make it, both in one thread: no other work comes in between."""
        try:
            verdict = self._here().account.take()
        except AccountError as error:
            raise StoreNotAvailable(store, f"limit {self.name!r}: {error}") from error
        if not verdict.granted:
            return verdict
        place.leave()  # the next may ask while this call is under way
        return _Made(function(*args))

    def _bearable(self, store: object, verdict: Verdict, until: float | None) -> float:
        """Seconds to wait for the turn. Raises `LimitReached` where they are more than `wait` allows."""
        retry_in = verdict.retry_in
        if retry_in is None or (until is not None and clock.monotonic() + retry_in > until):
            opens = "it does not open again" if retry_in is None else f"it opens again in {_span(retry_in)}"
            raise LimitReached(store, f"limit {self.name!r}: {verdict.reason}; {opens}", retry_in)
        return max(_SHORTEST_SLEEP, retry_in)

    def _hold(self, store: object, seconds: float) -> None:
        try:
            self._here().account.hold(seconds)
        except AccountError as error:
            raise StoreNotAvailable(store, f"limit {self.name!r}: {error}") from error

    def _here(self) -> _Live:
        live = self._live.get()
        return live if live is not None else self._live.set_once(_Live(Line(), self._new_account()))

    def __repr__(self) -> str:
        options = [repr(self.name)]
        if terms := str(self.terms):
            options.append(terms)
        if self.wait != WAIT:
            options.append(f"wait={self.wait!r}")
        if self.state is not None:
            options.append(f"state={self.state!r}")
        return f"{type(self).__name__}({', '.join(options)})"


class CallLimit(Limit):
    """How many calls an API source may make: `Sha1APISource(limit=CallLimit(...))`, counted here or on one machine.

    A lookup waits for its turn, in the order of arrival and without a thread, where the turn is known to come within
    `wait` seconds. Else, as where the calls of a day or the budget are used up, the lookup fails at once with
    `LimitReached`, whose `retry_in` says when another try makes sense: a failure, never an absence.

    The windows slide: no more than `per_minute` calls are granted in any 60 seconds. They are counted a little longer
    than that (a second, for a minute or a day), for the time that a call takes to reach the API; so a steady stream
    comes to a little less than what is allowed. A call is counted before it is made, whatever becomes of it.

    Parameters
    ----------
    name
        Name of the account with the API. In one state file, equal names count together.
    per_second, per_minute, per_day
        Calls in any span of that length; None: no such limit.
    budget
        Calls in all, ever; None: no such limit.
    state
        Path of a file (SQLite) in which calls are counted, for all processes of this machine that name it, and beyond
        their end. It goes by the machine's clock: set back, the limit opens later; set forward, it opens earlier by as
        much. If the file is deleted, counting begins again. None: this object counts for itself, in each process.
    wait
        Seconds that a lookup may wait for its turn; None: as long as its caller's time limit allows.
    clock
        What to count by instead (seconds); for tests.

    Raises
    ------
    TypeError, ValueError
        A limit that is no whole number, or not positive.
    """

    def _new_account(self) -> Account:
        if self.state is None:
            return MemoryAccount(self.terms, clock=self._clock or clock.monotonic)
        return FileAccount(self.state, self.name, self.terms, clock=self._clock or time.time)


def call_again_steps(error: TooManyRequests, store: object, function: Callable[..., Any], *args: Any) -> Steps[Any]:
    """What `function(*args)` returns, called again after the API answered a call without a limit with `error`.

    Raises
    ------
    LimitReached
        The API answers the same a few times more, or asks for pauses of more than ten minutes.
    """
    waited = 0.0
    for again in range(_TRIES - 1):
        pause = _pause(error, again)
        waited += pause
        if waited > WAIT:
            raise LimitReached(store, f"{error.reason}", pause) from error
        yield Sleep(pause)
        try:
            return (yield Call(function, *args))
        except TooManyRequests as refused:
            error = refused
    raise LimitReached(store, f"{error.reason}", _pause(error, _TRIES - 1)) from error


def _pause(error: TooManyRequests, again: int) -> float:
    return _FIRST_PAUSE * 2**again if error.retry_after is None else error.retry_after


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.1f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
