"""How many calls a source allows, and an account of those that were made.

The windows slide: no more than N calls fall into *any* 60 seconds, or 24 hours, wherever they begin. A call is
forgotten when its window is over for certain: its time is rounded up by up to 1/256 of the window, so that an account
stays small however many calls it holds, and each window is a little longer than its name says, for calls that are on
their way to the server when they are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Terms", "Verdict", "Windows"]

_SECONDS = {"second": 1.0, "minute": 60.0, "day": 86400.0}
_PARTS = 256
_LONGEST_MARGIN = 1.0  # seconds
_LONGEST_HOLD = 86400.0  # seconds: a server that asks for a longer pause is asked again after a day


@dataclass(frozen=True)
class Terms:
    """What a source allows; None: no such limit."""

    # Calls in any span of that length.
    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    # Calls in all, ever.
    budget: int | None = None

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError where a value is no number of calls."""
        for name, value in vars(self).items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r}: expected a whole number of calls (1 call in 2 s: per_minute=30)")
            if value < (0 if name == "budget" else 1):
                raise ValueError(f"{name}={value}: must be at least {0 if name == 'budget' else 1}")

    def __str__(self) -> str:
        """The limits as in a constructor call; "" if there are none."""
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if value is not None)


class Verdict(NamedTuple):
    """The answer of an account to the question for one call."""

    # Whether the call is counted, and may be made.
    granted: bool
    # Seconds until the account may grant a call; None: it never will.
    retry_in: float | None = None
    # What is used up, in words.
    reason: str = ""


GRANTED = Verdict(True)


class Windows:
    """The calls that count at a moment. Not for several threads at once.

    The caller says what time it is: a `Windows` never looks at a clock. Time that goes backwards opens nothing; the
    account continues from the earlier time, and a call counts for a whole window from there.
    """

    def __init__(self) -> None:
        # Calls in all, ever.
        self._calls = 0
        # Time until which no call is granted, because the source has asked for a pause.
        self._held_until = 0.0
        # By window: pairs of the time at which calls are forgotten and their number, the oldest first.
        self._windows: dict[str, list[list[float]]] = {name: [] for name in _SECONDS}

    def take(self, terms: Terms, now: float) -> Verdict:
        """Count a call at the time `now`, if `terms` have room for it."""
        self._tidy(now)
        if terms.budget is not None and self._calls >= terms.budget:
            return Verdict(False, None, f"the budget of {terms.budget} calls is used up")
        verdict = GRANTED
        for name, most in (("second", terms.per_second), ("minute", terms.per_minute), ("day", terms.per_day)):
            pause = 0.0 if most is None else self._full_for(name, most, now)
            if pause and (verdict.retry_in is None or pause > verdict.retry_in):
                verdict = Verdict(False, pause, f"{most} calls per {name} are used up")
        if self._held_until > now and self._held_until - now > (verdict.retry_in or 0.0):
            verdict = Verdict(False, self._held_until - now, "it has asked for a pause")
        if verdict.granted:
            self._count(now, 1)
        return verdict

    def hold(self, seconds: float, now: float) -> None:
        """Grant nothing for `seconds` from `now`: the source has asked for a pause."""
        self._held_until = max(self._held_until, now + min(seconds, _LONGEST_HOLD))

    def use_up(self, terms: Terms, now: float) -> None:
        """Count as if all that `terms` allow had been called at the time `now`: the true count is lost."""
        most = max(0, *(value or 0 for value in vars(terms).values()))
        self._count(now, most)

    def _count(self, now: float, calls: int) -> None:
        self._calls += calls
        for name, entries in self._windows.items():
            forgotten = _forgotten_at(name, now)
            if entries and entries[-1][0] >= forgotten:
                entries[-1][1] += calls
            else:
                entries.append([forgotten, calls])

    def _full_for(self, name: str, most: int, now: float) -> float:
        """Seconds until the window has room for a call; 0: it has."""
        entries = self._windows[name]
        left = sum(int(calls) for _, calls in entries)
        pause = 0.0
        for forgotten, calls in entries:
            if left < most:
                break
            pause = forgotten - now
            left -= int(calls)
        return pause

    def _tidy(self, now: float) -> None:
        self._held_until = min(self._held_until, now + _LONGEST_HOLD)
        for name, entries in self._windows.items():
            # Later than this nothing can be forgotten that was counted until now: so the clock was set back.
            latest = _forgotten_at(name, now) + _part(name)
            for entry in reversed(entries):
                if entry[0] <= latest:
                    break
                entry[0] = latest
            over = next((index for index, entry in enumerate(entries) if entry[0] > now), len(entries))
            del entries[:over]

    def as_dict(self) -> dict[str, Any]:
        """The account for JSON."""
        return {"calls": self._calls, "held_until": self._held_until, "windows": self._windows}

    @classmethod
    def from_dict(cls, kept: Any) -> Windows:
        """The account that `as_dict` returned. ValueError for anything else: an unreadable account is not empty."""
        self = cls()
        try:
            self._calls = int(kept["calls"])
            self._held_until = _number(kept["held_until"])
            for name, entries in self._windows.items():
                entries += [[_number(forgotten), int(calls)] for forgotten, calls in kept["windows"][name]]
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"not an account of calls: {type(error).__name__}: {error}") from error
        return self


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a time")
    return number


def _part(name: str) -> float:
    return _SECONDS[name] / _PARTS


def _forgotten_at(name: str, now: float) -> float:
    seconds = _SECONDS[name]
    end = now + seconds + min(_LONGEST_MARGIN, seconds / 20)
    return math.ceil(end / _part(name)) * _part(name)
