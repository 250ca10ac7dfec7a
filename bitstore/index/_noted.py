"""The digests of the writes since an index was made, as one process knows them: read on, whenever there are more."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path

from bitstore.index._file import DamagedIndex
from bitstore.index._writes import HEAD, RECORD, can_be_shared, digests_of, head_of, moment_of

__all__ = ["Noted", "identity_of"]

_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_UNREADABLE = b"?"  # in place of a head


class Noted:
    """What was noted so far in one file of writes.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    begins
        From when on all writes are noted; None: they are not, and `why_not` says why.
    identity
        That of the file; None: there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        self.begins: datetime | None = None
        self.identity: bytes | None = None
        self.why_not = f"what is written since is not noted: there is no {path}"
        self._lock = threading.Lock()
        self._digests: set[bytes] = set()
        self._raw, self._inode, _ = self._look()
        self._end = HEAD.size  # of the last record that was read
        if not can_be_shared():
            self.why_not = "what is written since is not noted: this system has no locks of files"
        elif self._raw == _UNREADABLE:
            self.why_not = f"{path} cannot be read"
        elif self._raw:
            self._begin()

    def _begin(self) -> None:
        try:
            head = head_of(self._raw, self.path)
            if head.inode != self._inode:
                self.why_not = f"{self.path} is a copy, which is not told what is written elsewhere"
                return
            self.identity, self.begins = head.identity, moment_of(head.begins)
            self.is_current()
        except (DamagedIndex, OSError, OverflowError, ValueError) as error:
            self.begins, self.why_not = None, str(error)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def is_current(self) -> bool:
        """Read what was noted since the last time. False: it is another file now, or one of which records were taken.

        Raises
        ------
        DamagedIndex
            A record is damaged.
        OSError
            The file cannot be read.
        """
        # The file is opened each time, because that is when file systems of several machines look for what is new.
        raw, inode, size = self._look()
        if raw != self._raw or inode != self._inode or (self.begins is not None and size < self._end):
            return False
        return self.begins is None or size - self._end < RECORD.size or self._read(size)

    def _look(self) -> tuple[bytes, int, int]:
        """The head of the file, its inode and its length; nothing where there is none."""
        if not can_be_shared():  # nor are there all functions that this takes
            return b"", 0, 0
        try:
            file = os.open(self._name, _OPEN)
        except FileNotFoundError:
            return b"", 0, 0
        except OSError:
            return _UNREADABLE, 0, 0
        try:
            status = os.fstat(file)
            return os.pread(file, HEAD.size, 0), status.st_ino, status.st_size
        finally:
            os.close(file)

    def _read(self, size: int) -> bool:
        """Read what was added up to `size`. False: the file was replaced just now."""
        with self._lock:
            with open(self.path, "rb") as file:
                if file.read(HEAD.size) != self._raw:
                    return False
                file.seek(self._end)
                data = file.read(max(0, size - self._end))
            data = data[: len(data) - len(data) % RECORD.size]
            self._digests.update(digest for digest, _ in digests_of(data, self.path))
            self._end += len(data)
        return True


def identity_of(path: Path) -> bytes | None:
    """The identity of a file of writes; None: there is none, or it cannot be read."""
    if not can_be_shared():
        return None
    try:
        with open(path, "rb") as file:
            return head_of(file.read(HEAD.size), path).identity
    except (DamagedIndex, OSError):
        return None
