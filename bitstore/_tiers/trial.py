"""Few blobs are paid for until a cache has kept one: a batch would else pay for all that is in flight."""

from __future__ import annotations

import threading

from bitstore._tiers.single_flight import Flight

__all__ = ["Trial"]


class Trial:
    """Rounds of paid lookups: one lookup first, and twice as many in the round after one that was full.

    A round ends when its lookups have ended, or as soon as it is known whether the caches keep.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._round = Flight()
        self._size = 1
        self._places = 1  # lookups that may still join this round
        self._under_way = 0

    def enter(self) -> Flight | None:
        """None: the caller may pay now, and calls `leave` when its lookup has ended. Else the round to wait for."""
        with self._lock:
            if not self._places:
                return self._round
            self._places -= 1
            self._under_way += 1
            return None

    def leave(self, *, settled: bool) -> None:
        """End one lookup; `settled`: it is known now whether the caches keep, so that none needs to wait."""
        with self._lock:
            self._under_way -= 1
            if self._under_way and not settled:
                return
            over, self._round = self._round, Flight()
            if not self._places and not self._under_way:
                self._size *= 2
            self._places = self._size - self._under_way
        over.land(None)
