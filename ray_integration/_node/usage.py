"""What a node store is used for, in numbers: calls, what they handed over, and the memory of the process."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ray_integration._node.pieces import Piece

__all__ = ["Usage", "memory_now"]


class Usage:
    """Counts of one node store since its process began. Threads share it.

    Attributes
    ----------
    hand_over_seconds
        Seconds in which calls waited for Ray to take their pieces into the object store.
    hand_over_bytes
        Bytes of the blobs in these pieces.
    bytes_peer
        Those of them that went to processes of other nodes.
    memory_peak
        The most memory that was seen, in bytes; it is looked at before and after each piece.
    """

    def __init__(self) -> None:
        self.hand_over_seconds = 0.0
        self.hand_over_bytes = 0
        self.bytes_peer = 0
        self.memory_peak = memory_now()
        self._lock = threading.Lock()
        self._started = time.time()
        self._calls = self._under_way = 0
        self._used: float | None = None  # when a call began or ended last, by the monotonic clock

    @contextlib.contextmanager
    def call(self) -> Generator[None, None, None]:
        """While entered, a call is under way."""
        with self._lock:
            self._calls += 1
            self._under_way += 1
            self._used = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._used = time.monotonic()

    def touch(self) -> None:
        """Note that a process of the node has used the node's cache in place of a call."""
        self._used = time.monotonic()

    def hand_over(self, piece: Piece, *, away: bool) -> Iterator[Piece]:
        """Yield `piece`, and count how long it takes to be taken; `away`: by a process of another node."""
        size = piece.ends[-1] if piece.ends else 0
        began = time.perf_counter()
        try:
            yield piece
        finally:
            took = time.perf_counter() - began
            with self._lock:
                self.hand_over_seconds += took
                self.hand_over_bytes += size
                self.bytes_peer += size if away else 0
                self.memory_peak = max(self.memory_peak, memory_now())

    def as_dict(self) -> dict[str, Any]:
        """The counts, with `started` (seconds since 1970), `age` and `idle` (seconds; None: never used)."""
        with self._lock:
            now = memory_now()
            self.memory_peak = max(self.memory_peak, now)
            idle = None if self._used is None else 0.0 if self._under_way else time.monotonic() - self._used
            return {
                "bytes_peer": self.bytes_peer,
                "hand_over_bytes": self.hand_over_bytes,
                "hand_over_seconds": self.hand_over_seconds,
                "memory": now,
                "memory_peak": self.memory_peak,
                "calls": self._calls,
                "under_way": self._under_way,
                "started": self._started,
                "age": max(0.0, time.time() - self._started),
                "idle": idle,
            }


def memory_now() -> int:
    """Bytes of memory of this process alone, without what it shares: the pages of Ray's object store, and of libraries.

    From `/proc/self/statm` (proc(5)); elsewhere the most it ever had, with what it shares.
    """
    try:
        fields = Path("/proc/self/statm").read_bytes().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


_PAGE = os.sysconf("SC_PAGE_SIZE")
