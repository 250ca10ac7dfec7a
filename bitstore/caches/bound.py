"""The bound on the bytes of a disk cache, kept by processes that know nothing of each other.

A writer makes its draft, *reserves* its size in the ledger, evicts until the ledger's total (its own
reservation included) is within the bound, and only then gives its file its final name. Why the files
under final names never exceed the bound, without any lock:

Take all files that are there at one moment, and among them the one whose reservation stands last in the
ledger. All the others were reserved earlier, and none has been released, so all of them are in every
total from that last reservation on. Its writer saw one such total within the bound before it published.

That proof needs *any one* total from the own reservation on, so a writer need not wait for those who
come after it: of several writers that fill the bound together the first ones pass, and the last gives up.

Deleting goes the other way round: first the file, then the release. So a process killed in between leaves a
total that is too large, never one that is too small. `recount` puts that right.
"""

from __future__ import annotations

import os
import threading

from bitstore.caches.draft import is_abandoned, is_unpublished
from bitstore.caches.folder import Folder, Item, Place
from bitstore.caches.ledger import Ledger

__all__ = ["Bound"]

_SAMPLE = 1000  # files to choose from; for a smaller cache, eviction is exactly by last use
_FUTURE_NS = 3600 * 10**9


class Bound:
    """Makes room in one folder, for one process (threads may share it).

    Parameters
    ----------
    folder
        The cache folder.
    max_size
        Bytes that its blobs may have together.
    ledger
        The ledger of that folder.
    """

    def __init__(self, folder: Folder, max_size: int, ledger: Ledger | None = None) -> None:
        self.max_size = max_size
        self.ledger = Ledger(f"{folder.root}/ledger", folder.measure) if ledger is None else ledger
        self.evicted = 0
        self.evicted_bytes = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._oldest: list[Item] = []  # what to evict next, from the end

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes and make room for them. False if there is none: the caller must release them.

        Raises
        ------
        OSError
            The ledger cannot be written (nothing is reserved then), or files cannot be deleted (the
            bytes *are* reserved then, as for False).
        """
        lowest = self.ledger.reserve(size)
        try:
            if lowest < size:  # impossible, so somebody has tampered with the folder
                lowest = self.recount()
            refusals = 0
            counted = False
            while lowest > self.max_size:
                item = self._next()
                if item is None:
                    # Nothing left, though the ledger says so: reservations of others, or of writers that were killed.
                    if counted:
                        return False
                    counted = True
                    lowest = min(lowest, self.recount(only_less=True))
                    continue
                try:
                    total = self.evict(item)
                except OSError:
                    refusals += 1  # such as a file made immutable: try others, but not forever
                    if refusals > 16:
                        raise
                    continue
                lowest = min(lowest, total)
        except OSError as error:
            error.reserved = True
            raise
        return True
