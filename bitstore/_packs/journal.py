"""Packs that are being written on this machine: files that grow by a member with each blob, locked by their writers.

A blob is in its journal, and so survives the end of its process, before `append` returns. A process that is killed
lets go of its locks, by which others know that its journals are theirs to publish.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
import weakref
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from bitstore._packs.tar import END, HEAD, Member, head_of, member_at, members, padding_of
from bitstore._support.digests import ALGORITHMS

__all__ = ["Journal", "Neighbours", "adopted"]

_PADDING = [bytes(count) for count in range(HEAD)]
_OPEN = os.O_RDWR | os.O_CLOEXEC
_open_ones: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave_to_parent() -> None:
    # The lock belongs to all processes that have the descriptor: a child that lived on would seem to write.
    for journal in list(_open_ones):
        journal.close()


os.register_at_fork(after_in_child=_leave_to_parent)


class Journal:
    """A file to which blobs are appended. Its lock and its descriptor are held until it is closed or collected.

    Parameters
    ----------
    folder
        Where it is made.
    sync
        Wait for the disk at each blob.

    Raises
    ------
    BlockingIOError
        Another process has taken the new file for abandoned: another try makes another one.
    OSError
        The disk does not take it.

    Attributes
    ----------
    name
        Of the pack, without a suffix: the time in UTC with microseconds, by which packs are ordered; a random part.
    size
        Bytes so far.
    made
        When it was made, on the monotonic clock.
    members
        What it holds.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}"
        self.path = folder / f"{self.name}.tar"
        self.fd = os.open(self.path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        self._sync = sync
        self.size = 0
        self.made = time.monotonic()
        self.members: list[Member] = []
        _open_ones.add(self)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(self.fd, self.path):
                raise BlockingIOError(errno.EWOULDBLOCK, "it was deleted", str(self.path))
        except OSError:  # another process took it for abandoned before it was locked, and deletes it, as it is empty
            self.close()
            raise

    def append(self, digest: str, data: bytes) -> Member:
        """Append a blob; it is in the file when this returns. One thread at a time.

        Raises
        ------
        OSError
            The disk does not take it: then the file is as before.
        ValueError
            The blob is too large.
        """
        size = len(data)
        head = head_of(digest, size)
        whole = HEAD + size + padding_of(size)
        try:
            done = os.writev(self.fd, (head, data, _PADDING[whole - HEAD - size]))
            if done != whole:
                self._rest(head + data + _PADDING[whole - HEAD - size], done)
            if self._sync:
                os.fdatasync(self.fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
                os.lseek(self.fd, self.size, os.SEEK_SET)
            raise
        member = Member(digest, self.size + HEAD, size)
        self.size += whole
        self.members.append(member)
        return member

    def _rest(self, whole: bytes, done: int) -> None:
        left = memoryview(whole)[done:]
        while left:
            written = os.write(self.fd, left)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            left = left[written:]

    def seal(self) -> None:
        """End the archive. Raises OSError."""
        os.ftruncate(self.fd, self.size)
        os.pwrite(self.fd, END, self.size)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a member; fewer where the file was cut. Raises OSError."""
        data = os.pread(self.fd, size, offset)
        while 0 < len(data) < size and (more := os.pread(self.fd, size - len(data), offset + len(data))):
            data += more
        return data

    def remove(self) -> None:
        """Delete the file, whose blobs are elsewhere by now."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file. Whatever is in it, another process may publish."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()


def adopted(folder: Path) -> Iterator[Journal]:
    """The journals in a folder whose writers are gone, with nothing but what is whole and matches its digest; locked.

    Raises
    ------
    OSError
        A file cannot be read or mended.
    """
    for path in sorted(folder.glob("*.tar")):
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            continue  # published meanwhile
        journal = Journal.__new__(Journal)
        journal.name, journal.path, journal.fd = path.stem, path, fd
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            journal.close()
            continue
        _open_ones.add(journal)
        if not _is_at(fd, path):  # it was published while this process waited
            journal.close()
            continue
        journal = _mended(journal)
        if journal.members:
            yield journal
        else:
            journal.remove()
            journal.close()


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _mended(journal: Journal) -> Journal:
    """An abandoned journal without what is not whole: torn by a kill, lost in a power cut. It ends there."""
    fd = journal.fd
    size = os.fstat(fd).st_size
    good: list[Member] = []
    at = end = 0
    while at + HEAD <= size:
        member = member_at(fd, at)
        if member is None or not _matches(member, journal.read(member.offset, member.size)):
            at += HEAD  # all heads begin at a multiple of it
            continue
        at = member.offset + member.size + padding_of(member.size)
        good.append(member)
        end = at if end == member.offset - HEAD else end
    if sum(HEAD + member.size + padding_of(member.size) for member in good) != end:
        # There is a hole. What is behind it is copied: to move it within the file would lose it in another kill.
        copied = Journal(journal.path.parent, sync=True)
        for member in good:
            copied.append(member.digest, journal.read(member.offset, member.size))
        journal.remove()
        journal.close()
        journal = copied
    else:
        journal.size, journal.members = end, good
    journal.seal()
    return journal


def _matches(member: Member, data: bytes) -> bool:
    kinds = (kind for kind in ALGORITHMS.values() if kind.length == len(member.digest))
    return len(data) == member.size and any(kind.of(data) == member.digest for kind in kinds)


class Neighbours:
    """The journals of other processes and objects of this machine, so that what these have kept is found.

    Parameters
    ----------
    folder
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _Read] = {}

    def look(self, own: set[str]) -> None:
        """Read what was written since; `own` are file names to leave out. Raises OSError where the disk fails."""
        try:
            found = {entry.name: entry for entry in os.scandir(self._folder) if entry.name.endswith(".tar")}
        except FileNotFoundError:
            found = {}
        for name in [name for name in self._files if name not in found]:
            del self._files[name]
        for name, entry in found.items():
            if name in own:
                continue
            try:
                read = self._files.get(name) or _Read(entry.path)
                read.go_on()
            except FileNotFoundError:
                continue  # published meanwhile
            self._files[name] = read

    def find(self, digest: str) -> tuple[_Read, Member] | None:
        """The file that has a blob, and where in it."""
        for read in list(self._files.values()):
            member = read.members.get(digest)
            if member is not None:
                return read, member
        return None


class _Read:
    """A journal of another process, as far as it was read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.end = 0
        self.members: dict[str, Member] = {}

    def go_on(self) -> None:
        size = os.fstat(self.fd).st_size
        if size <= self.end:
            return
        with contextlib.suppress(ValueError):  # it is torn there, and its next owner mends it
            for member in members(self.fd, size, self.end):
                self.members[member.digest] = member
                self.end = member.offset + member.size + padding_of(member.size)

    def read(self, member: Member) -> bytes:
        return os.pread(self.fd, member.size, member.offset)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)
