"""Records of many threads, written together: one thread writes for all that wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bitstore._misses.entries import Entry
from bitstore._misses.file import MissFile
from bitstore._misses.sending import Sender
from bitstore.errors import StoreNotAvailable

__all__ = ["Recorder"]


class _Note:
    """A record that a thread waits for."""

    __slots__ = ("done", "entry", "error")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = False
        self.error: StoreNotAvailable | None = None


class Recorder:
    """Writes to the file, and then to the share.

    Parameters
    ----------
    file
        The file.
    sender
        What sends to the share; None: there is none.

    Attributes
    ----------
    lock
        Held while a thread writes or sends.
    """

    def __init__(self, file: MissFile, sender: Sender | None) -> None:
        self._file = file
        self._sender = sender
        self.lock = threading.Lock()
        self._pending_lock = threading.Lock()
        self._pending: list[_Note] = []

    def record(self, entries: Sequence[Entry]) -> StoreNotAvailable | None:
        """Record entries, together with those of other threads; returns what went wrong."""
        notes = [_Note(entry) for entry in entries]
        with self._pending_lock:
            self._pending += notes
        with self.lock:
            if not all(note.done for note in notes):
                with self._pending_lock:
                    together, self._pending = self._pending, []
                error: StoreNotAvailable | None = StoreNotAvailable("the ledger of misses", "it was interrupted")
                try:
                    error = self._write([note.entry for note in together])
                finally:
                    for note in together:
                        note.done, note.error = True, error
        return next((note.error for note in notes if note.error is not None), None)

    def _write(self, entries: Sequence[Entry]) -> StoreNotAvailable | None:
        try:
            self._file.write(entries)
            if self._sender is not None:
                self._sender.send()
        except StoreNotAvailable as error:
            return error
        return None
