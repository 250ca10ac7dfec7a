"""Whether enough bytes of a transfer come: one rule for every transport."""

from __future__ import annotations

from bitstore.steps import TRICKLE

__all__ = ["Progress", "too_slow"]


class Progress:
    """The bytes of one transfer, and since when too few have come.

    libcurl's own rule looks at the mean of several seconds, so that a body which stalls after many bytes seems to flow
    for some seconds more.

    Parameters
    ----------
    now
        Seconds on any one clock.
    moved
        Bytes that have come or gone by then.
    """

    __slots__ = ("_moved", "_since")

    def __init__(self, now: float, moved: int) -> None:
        self._since = now  # when enough bytes had moved last
        self._moved = moved  # bytes by then

    def stalled(self, now: float, moved: int, limit: float) -> bool:
        """Whether fewer than 100 bytes a second have moved for `limit` seconds. To be asked about once a second."""
        # A count that has shrunk is that of a request which was sent again.
        if moved < self._moved or moved - self._moved >= TRICKLE * max(1.0, now - self._since):
            self._since, self._moved = now, moved
        return now - self._since >= limit


def too_slow(limit: float) -> str:
    """The message for a transfer that has stalled."""
    return f"too slow: less than {TRICKLE} bytes a second for {limit:g} seconds"
