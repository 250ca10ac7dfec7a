"""Locks of files (flock) that are waited for, and no longer than a limit."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

__all__ = ["LOCKS", "lock_within"]


def _locks() -> Any:
    """The module that locks files; None: there is none on this system."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl


LOCKS = _locks()


def lock_within(file: int, path: str | os.PathLike[str], seconds: float, *, pause: float) -> None:
    """Lock an open file for this process alone, until it is closed.

    Parameters
    ----------
    file
        Its descriptor.
    path
        What errors call it.
    seconds
        How long others may hold the lock.
    pause
        Seconds between two tries.

    Raises
    ------
    TimeoutError
        Another process, which may be stopped, has held the lock for so long.
    OSError
        The file system has no locks.
    """
    give_up = time.monotonic() + seconds
    while True:
        try:
            LOCKS.flock(file, LOCKS.LOCK_EX | LOCKS.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= give_up:
                reason = f"another process has held the lock of {os.fspath(path)} for {seconds:g} seconds"
                raise TimeoutError(errno.ETIMEDOUT, reason) from error
            time.sleep(pause)
        else:
            return
