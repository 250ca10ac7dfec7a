"""How the counts of a run grew: a bounded number of samples, however long the run is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Sample", "Timeline"]

_MOST = 120  # samples that are held; then every second one goes, and the next ones come half as often
_FIRST_STEP = 0.02  # seconds between the first samples


class Sample(NamedTuple):
    """What was done at one moment."""

    # Since the run began.
    seconds: float
    # Digests that had been answered.
    answered: int
    # Size of the blobs that had been moved.
    bytes: int


class Timeline:
    """The samples of one run, which begins when this is made.

    Parameters
    ----------
    clock
        Seconds, from any start.

    Attributes
    ----------
    started
        When the run began, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.started = time.time()
        self._clock = clock
        self._begun = clock()
        self._step = _FIRST_STEP
        self._due = self._begun + self._step
        self._samples: list[Sample] = []

    def look(self, answered: int, size: int) -> None:
        """Take a sample, if one is due."""
        now = self._clock()
        if now < self._due:
            return
        self._samples.append(Sample(now - self._begun, answered, size))
        if len(self._samples) >= _MOST:
            self._samples = self._samples[1::2]
            self._step *= 2
        self._due = now + self._step

    def samples(self, answered: int, size: int) -> list[Sample]:
        """All samples, from the run's begin to now."""
        held, now = list(self._samples), self._clock() - self._begun
        if held and now - held[-1].seconds < self._step / 2:  # a rate over so short a time would be chance
            held.pop()
        return [Sample(0.0, 0, 0), *held, Sample(now, answered, size)]
