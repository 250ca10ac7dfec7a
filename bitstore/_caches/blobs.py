"""What one process knows of the files of a disk cache: it finds, reads and checks them, and puts damaged ones aside."""

# ruff: noqa: PTH116
from __future__ import annotations

import logging
import os
import stat
import threading
import time

from bitstore._caches.address import HASHES, address, place_of
from bitstore._caches.bound import Bound
from bitstore._caches.folder import Folder, Place
from bitstore._caches.quarantine import put_aside
from bitstore._caches.root import Access
from bitstore._support.once import warn_once

__all__ = ["DAMAGED", "INLINE", "READ", "RESOLUTION", "Blobs", "Large"]

logger = logging.getLogger("bitstore")

INLINE = 1 << 20  # bytes that are read where the lookup runs; more is read in a thread of its own
RESOLUTION = 60.0  # seconds: a file used more often is not marked again, so that most reads write nothing
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: the name may be a pipe
_HUGE = 1 << 30  # bytes; one read call returns less than 2 GiB


class Large(Exception):
    """The file is too large to be read here and now."""


class Damaged:
    """The answer of `Blobs.load` for a file that is not what it should be."""


DAMAGED = Damaged()


class Blobs:
    """The blobs of one folder, as one process sees them, and its counters. Threads may share it.

    Parameters
    ----------
    root
        The folder, absolute.
    label
        What log messages call it.
    max_size
        Bytes that all blobs may have together.
    allow_foreign_owner
        Whether another user may own the folder.
    """

    __slots__ = ("_label", "_root", "access", "bound", "counters", "folder", "lock", "started")

    def __init__(self, root: str, label: str, max_size: int, *, allow_foreign_owner: bool) -> None:
        self._root = root
        self._label = label
        self.access = Access(root, label, allow_foreign_owner=allow_foreign_owner)
        self.folder = Folder(root)
        self.bound = Bound(self.folder, max_size)
        self.lock = threading.Lock()
        self.counters = dict.fromkeys(
            ("hits", "misses", "written", "present", "skipped", "damaged", "read_errors", "write_errors"), 0
        )
        self.started = False  # the first write has cleaned up after dead writers

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self.lock:
            self.counters[name] += 1

    def start_writing(self) -> None:
        """Make the folder if there is none, and look at it: another user may have deleted it and made it again.

        The first call cleans up after writers that are gone. Raises what `examine` raises, and `OSError`.
        """
        if (found := self.access.make()) is not None:
            self.folder.seen(found)
        if not self.started:
            self.started = True
            self.bound.reclaim()

    def warn_once(self, about: str, text: str, *args: object) -> None:
        """Log a warning, but only the first one of its kind in this process."""
        note = "%s: %s (said once; further ones are counted in stats())"
        warn_once(logger, (self._label, about), note, self._label, text % args)

    def files(self, key: str, algorithm: str | None) -> list[Place]:
        """The plain files that hold `key`."""
        top, digest = address(key, algorithm)
        folders = (top, digest[:3], f"{digest}.d")
        places = [Place(folders, name) for name in self.folder.beside("/".join(folders))]
        if top != "keys":
            places.insert(0, Place(folders[:2], digest))
        found = [(place, self.folder.stat(place)) for place in places]
        return [place for place, status in found if status is not None and stat.S_ISREG(status.st_mode)]

    def find(
        self, key: str, algorithm: str | None, limit: int | None, check: bool, keep: bool
    ) -> tuple[str, bytes] | Damaged | None:
        """A good file of `key`: its place below the root, and its bytes; `DAMAGED` or None if there is none.

        The one with the digest's own name comes first, then those beside it, of which any good one will do. The other
        parameters, and what is raised, are those of `load`.
        """
        top, digest = address(key, algorithm)
        fan = f"{top}/{digest[:3]}"
        damaged: Damaged | None = None
        if top != "keys":
            place = f"{fan}/{digest}"
            data = self.load(place, top, digest, limit, check, keep)
            if isinstance(data, bytes):
                return place, data
            damaged = data
        for name in self.folder.beside(f"{fan}/{digest}.d"):
            place = f"{fan}/{digest}.d/{name}"
            data = self.load(place, "checksum", name, limit, check, keep)
            if isinstance(data, bytes):
                return place, data
            damaged = damaged or data
        return damaged

    def load(
        self, place: str, algorithm: str, digest: str, limit: int | None, check: bool, keep: bool
    ) -> bytes | Damaged | None:
        """The bytes of one file; None if it is absent, `DAMAGED` if it is not what it should be.

        Parameters
        ----------
        place
            Below the root.
        algorithm, digest
            What the bytes must match, if `check`. (They are positional, as this is called for every hit.)
        limit
            Raise `Large` for a file above so many bytes.
        check
            Check the bytes; else only that as many come as the file has.
        keep
            Return the bytes; else only check them, in bounded memory.

        Raises
        ------
        OSError
            The disk could not say.
        """
        try:
            fd = os.open(f"{self._root}/{place}", READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A symbolic link or a socket does not open like this: neither was put there by us.
            there = self.folder.stat(place_of(place))
            if there is None or stat.S_ISREG(there.st_mode):
                raise
            return self.damaged(place, None, f"no plain file ({os.strerror(error.errno or 0)})")
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return self.damaged(place, None, "no plain file")
            if self.access.owner not in (None, found.st_uid):
                self._check_owner()
                return self.damaged(place, found, f"it belongs to user {found.st_uid}")
            size = found.st_size
            data = b""
            if not keep:
                good = not check or _stream_digest(fd, algorithm) == digest
            elif limit is not None and size > limit:
                raise Large
            else:
                if size < _HUGE:
                    data = os.read(fd, size)
                if len(data) != size:
                    with open(fd, "rb", buffering=0, closefd=False) as rest:
                        data += rest.readall()
                good = HASHES[algorithm].of(data) == digest if check else len(data) == size
            if not good:
                return self.damaged(place, found, "its bytes do not match its name")
            if abs(time.time() - found.st_mtime) > RESOLUTION:
                self.folder.touch(place_of(place))
        finally:
            os.close(fd)
        return data

    def _check_owner(self) -> None:
        """Raise if the folder belongs to another user by now: it may have been deleted, and made again by that user."""
        uid = os.stat(self._root).st_uid
        if uid != self.access.owner:
            raise PermissionError(f"the folder belongs to user {uid} now, and that user could put anything there")

    def verify(self, place: Place) -> bool | None:
        """Whether the file at `place` is good (if not, it is put aside); None if it is gone."""
        algorithm = "checksum" if len(place.folders) == 3 else place.folders[0]
        try:
            fd = os.open(f"{self._root}/{place}", READ)
        except FileNotFoundError:
            return None  # evicted meanwhile
        try:
            found = os.fstat(fd)
            good = algorithm in HASHES and _stream_digest(fd, algorithm) == place.name
        finally:
            os.close(fd)
        if not good:
            self.damaged(str(place), found, "its bytes do not match its name")
        return good

    def damaged(self, place: str, seen: os.stat_result | None, why: str) -> Damaged:
        """Count a damaged file, and put it aside."""
        self.tell_damage(place, why)
        try:
            put_aside(self.folder, self.bound, place_of(place), seen)
        except OSError as error:
            self.warn_once("quarantine", "cannot put a damaged file aside: %s", error)
        return DAMAGED

    def tell_damage(self, place: str, why: str) -> None:
        """Count a damaged file, and warn of it once."""
        self.count("damaged")
        self.warn_once("damage", "damaged file %s: %s; it is put aside", place, why)


def _stream_digest(fd: int, algorithm: str) -> str:
    """The digest of the whole file, in bounded memory."""
    return HASHES[algorithm].of_pieces(lambda: os.read(fd, 1 << 20))
