"""Which transport is not asked for which servers, and for how long."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from bitstore.steps import Profile, Request

__all__ = ["Bars"]

_MOST_ORIGINS = 256  # of one profile; the oldest bar is forgotten first


class Bars:
    """A transport that declined a server is barred from it, for the requests of the same profile."""

    def __init__(self) -> None:
        # By profile; then by the transport's level and the origin: seconds on `time.monotonic()` at which the bar ends.
        self._until: WeakKeyDictionary[Profile, dict[tuple[int, str], float]] = WeakKeyDictionary()
        self.any = False  # whether there has ever been one: cheaper to look at than `hold` with each request

    def add(self, level: int, request: Request, until: float) -> None:
        """Bar the transport from the origin of `request` up to a time on `time.monotonic()`."""
        ends = self._until.setdefault(request.profile, {})
        if len(ends) >= _MOST_ORIGINS:
            ends.pop(next(iter(ends)), None)  # calling threads share one: another may have been first
        ends[level, request.origin] = until
        self.any = True

    def hold(self, level: int, request: Request, now: float) -> bool:
        """Whether the transport is barred from the origin of `request` at this time."""
        ends = self._until.get(request.profile)
        return ends is not None and ends.get((level, request.origin), now) > now
