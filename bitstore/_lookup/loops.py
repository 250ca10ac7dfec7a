"""The transfer loops of this process."""

from __future__ import annotations

import os
import resource
import threading

from bitstore._lookup.loop import Loop
from bitstore._support.per_process import PerProcess, hold_after_fork
from bitstore._transport.pace import Pace

__all__ = ["loop", "useful_threads"]

_MOST_TRANSFERS = 1024
_MOST_FOR_LARGE = 8  # threads: 5 GB/s, verified; few machines have a faster line


class _Loops:
    """The loops of one process, by number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_number: dict[int, Loop] = {}


_loops: PerProcess[_Loops] = PerProcess()
# A forked child never frees its parent's loops: that would close connections and end lookups of the parent.
hold_after_fork(_loops.get)


def _end_idle_threads() -> None:
    """Leave no thread that only waits for lookups: a fork beside other threads is warned of from Python 3.12 on."""
    loops = _loops.get()
    for each in [] if loops is None else list(loops.by_number.values()):
        each.end_idle_thread()


os.register_at_fork(before=_end_idle_threads)


def loop(number: int = 0) -> Loop:
    """One of the transfer loops of this process; mostly there is only the first."""
    loops = _loops.get() or _loops.set_once(_Loops())
    found = loops.by_number.get(number)
    if found is None:
        with loops.lock:
            found = loops.by_number.get(number)
            if found is None:
                found = loops.by_number[number] = Loop(Pace(most=_most_transfers(number)))
    return found


def _most_transfers(number: int) -> int:
    """As many as this process may have sockets, with room for what else it opens: most of them for the first loop."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST_TRANSFERS
    part = 0.75 if number == 0 else 1 / 24 if number < _MOST_FOR_LARGE else 1 / 128
    return max(8, min(_MOST_TRANSFERS, int((files - 128) * part)))


def useful_threads(large: bool) -> int:
    """How many transfer threads are of use to one batch of large blobs, or of small ones.

    Of large blobs they mostly copy and hash bytes, side by side. Small blobs are mostly Python, one thread at a time:
    where the consumer and the system have cores of their own, a second thread fetches while the first one runs Python
    (1.7 times the blobs a second on 16 cores); on two cores it only costs, as a third one does everywhere.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if large:
        return min(_MOST_FOR_LARGE, max(2, cores))
    return 2 if cores >= 4 else 1
