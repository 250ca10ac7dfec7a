"""Blobs that a source has lately answered to be missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bitstore._support.per_process import KeepsPerProcess, PerProcess

if TYPE_CHECKING:
    from cachetools import TTLCache

__all__ = ["Absences"]

_MOST = 100_000  # about 20 MB; the oldest are forgotten


class Absences(KeepsPerProcess):
    """Digests that are known to be missing, for a while, in this process. Pickles as its configuration.

    Parameters
    ----------
    seconds
        For how long a digest is remembered.
    most
        How many digests are remembered; the oldest are forgotten first.
    clock
        Seconds that only grow; for tests.
    """

    def __init__(self, seconds: float, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        if not seconds > 0:
            raise ValueError(f"remember_missing={seconds!r}: must be None or more than 0 seconds")
        self.seconds = seconds
        self._most = most
        self._clock = clock
        self._here: PerProcess[tuple[threading.Lock, TTLCache[str, None]]] = PerProcess()

    def add(self, digest: str) -> None:
        """Remember that `digest` is missing."""
        lock, known = self._known()
        with lock:
            known[digest] = None

    def __contains__(self, digest: str) -> bool:
        lock, known = self._known()
        with lock:
            return digest in known

    def _known(self) -> tuple[threading.Lock, TTLCache[str, None]]:
        here = self._here.get()
        if here is None:
            from cachetools import TTLCache

            here = self._here.set_once((threading.Lock(), TTLCache(self._most, self.seconds, self._clock)))
        return here

    def __repr__(self) -> str:
        return f"Absences({self.seconds!r})"
