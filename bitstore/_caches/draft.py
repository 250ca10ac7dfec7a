"""Files that are being written: made under a name in `tmp/`, then linked to their final name.

The name of a draft says which process writes it and how big it will be. So other processes can count it, and can
delete it when its writer has died.
"""

# ruff: noqa: PTH116
from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import socket
import stat
import time
from functools import lru_cache

from bitstore._caches.folder import DRAFT, Folder, Place
from bitstore._caches.held import Held
from bitstore._support.per_process import Process, current

__all__ = ["Draft", "draft_name", "is_abandoned", "is_unpublished"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_numbers = itertools.count()
_writer: tuple[Process | None, str] = (None, "")  # the beginning of the names that this process gives
_STALE = 3600.0  # seconds after which the draft of a writer that cannot be asked is given up


class Draft:
    """A new file, not visible yet. Must end in `publish` or `discard`.

    Parameters
    ----------
    folder
        The cache folder.
    size
        Bytes that it will have.

    Raises
    ------
    OSError
        The disk does not take it.
    """

    __slots__ = ("_fd", "_folder", "_name", "_tmp", "_unsure")

    def __init__(self, folder: Folder, size: int) -> None:
        self._folder = folder
        self._unsure = False
        self._name = draft_name(size)
        tmp = folder.top("tmp", create=True)
        # Without the right to write (our descriptor has it all the same): see `is_unpublished`.
        try:
            self._fd = os.open(self._name, _NEW, 0o400, dir_fd=tmp.fd)
        except BaseException:
            tmp.done()
            raise
        self._tmp: Held | None = tmp

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        done = os.write(self._fd, data)
        while done < len(data):
            done += os.write(self._fd, memoryview(data)[done:])

    def be_younger(self, mtime_ns: int) -> None:
        """Give the file a later time than `mtime_ns`, if it has none."""
        if os.fstat(self._fd).st_mtime_ns <= mtime_ns:
            os.utime(self._fd, ns=(mtime_ns + 1, mtime_ns + 1))

    def publish(self, place: Place, folder: int) -> bool:
        """Give the file its final name; false (and nothing done) if one stands there already.

        A link, not a rename: of two writers of one blob exactly one succeeds, so exactly one keeps its
        reservation in the ledger.

        Parameters
        ----------
        place
            The final name.
        folder
            A descriptor of its folder, which may have been removed meanwhile.
        """
        tmp = self._tmp
        if tmp is None:
            raise RuntimeError("a draft is published once")
        os.fchmod(self._fd, 0o600)
        try:
            self._link(tmp, place.name, folder)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if not self._link_anew(tmp, place):
                return False
        with contextlib.suppress(OSError):  # left over, it is deleted some day: the blob is in its place
            os.unlink(self._name, dir_fd=tmp.fd)
        self._close()
        return True

    def _link(self, tmp: Held, name: str, folder: int) -> None:
        # A Ctrl-C may come in here after the link is made and before we know of it.
        self._unsure = True
        try:
            os.link(self._name, name, src_dir_fd=tmp.fd, dst_dir_fd=folder)
        except OSError:
            self._unsure = False
            raise

    def _link_anew(self, tmp: Held, place: Place) -> bool:
        """Link into a folder that was empty a moment ago, and that an eviction has removed: make it again."""
        for attempt in itertools.count():
            if attempt == 100 or self._folder.stat(Place(("tmp",), self._name)) is None:
                break
            folder = self._folder.open(place.folders, create=True)
            try:
                self._link(tmp, place.name, folder)
            except FileExistsError:
                return False
            except FileNotFoundError:
                continue
            else:
                return True
            finally:
                os.close(folder)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self._folder.root}/{place}")

    def discard(self) -> bool:
        """Delete the file; whether it was this call that did, and it surely was not published."""
        if self._tmp is None:
            return False  # the end of `publish` has failed
        try:
            os.unlink(self._name, dir_fd=self._tmp.fd)
        except FileNotFoundError:
            return False
        finally:
            self._close()
        return not self._unsure

    def _close(self) -> None:
        fd, tmp = self._fd, self._tmp
        self._fd, self._tmp = -1, None  # first: what a failing call leaves open is not known, but never closed twice
        try:
            if fd >= 0:
                os.close(fd)
        finally:
            if tmp is not None:
                tmp.done()


def draft_name(size: int) -> str:
    """A new name, from which other processes can read which process writes the file, and how big it will be."""
    global _writer
    process, prefix = _writer
    if process is not current():
        process = current()
        prefix = f"{_space()}.{os.getpid()}.{process.token}"
        _writer = process, prefix
    return f"{prefix}.{next(_numbers)}.{size}"


def is_abandoned(place: Place, found: os.stat_result) -> tuple[bool, bool]:
    """Whether no process writes the draft at `place` any more; and whether that is certain, not only likely.

    A process of the same pid space can be asked whether it lives. Others (other containers, other hosts, a
    time before the last boot) cannot, so an hour without a write decides.
    """
    match = DRAFT.fullmatch(place.name)
    if match is None:
        return False, False
    if match["space"] == _space():
        pid = int(match["pid"])
        if pid == os.getpid():
            # Of our own pid, another token tells an earlier process; our own is another thread's, however old it looks.
            earlier = match["token"] != current().token
            return earlier, earlier
        if not _is_alive(pid):
            return True, True
    return abs(time.time() - found.st_mtime) > _STALE, False  # abs: the clock may have jumped


def is_unpublished(found: os.stat_result) -> bool:
    """Whether a draft has certainly been reserved, and certainly not been given a final name.

    Bytes are written only after the reservation, and the right to write is given only just before the
    file gets its final name, from when on the reservation belongs to that.
    """
    return found.st_size > 0 and not stat.S_IMODE(found.st_mode) & stat.S_IWUSR


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@lru_cache(maxsize=1)
def _space() -> str:
    """Names the set of processes within which a pid means one process."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            known = f"{boot.read()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        known = socket.gethostname()
    return hashlib.sha256(known.encode()).hexdigest()[:12]
