"""The clock of pauses and deadlines. Tests replace these three functions by a clock that skips pauses.

Time limits of connections are not of this clock: the kernel and libcurl count them.
"""

from __future__ import annotations

import time

__all__ = ["idle", "monotonic", "sleep"]

monotonic = time.monotonic
sleep = time.sleep


def idle(seconds: float) -> float:
    """How long a driver that has nothing to do but pause may wait for its next event: all of the pause."""
    return seconds
