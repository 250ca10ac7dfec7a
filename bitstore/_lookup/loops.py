"""The transfer loops of this process."""

from __future__ import annotations

import resource
import threading

from bitstore._lookup.loop import Loop
from bitstore._support.per_process import PerProcess, hold_after_fork
from bitstore._transport.pace import Pace

__all__ = ["loop"]

_MOST_TRANSFERS = 1024


class _Loops:
    """The loops of one process, by number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_number: dict[int, Loop] = {}


_loops: PerProcess[_Loops] = PerProcess()
# A forked child never frees its parent's loops: that would close connections and end lookups of the parent.
hold_after_fork(_loops.get)


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
    return max(8, min(_MOST_TRANSFERS, (files - 128) * (3 if number == 0 else 1) // 4))
