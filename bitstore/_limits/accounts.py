"""Where calls are counted: in this process, or in a file that the processes of a machine share."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from bitstore._limits.state import AccountError, StateFile
from bitstore._limits.windows import Terms, Verdict, Windows

__all__ = ["Account", "AccountError", "FileAccount", "MemoryAccount"]


class Account(Protocol):
    """Counts the calls of one source. For any number of threads."""

    def take(self) -> Verdict:
        """Count one call, if the terms have room for it. Raises `AccountError`; may block for a while."""

    def hold(self, seconds: float) -> None:
        """Grant nothing for so long. Raises `AccountError`."""


class MemoryAccount:
    """Counts in this process.

    Parameters
    ----------
    terms
        What is allowed.
    clock
        Seconds that only grow; for tests.
    """

    def __init__(self, terms: Terms, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._terms = terms
        self._clock = clock
        self._lock = threading.Lock()
        self._windows = Windows()

    def take(self) -> Verdict:
        """See `Account`."""
        with self._lock:
            return self._windows.take(self._terms, self._clock())

    def hold(self, seconds: float) -> None:
        """See `Account`."""
        with self._lock:
            self._windows.hold(seconds, self._clock())


class FileAccount:
    """Counts in an SQLite file (https://sqlite.org/lockingv3.html), which any number of processes may share.

    A call is in the file before it is granted, so no more are made than allowed, whichever process is killed and when.
    The file may hold the accounts of many sources. It must be on a disk of this machine: SQLite's locks are not to be
    trusted over a network.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there.
    name
        Of the source, in the file.
    terms
        What is allowed.
    clock
        Seconds since 1970: what it says must mean the same to all processes, also after a restart. When it is set
        back, calls count for longer; when it is set forward, they are forgotten earlier by as much.
    known
        The account has been used before: where the file does not know it, it was lost, and begins as if all that is
        allowed had just been called.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str,
        terms: Terms,
        *,
        clock: Callable[[], float] = time.time,
        known: bool = False,
    ) -> None:
        self._file = StateFile(path, "account", "calls")
        self._name = name
        self._terms = terms
        self._clock = clock
        self._known = known

    def open(self) -> None:
        """Make the account, if it is not there. Raises `AccountError`."""
        with self._transaction():
            pass

    def take(self) -> Verdict:
        """See `Account`."""
        with self._transaction() as windows:
            return windows.take(self._terms, self._clock())

    def hold(self, seconds: float) -> None:
        """See `Account`."""
        with self._transaction() as windows:
            windows.hold(seconds, self._clock())

    @contextmanager
    def _transaction(self) -> Iterator[Windows]:
        with self._file.row(self._name) as row:
            if row.text is not None:
                windows = Windows.from_dict(json.loads(row.text))
            else:
                windows = Windows()
                if self._known:
                    windows.use_up(self._terms, self._clock())
            yield windows
            row.text = json.dumps(windows.as_dict())
        self._known = True
