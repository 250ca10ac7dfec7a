"""A clock that skips pauses: a back-off of a minute is over at once, and all deadlines know."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from bitstore._support import clock

__all__ = ["HandClock", "SkippingClock", "skip_pauses_of_google"]


class SkippingClock:
    """Real time, plus the pauses that were skipped.

    A pause is skipped where it would have been slept, or where the transfer thread had nothing else to wait for. What
    goes over a socket takes its real time.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.skipped = 0.0  # seconds
        for name in clock.__all__:
            patch.setattr(clock, name, getattr(self, name))

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        self.skipped += seconds

    def idle(self, seconds: float) -> float:
        self.skipped += seconds
        return 0.0


class HandClock:
    """Seconds that pass only when the test changes `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__


def skip_pauses_of_google(patch: pytest.MonkeyPatch) -> None:
    """Let Google's own library, which pauses for seconds between its tries, pause no more."""
    patch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda seconds: None))
