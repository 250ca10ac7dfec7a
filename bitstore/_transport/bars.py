"""Which transport is not asked for which servers, and for how long."""

from __future__ import annotations

from bitstore._transport.origins import Origins
from bitstore.steps import Request

__all__ = ["Bars"]


class Bars:
    """A transport that declined a server is barred from it, for the requests of the same profile."""

    def __init__(self) -> None:
        # By profile; then by the transport's level and the origin: seconds on `time.monotonic()` at which the bar ends.
        self._until: Origins[tuple[int, str], float] = Origins()
        self.any = False  # whether there has ever been one: cheaper to look at than `hold` with each request

    def add(self, level: int, request: Request, until: float) -> None:
        """Bar the transport from the origin of `request` up to a time on `time.monotonic()`."""
        self._until.keep(request.profile, (level, request.origin), until)
        self.any = True

    def hold(self, level: int, request: Request, now: float) -> bool:
        """Whether the transport is barred from the origin of `request` at this time."""
        ends = self._until.get(request.profile)
        return ends is not None and ends.get((level, request.origin), now) > now
