"""What one process does with the files of a disk cache: read and check them, write them, put damaged ones aside."""

# ruff: noqa: PTH116
from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time

from bitstore._caches.bound import Bound
from bitstore._caches.draft import Draft
from bitstore._caches.folder import Folder, Place
from bitstore._caches.quarantine import put_aside
from bitstore._support.digests import ALGORITHMS, CHECKSUM
from bitstore._support.once import warn_once
from bitstore._support.sizes import format_size

__all__ = ["DAMAGED", "INLINE", "Blobs", "Large"]

logger = logging.getLogger("bitstore")

INLINE = 1 << 20  # bytes that are read where the lookup runs; more is read in a thread of its own
_RESOLUTION = 60.0  # seconds: a file used more often is not marked again, so that most reads write nothing
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: the name may be a pipe
_HUGE = 1 << 30  # bytes; one read call returns less than 2 GiB
# By the folder in which a file lies. A file beside its key's folder matches no digest but a checksum.
_HASHES = {**ALGORITHMS, CHECKSUM.name: CHECKSUM}


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
    """

    __slots__ = ("_label", "_root", "bound", "counters", "folder", "lock", "owner", "started", "trusted")

    def __init__(self, root: str, label: str, max_size: int) -> None:
        self._root = root
        self._label = label
        self.folder = Folder(root)
        self.bound = Bound(self.folder, max_size)
        self.lock = threading.Lock()
        self.counters = dict.fromkeys(
            ("hits", "misses", "written", "present", "skipped", "damaged", "read_errors", "write_errors"), 0
        )
        self.trusted = False  # the folder is there, and is ours
        self.owner: int | None = None  # the user that must own the files; None: any user
        self.started = False  # the first write has cleaned up after dead writers

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self.lock:
            self.counters[name] += 1

    def warn_once(self, about: str, text: str, *args: object) -> None:
        """Log a warning, but only the first one of its kind in this process."""
        note = "%s: %s (said once; further ones are counted in stats())"
        warn_once(logger, (self._label, about), note, self._label, text % args)

    # -- names

    @staticmethod
    def address(key: str, algorithm: str | None) -> tuple[str, str]:
        """The top folder and the digest under which `key` is filed."""
        if algorithm is not None and ALGORITHMS[algorithm].is_digest(key) and key == key.lower():
            return algorithm, key
        # Any text may be a key, also one that no file could be named by, or two that differ only in case.
        return "keys", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    @staticmethod
    def target(key: str, algorithm: str | None, data: bytes) -> Place:
        """Where `data` belongs if it is put under `key`."""
        top, digest = Blobs.address(key, algorithm)
        if top != "keys" and _HASHES[top].of(data) == digest:
            return Place((top, digest[:3]), digest)
        return Place((top, digest[:3], f"{digest}.d"), CHECKSUM.of(data))

    def files(self, key: str, algorithm: str | None) -> list[Place]:
        """The plain files that hold `key`."""
        top, digest = self.address(key, algorithm)
        folders = (top, digest[:3], f"{digest}.d")
        places = [Place(folders, name) for name in self.folder.beside("/".join(folders))]
        if top != "keys":
            places.insert(0, Place(folders[:2], digest))
        found = [(place, self.folder.stat(place)) for place in places]
        return [place for place, status in found if status is not None and stat.S_ISREG(status.st_mode)]

    # -- reading

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
            fd = os.open(f"{self._root}/{place}", _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A symbolic link or a socket does not open like this: neither was put there by us.
            there = self.folder.stat(_place(place))
            if there is None or stat.S_ISREG(there.st_mode):
                raise
            return self.damaged(place, None, f"no plain file ({os.strerror(error.errno or 0)})")
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return self.damaged(place, None, "no plain file")
            if self.owner is not None and found.st_uid != self.owner:
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
                good = _HASHES[algorithm].of(data) == digest if check else len(data) == size
            if not good:
                return self.damaged(place, found, "its bytes do not match its name")
            if abs(time.time() - found.st_mtime) > _RESOLUTION:
                self.folder.touch(_place(place))
        finally:
            os.close(fd)
        return data

    def _check_owner(self) -> None:
        """Raise if the folder belongs to another user by now: it may have been deleted, and made again by that user."""
        uid = os.stat(self._root).st_uid
        if uid != self.owner:
            raise PermissionError(f"the folder belongs to user {uid} now, and that user could put anything there")

    def verify(self, place: Place) -> bool | None:
        """Whether the file at `place` is good (if not, it is put aside); None if it is gone."""
        algorithm = "checksum" if len(place.folders) == 3 else place.folders[0]
        try:
            fd = os.open(f"{self._root}/{place}", _READ)
        except FileNotFoundError:
            return None  # evicted meanwhile
        try:
            found = os.fstat(fd)
            good = algorithm in _HASHES and _stream_digest(fd, algorithm) == place.name
        finally:
            os.close(fd)
        if not good:
            self.damaged(str(place), found, "its bytes do not match its name")
        return good

    def damaged(self, place: str, seen: os.stat_result | None, why: str) -> Damaged:
        """Count a damaged file, and put it aside."""
        self._tell_damage(place, why)
        try:
            put_aside(self.folder, self.bound, _place(place), seen)
        except OSError as error:
            self.warn_once("quarantine", "cannot put a damaged file aside: %s", error)
        return DAMAGED

    def _tell_damage(self, place: str, why: str) -> None:
        self.count("damaged")
        self.warn_once("damage", "damaged file %s: %s; it is put aside", place, why)

    # -- writing

    def _holds(self, place: Place, data: bytes) -> bool | None:
        """Whether the plain file at `place` has exactly these bytes; None if it is gone.

        To compare them costs far less than to write them, and a put that trusted the size would leave a damaged
        file where it is, for good if the cache is only written.
        """
        try:
            fd = os.open(f"{self._root}/{place}", _READ)
        except FileNotFoundError:
            return None  # evicted just now
        except OSError:
            return False  # it does not open, such as on a bad sector: as good as damaged
        at = 0
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != len(data):
                return False
            while at < len(data):
                part = os.read(fd, 1 << 20)
                if not part or part != data[at : at + len(part)]:  # bytes: views compare one by one
                    return False
                at += len(part)
        except OSError:
            return False  # nor can it be read
        finally:
            os.close(fd)
        return True

    def write(self, target: Place, data: bytes, max_blob_size: int | None) -> str:
        """Put `data` into the file at `target`; returns the counter to which it belongs.

        Raises
        ------
        OSError
            The disk does not take it.
        """
        bound, size = self.bound, len(data)
        if size > bound.max_size or (max_blob_size is not None and size > max_blob_size):
            self.warn_once("size", "a blob of %s is too large to be kept", format_size(size))
            return "skipped"
        fan = self.folder.enter(target.folders, create=True)
        try:
            if os.access(target.name, os.F_OK, dir_fd=fan, follow_symlinks=False) and self._is_there(target, data):
                published = False
            else:
                kept = self._write_new(target, fan, data)
                if kept is None:
                    return "skipped"
                published = kept
        finally:
            os.close(fan)
        if len(target.folders) > 2:
            self._replace_others(target)
        return "written" if published else "present"

    def _is_there(self, target: Place, data: bytes) -> bool:
        """Whether `data` is there already, which makes it used just now. Anything else is put out of the way."""
        found = self.folder.stat(target)
        if found is None:
            return False
        plain = stat.S_ISREG(found.st_mode)
        holds = self._holds(target, data) if plain else False
        if holds:
            self.folder.touch(target)
        elif holds is not None:
            self._tell_damage(str(target), "its bytes do not match its name" if plain else "no plain file")
            put_aside(self.folder, self.bound, target, found if plain else None)
        return bool(holds)

    def _write_new(self, target: Place, fan: int, data: bytes) -> bool | None:
        """Write a file to `target`, whose folder is open as `fan`; false: one came there meanwhile, None: no room."""
        folder, bound, size = self.folder, self.bound, len(data)
        # The draft comes before the reservation: a count that runs meanwhile must see one or the other. It comes after
        # the ledger: the count with which that begins would take it for reserved already.
        bound.ledger.ensure()
        draft = Draft(folder, size)
        reserved = published = False
        try:
            lowest = bound.ledger.reserve(size)
            reserved = True
            if lowest < size:  # impossible, so the folder was changed by hand
                lowest = bound.recount()
            if lowest > bound.max_size and not bound.make_room(lowest):
                return None
            draft.write(data)
            published = draft.publish(target, fan)
        finally:
            if not published:
                epoch = bound.ledger.epoch
                # The process that deletes a draft releases its bytes. No other may, or they would be subtracted twice.
                if draft.discard() and reserved:
                    bound.ledger.release(size, epoch)
        return published

    def _replace_others(self, target: Place) -> None:
        """Of several values of one key the last one put counts."""
        mine = self.folder.stat(target)
        for name in self.folder.beside("/".join(target.folders)):
            other = Place(target.folders, name)
            found = None if other == target else self.folder.stat(other)
            if mine is None or found is None:
                continue
            # Two writers at the same time must not delete both values, so the younger one stays, by time and name. But
            # one from the future is left from before the clock was set back.
            older = (found.st_mtime_ns, name) < (mine.st_mtime_ns, target.name)
            if older or found.st_mtime > time.time() + _RESOLUTION:
                self.bound.delete(other)


def _place(path: str) -> Place:
    *folders, name = path.split("/")
    return Place(tuple(folders), name)


def _stream_digest(fd: int, algorithm: str) -> str:
    """The digest of the whole file, in bounded memory."""
    return _HASHES[algorithm].of_pieces(lambda: os.read(fd, 1 << 20))
