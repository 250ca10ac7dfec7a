"""The bound on the bytes of a disk cache, kept by processes that know nothing of each other.

A writer makes its draft, *reserves* its size in the ledger, evicts until the ledger's total (its own
reservation included) is within the bound, and only then gives its file its final name. Why the files
under final names never exceed the bound, without any lock:

Take all files that are there at one moment, and among them the one whose reservation stands last in the
ledger. All the others were reserved earlier, and none has been released, so all of them are in every
total from that last reservation on. Its writer saw one such total within the bound before it published.

That proof needs *any one* total from the own reservation on, so a writer need not wait for
later writers: of several writers that fill the bound together the first ones pass, and the last gives up.

Deleting goes the other way round: first the file, then the release. So a process killed in between leaves a
total that is too large, never one that is too small. `recount` puts that right.
"""

from __future__ import annotations

import threading
import time

from bitstore._caches.draft import is_abandoned, is_unpublished
from bitstore._caches.folder import Folder, Item, Place
from bitstore._caches.ledger import Ledger

__all__ = ["Bound"]

_SAMPLE = 1000  # files to choose from; for a smaller cache, eviction is exactly by last use
_FUTURE_NS = 3600 * 10**9
_BATCH = 64  # files that are deleted before the ledger gets a record of them


def _ahead(bound: int) -> int:
    """Bytes to evict beyond what is needed. A small cache evicts no file more than it must."""
    return 0 if bound < 1 << 26 else min(bound >> 10, 1 << 20)


class Bound:
    """Makes room in one folder, for one process (threads may share it).

    Parameters
    ----------
    folder
        The cache folder.
    max_size
        Bytes that its blobs may have together.
    """

    def __init__(self, folder: Folder, max_size: int) -> None:
        self.max_size = max_size
        self.ledger = Ledger(f"{folder.root}/ledger", folder.measure)
        self.evicted = 0
        self.evicted_bytes = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._oldest: list[Item] = []  # what to evict next, from the end

    def make_room(self, lowest: int, *, max_size: int | None = None) -> bool:
        """Evict until the bound holds; whether it does. The caller releases what it has reserved.

        Parameters
        ----------
        lowest
            A total of the ledger, the caller's own reservation included.
        max_size
            Another bound than that of the cache.

        Raises
        ------
        OSError
            The ledger cannot be written, or files cannot be deleted.
        """
        bound = self.max_size if max_size is None else max_size
        counted = False
        refusals = 0
        while lowest > bound:
            if not self._oldest:
                files, found = self._look()
                if found is not None and not counted and lowest - found > bound // 16:
                    # All files are seen and the ledger has far more: reservations under way, or of killed writers.
                    counted = True
                    self.reclaim()  # as long as their drafts are there, they count
                    lowest = min(lowest, self.recount(only_less=True))
                elif not files:
                    return False
                continue
            try:
                # A little more than needed, so that the next writers find room without looking for it.
                lowest = min(lowest, self._evict(lowest - bound + _ahead(bound), lowest))
            except OSError:
                refusals += 1  # such as a file that was made immutable: try others, but not forever
                if refusals > 16:
                    raise
        return True

    def _evict(self, needed: int, total: int) -> int:
        """Delete what is next, until that makes `needed` bytes; returns the total, `total` if nothing was deleted.

        Told to the ledger at the end: should this process die before, the total is too large by what it has deleted.
        """
        self._folder.look()
        epoch = self.ledger.epoch
        files = size = 0
        try:
            while size < needed and files < _BATCH and (item := self._pop()) is not None:
                try:
                    deleted = self._folder.unlink(item.place, mtime_ns=item.mtime_ns, kept=True)  # not if used since
                except OSError:
                    if not files:
                        raise
                    break  # first tell the ledger what was deleted
                if deleted is not None:
                    files += 1
                    size += deleted
        finally:
            if files:
                with self._lock:
                    self.evicted += files
                    self.evicted_bytes += size
                total = self.ledger.release(size, epoch)
        return total

    def delete(self, place: Place) -> bool:
        """Delete one file; whether it was there."""
        epoch = self.ledger.epoch
        size = self._folder.unlink(place)
        if size is None:
            return False
        self.ledger.release(size, epoch)
        return True

    def recount(self, *, only_less: bool = False) -> int:
        """Look at what the folder really holds, and correct the ledger; returns the total."""
        begun = self.ledger.begin_count()
        return self.ledger.end_count(self._folder.measure(), begun, only_less=only_less)

    def reclaim(self) -> None:
        """Delete the drafts of writers that are gone, and release what they had reserved."""
        self.ledger.files.reclaim()
        for place, size in self._folder.drafts():
            found = self._folder.stat(place)
            if found is None:
                continue
            abandoned, certain = is_abandoned(place, found)
            if abandoned:
                epoch = self.ledger.epoch
                if self._folder.unlink(place) is not None and certain and is_unpublished(found):
                    self.ledger.release(size, epoch)

    def _pop(self) -> Item | None:
        with self._lock:
            return self._oldest.pop() if self._oldest else None

    def _look(self) -> tuple[int, int | None]:
        """Find files to evict. Returns how many, and the bytes of all files if all were seen."""
        with self._lock:
            if self._oldest:  # another thread has looked meanwhile
                return len(self._oldest), None
            seen: list[Item] = []
            found: int | None = None
            self._folder.look()
            listing = self._folder.items(shuffled=True)
            for items in listing:
                seen += items
                if len(seen) >= _SAMPLE:
                    break
            else:
                found = sum(item.size for item in seen)
            # A time in the future was written before the clock was set back: old, not new.
            horizon = time.time_ns() + _FUTURE_NS
            seen.sort(key=lambda item: -1 if item.mtime_ns > horizon else item.mtime_ns, reverse=True)
            # Of a sample only the oldest quarter goes: the others may be young, compared to the rest of the cache. Of
            # all files all may go, as whatever came or was used since is younger (and `evict` leaves it alone).
            self._oldest = seen if found is not None else seen[-(len(seen) // 4) :]
            return len(seen), found
