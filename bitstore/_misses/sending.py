"""What a process exchanges with a share: its own records, in parts, and the parts of others."""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import suppress

from bitstore._misses.entries import Entry
from bitstore._misses.file import MissFile
from bitstore._misses.share import SharedMisses
from bitstore._support import clock
from bitstore._support.fingerprint import fingerprint
from bitstore._support.once import warn_once
from bitstore.errors import StoreNotAvailable

__all__ = ["Sender"]

logger = logging.getLogger("bitstore")

_PART = 4_000  # entries of a part: it is written again with each batch of entries until it has so many


class Sender:
    """Sends what the file of a machine has in line, and reads what others have sent.

    What is in line stays there until it is in the share: of a process that was killed the next one sends it.

    Parameters
    ----------
    share
        The share.
    file
        The file, which no other object of this process uses at the same time.
    """

    def __init__(self, share: SharedMisses, file: MissFile) -> None:
        self._share = share
        self._file = file
        # Name of the share in the file.
        self.identity = fingerprint((share.prefix, str(getattr(share.raw, "endpoint_url", ""))))
        self._writer = secrets.token_hex(6)  # a process may have several senders
        self._number = 0  # of the part that is being filled
        self._version = 0  # of that part
        self._part: list[Entry] = []  # its content
        self._name: str | None = None  # its name; None: there is none yet
        self._lock = threading.Lock()  # held while parts are read
        self._due: float | None = None  # when to read next; None: nothing has been read

    def send(self) -> None:
        """Send all that is in line. Not for two threads at once. Raises `StoreNotAvailable`."""
        self._file.join(self.identity)
        while entries := self._file.unsent(self.identity):
            whole = [*self._part, *entries]
            self._version += 1
            name = self._share.part_name(self._writer, self._number, self._version)
            self._share.write(name, whole)
            self._file.sent(self.identity, entries, name)
            before, self._name, self._part = self._name, name, whole
            if before is not None:
                with suppress(StoreNotAvailable):  # without the right to delete, it stays, and does no harm
                    self._share.delete(before)
            if len(whole) >= _PART:
                self._number, self._version, self._part, self._name = self._number + 1, 0, [], None

    def refresh_when_due(self) -> None:
        """Read what others have sent since, if it is time. Raises `StoreNotAvailable` where nothing was ever read.

        The first threads wait until all has been read; later on, one reads while the others go on.
        """
        due = self._due
        if due is not None and clock.monotonic() < due:
            return
        if not self._lock.acquire(blocking=due is None):
            return
        try:
            if self._due is not None and clock.monotonic() < self._due:
                return
            try:
                self._receive()
            except StoreNotAvailable as error:
                if self._due is None:
                    raise
                text = "what other nodes know to be missing cannot be read for now: %s (said once)"
                warn_once(logger, ("shared misses", self._share.prefix, type(error)), text, error)
            self._due = clock.monotonic() + self._share.refresh
        finally:
            self._lock.release()

    def _receive(self) -> None:
        for _ in range(2):  # a part that has gone meanwhile is in a later version, which the next listing names
            known = self._file.parts(self.identity)
            names = [name for name in self._share.names() if name not in known]
            gone = False
            for name, entries in self._share.read(names):
                if entries is None:
                    gone = True
                else:
                    self._file.write(entries, part=(self.identity, name))
            if not gone:
                return
