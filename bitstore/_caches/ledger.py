"""How many bytes a folder holds, agreed on by all processes that share it, without a lock.

The ledger is a file to which every process appends small records, and which every process reads from
where it stopped. One `write` to a file opened with O_APPEND lands whole and at the end on local file
systems (not on NFS), so all processes see the same records in the same order, and the total is simply
what the records add up to. Nothing has to be unlocked or rolled back when a process is killed.

`records` has the meaning of each record. There, *grown* is the sum of all reservations ever made, and *epoch* changes
with every COUNT. Both make recounts possible while others write:

- A counting process notes `grown` (b), looks at the files, then appends COUNT. The total becomes what it found
  plus all that was reserved since it began (`grown` now, less b). A file that came meanwhile may be counted
  twice, none is left out, as each is visible in the folder from before its reservation (as a draft, see
  `folder`) until it is released.
- A release whose writer had not yet seen the latest COUNT when it deleted the file is void: the count may
  have missed that file already, and to subtract it once more would make the total too small. A COUNT that
  overlapped another COUNT is void for the same reason.

So a total may be too large for a while, never too small: that is what keeps the bound of the cache.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from bitstore._caches.generations import Generations, Kept, NoLedger, append
from bitstore._caches.records import COUNT, DELTA, END, SIZE, View, pack

__all__ = ["Begun", "Ledger"]

_KEEP = 64  # records after which a process keeps the file open; one that writes seldom holds nothing


class Begun(NamedTuple):
    """What a count must remember from its beginning."""

    grown: int
    epoch: int


class Ledger:
    """The total of one folder. Threads may share it; a forked child needs its own.

    Parameters
    ----------
    folder
        Where its files are; made when first written to.
    count
        Called when there is no ledger yet (or no more): the bytes that the folder really holds.
    max_bytes
        Size of a ledger file above which the next generation begins.
    """

    def __init__(self, folder: str, count: Callable[[], int], *, max_bytes: int = 1 << 20) -> None:
        self.files = Generations(folder)
        self._count = count
        self._max_bytes = max_bytes
        self._view: View | None = None
        self._kept: Kept | None = None
        self._written = 0  # records of this process
        self._lock = threading.RLock()

    @property
    def epoch(self) -> int:
        """To be noted before deleting a file, and given to `release`; 0 if it cannot be known."""
        with self._lock:
            if self._view is None:
                with contextlib.suppress(OSError):  # releasing with a 0 is void, so the total stays too large at worst
                    self.total()
            return 0 if self._view is None else self._view.epoch

    def ensure(self) -> None:
        """Make the ledger if there is none."""
        if self._view is None:
            with self._lock:
                if self.total() is None:
                    self._append(DELTA, 0, 0, 0)

    def reserve(self, size: int) -> int:
        """Announce `size` bytes; returns the lowest total, with them, that the folder has had since.

        Raises
        ------
        OSError
            The ledger cannot be written. Nothing is reserved then.
        """
        return self._append(DELTA, size, 0, 0)

    def release(self, size: int, epoch: int) -> int:
        """Take `size` bytes off, which are gone from the disk; returns the total.

        Parameters
        ----------
        size
            The bytes.
        epoch
            What `epoch` was before the file was deleted.
        """
        with self._lock:
            self._append(DELTA, -size, 0, epoch)
            return self.total() or 0 if self._view is None else self._view.total

    def begin_count(self) -> Begun:
        """To be called before looking at the files that `end_count` reports on."""
        with self._lock:
            while True:
                self._append(DELTA, 0, 0, 0)  # makes the ledger if there is none, and reads to its end
                self.total()
                if self._view is not None:
                    return Begun(self._view.grown, self._view.epoch)

    def end_count(self, found: int, begun: Begun, *, only_less: bool = False) -> int:
        """Say that `found` bytes are there, and get the total.

        Parameters
        ----------
        found
            Bytes of all files, drafts first and blobs then, whatever else happened meanwhile.
        begun
            What `begin_count` returned.
        only_less
            Say it only if it makes the total smaller.
        """
        with self._lock:
            total = self.total()
            view = self._view
            if view is None or total is None:
                return self._append(DELTA, 0, 0, 0)  # deleted meanwhile, and made again by a count of its own
            counted = found + view.grown - begun.grown
            if view.epoch == begun.epoch and (counted < total or (counted > total and not only_less)):
                self._append(COUNT, found, begun.grown, begun.epoch)
                total = self.total() or 0
            return total

    def total(self) -> int | None:
        """The bytes that files and reservations add up to; None if there is no ledger. Writes nothing."""
        with self._lock:
            for _ in range(100):
                try:
                    opened = self._open(os.O_RDONLY)
                except NoLedger:
                    return None
                if opened is None:
                    return None
                fd, view = opened
                try:
                    view.advance(fd, os.fstat(fd).st_size, own=0)
                finally:
                    os.close(fd)
                if not view.ended or self.files.newest() == view.generation:
                    return None if view.spoiled else view.total
                self._view = None
            raise OSError(errno.EBUSY, "the ledger changes faster than it can be read", self.files.folder)

    def _append(self, kind: int, a: int, b: int, c: int) -> int:
        record = pack(kind, a, b, c)
        with self._lock:
            lowest = self._append_kept(record)
            if lowest is not None:
                return lowest
            for _ in range(1000):
                try:
                    opened = self._open(os.O_RDWR | os.O_APPEND)
                except NoLedger as none:
                    # The next one after *that*, not after the newest: all processes that found it must make the same.
                    self.files.create(none.generation + 1, self._count, 0, time.time_ns())
                    continue
                if opened is None:
                    self.files.create(1, self._count, 0, time.time_ns())
                    continue
                fd, view = opened
                # The file is opened again each time, unless there is much to write: no descriptor to inherit by a fork
                # or to leak, and a deleted ledger is noticed at once.
                try:
                    lowest = self._say(fd, record, view, lambda: os.fstat(fd))  # noqa: B023 - called at once
                finally:
                    os.close(fd)
                if lowest is not None:
                    self._written += 1
                    if self._written >= _KEEP and self._view is view:
                        self._keep(view)
                    return lowest
                # Our record stands behind an END, where it does not count, or in a file that was deleted under us and
                # that no other process will read: write it again, in the next generation.
            raise OSError(errno.EBUSY, "the ledger changes faster than it can be written", self.files.folder)

    def _say(self, fd: int, record: bytes, view: View, look: Callable[[], os.stat_result | None]) -> int | None:
        """Append to the open file. Returns the lowest total since, None if no process will read it there."""
        own = append(fd, record)
        found = look()
        gone = found is None or found.st_nlink == 0
        # A file that is gone is read to its end all the same: if that is an END, our record may stand before it.
        lowest = view.advance(fd, os.fstat(fd).st_size if found is None else found.st_size, own=own)
        if not view.ended and gone:
            self._view = self._kept = None
            return None
        if not view.ended and found is not None and found.st_size > self._max_bytes:
            append(fd, pack(END, 0, 0, 0))
            view.advance(fd, os.fstat(fd).st_size, own=0)
        if view.ended:
            self._kept = None
            self._follow(view)
        return lowest

    def _append_kept(self, record: bytes) -> int | None:
        """Append to the file that is kept open; None if there is none, or it is not the one in its place any more."""
        kept, view = self._kept, self._view
        if kept is None or view is None or view is not kept.view:
            self._kept = None
            return None
        try:
            there = os.lstat(self.files.folder)
        except OSError:
            there = None
        if there is None or (there.st_ino, there.st_dev) != kept.identity:
            self._kept = self._view = None  # the whole folder was deleted, moved or replaced
            return None
        try:
            return self._say(kept.fd, record, view, kept.look)
        except OSError:
            self._kept = None  # whatever is wrong with it, the next call opens it again
            raise

    def _keep(self, view: View) -> None:
        with contextlib.suppress(OSError):  # too many open files, say: go on without
            kept = Kept(self.files.folder, view)
            if os.pread(kept.fd, 2 * SIZE, 0) == view.start:
                self._kept = kept

    def _open(self, flags: int) -> tuple[int, View] | None:
        """The generation that we read last, or the newest; None if there is none. Raises `NoLedger`."""
        for _ in range(100):
            generation = self.files.newest() if self._view is None else self._view.generation
            if generation is None:
                return None
            try:
                fd, start = self.files.open(generation, flags)
            except FileNotFoundError:
                self._view = None
                continue
            except NoLedger:
                self._view = None
                raise
            # A process that is slow to `_follow` may make a generation that has come and gone before. No process reads
            # that one.
            # Its start tells it from the one that we know; that there are newer ones, from the newest.
            try:
                stale = self.files.newest() != generation if self._view is None else self._view.start != start
            except BaseException:
                os.close(fd)
                raise
            if stale:
                os.close(fd)
                self._view = None
                continue
            if self._view is None:
                self._view = View(generation, start)
            return fd, self._view
        raise OSError(errno.EBUSY, "the ledger cannot be opened: its files come and go", self.files.folder)

    def _follow(self, ended: View) -> None:
        """Go on to the generation after `ended`; make it, unless another process has.

        All processes that have read up to the END know the same totals there, so all would make the same file. It does
        not matter which comes first or is killed on the way.
        """
        newest = self.files.newest()
        if newest is None or newest <= ended.generation:
            if ended.spoiled:
                self.files.create(ended.generation + 1, self._count, 0, time.time_ns())
            else:
                self.files.create(ended.generation + 1, lambda: ended.total, ended.grown, ended.epoch)
            newest = self.files.newest()
        self._view = None
        # The generation before the newest stays: a listing of the folder while files come and go could otherwise
        # find none at all, and that means a lost ledger.
        if newest is not None:
            self.files.drop_before(newest - 1)
