"""What was written since an index was made: the file `NAME.added` beside it, which whatever opens the index shares.

A writer adds a record before it writes the blob. So a blob is in the listing of which the next index is made, or its
record is in this file; and mostly in both. All numbers are little-endian:

     0   8  `BITADDED`
     8   2  version of the format: 1
    10   2  bytes of a record: 48
    12   4  generation: how often records were taken out
    16   8  inode of the file: a copy has another one, and knows nothing of what the original is told later
    24   8  microseconds since 1970: all writes from then on are in here, or in each index that covers up to then
    32  16  identity: stays when records are taken out
    48  12  0
    60   4  CRC-32 of the bytes before

Then the records: the digest, filled up with zeros to 32 bytes; microseconds since 1970 (8); bytes of the digest (4);
the CRC-32 of all that (4). A record is added under a lock of the file (flock), at the end of the last whole record.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from bitstore._support.atomic import Draft, check_regular, fitting_name, target_of
from bitstore._support.file_lock import LOCKS, lock_within
from bitstore.index._file import DamagedIndex

__all__ = [
    "HEAD",
    "RECORD",
    "Head",
    "begin",
    "can_be_shared",
    "digests_of",
    "head_of",
    "moment_of",
    "note",
    "place_of",
    "prune",
    "withdraw",
]

HEAD = struct.Struct("<8sHHIQq16s12xI")
RECORD = struct.Struct("<32sqII")
_MAGIC = b"BITADDED"
_VERSION = 1
_LONGEST_PUT = 3600 * 24 * 1_000_000  # microseconds after which a write that was noted has ended, one way or the other
_LOCK_SECONDS = 60.0  # that a file may be locked by others: longer than it takes to take out millions of records
_LOOK_AGAIN = 0.0002  # seconds between two tries to lock it
_SETTLED = 3600 * 1_000_000  # microseconds after which no write goes on that only a lost file knew
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_OPEN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_fdatasync = getattr(os, "fdatasync", os.fsync)


class Head(NamedTuple):
    """What the file says of itself."""

    generation: int
    inode: int
    # Microseconds since 1970: all writes from then on are noted here, or are in each index that covers up to then.
    begins: int
    identity: bytes


def can_be_shared() -> bool:
    """Whether this machine can lock files, so that processes and nodes can add to one."""
    return LOCKS is not None


def place_of(index: Path) -> Path:
    """The file of the writes since `index` was made. Raises OSError: a folder or device has the name of the index."""
    final = target_of(index)
    return final.with_name(fitting_name(final.parent, final.name, ".added"))


def begin(index: Path) -> bool:
    """From now on writes are noted: make the file unless it is there. Called before a listing begins.

    Returns
    -------
    bool
        Whether there was none.

    Raises
    ------
    OSError
        It cannot be made.
    DamagedIndex
        Another file has its name.
    """
    path = place_of(index)
    fresh = can_be_shared() and not path.exists()
    if can_be_shared():
        with _locked(path, index):
            pass
    return fresh


def withdraw(index: Path) -> None:
    """Delete the file of an index that is not made after all, unless something was noted. Raises as `begin` does."""
    path = place_of(index)
    with _locked(path, index) as file:
        if os.fstat(file).st_size == HEAD.size:
            path.unlink()


def note(index: Path, digest: bytes) -> None:
    """Add the digest of a blob that is written next. When this returns, it survives the end of process and machine.

    Raises
    ------
    OSError
        It cannot be added, so the blob must not be written.
    DamagedIndex
        Another file has the name.
    """
    if LOCKS is None:
        return
    body = struct.pack("<32sqI", digest, _now(), len(digest))
    record = body + struct.pack("<I", zlib.crc32(body))
    with _locked(place_of(index), index) as file:
        size = os.fstat(file).st_size
        end = size - (size - HEAD.size) % RECORD.size
        if (
            end < size
        ):  # a process was killed, or the disk was full, in the middle of a record: nothing was written then
            os.ftruncate(file, end)
        if os.pwrite(file, record, end) < len(record):
            os.ftruncate(file, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place_of(index)))
        LOCKS.flock(file, LOCKS.LOCK_UN)  # others may add while the disk takes it
        _fdatasync(file)


def prune(index: Path, holds: Callable[[bytes], bool], covers_up_to: datetime) -> None:
    """Take out what the new index, which has its name already, makes superfluous.

    Parameters
    ----------
    index
        The index.
    holds
        Whether a raw digest is in the index.
    covers_up_to
        Up to when the index covers its source.

    Raises
    ------
    OSError, DamagedIndex
        The file cannot be read or replaced: it stays as it is.
    """
    path = place_of(index)
    if LOCKS is None or not path.exists():
        return
    covers = min((covers_up_to - _EPOCH) // _MICROSECOND, _now())
    oldest = covers - _LONGEST_PUT
    with _locked(path, index) as file:
        head = head_of(os.pread(file, HEAD.size, 0), path)
        data = _all_of(file)
        kept = bytearray()
        try:
            for at, (digest, moment) in enumerate(digests_of(data, path)):
                if moment >= oldest and not holds(digest):
                    kept += data[at * RECORD.size : (at + 1) * RECORD.size]
        except DamagedIndex:
            _replace(path, b"", _now() + _SETTLED, secrets.token_bytes(16), 0)
            return
        if len(kept) < len(data):
            # An earlier index, should it come back, does not hold what was taken out.
            begins = max(head.begins, covers)
            _replace(path, bytes(kept), begins, head.identity, head.generation + 1)


def head_of(raw: bytes, path: Path) -> Head:
    """What the first bytes of a file say. Raises `DamagedIndex`."""
    if raw[:8] != _MAGIC:
        raise DamagedIndex(path, "it is no file of bitstore that says what was written since an index: move it away")
    if len(raw) < HEAD.size or zlib.crc32(raw[: HEAD.size - 4]) != int.from_bytes(raw[HEAD.size - 4 :], "little"):
        raise DamagedIndex(path, "its head is damaged")
    _, version, size, generation, inode, begins, identity, _ = HEAD.unpack(raw)
    if (version, size) != (_VERSION, RECORD.size):
        raise DamagedIndex(path, f"it has version {version} of the format; this release of bitstore reads {_VERSION}")
    return Head(generation, inode, begins, identity)


def digests_of(data: bytes, path: Path) -> Iterator[tuple[bytes, int]]:
    """Each digest of whole records, and when it was added, in microseconds. Raises `DamagedIndex`."""
    for digest, moment, size, crc in RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size]):
        if crc != zlib.crc32(struct.pack("<32sqI", digest, moment, size)) or size > len(digest):
            raise DamagedIndex(path, "a record is damaged")
        yield digest[:size], moment


def moment_of(microseconds: int) -> datetime:
    """The moment as a date with its time zone."""
    return _EPOCH + microseconds * _MICROSECOND


@contextmanager
def _locked(path: Path, index: Path) -> Iterator[int]:
    """The open file, under its lock; it is made where there is none, or where it is a copy or damaged."""
    while True:
        file = os.open(path, _OPEN | os.O_CREAT, 0o666)
        try:
            status = os.fstat(file)
            check_regular(status)
            lock_within(file, path, _LOCK_SECONDS, pause=_LOOK_AGAIN)
            if not _has_name(status, path):
                continue
            raw = os.pread(file, HEAD.size, 0)
            # Where an index is there already, a file was lost, of which a write that goes on may know.
            begins = _now() + (_SETTLED if index.exists() else 0)
            if len(raw) < HEAD.size and _MAGIC.startswith(raw[:8]):  # new, or its maker was killed
                _write_all(file, _head(status.st_ino, begins, secrets.token_bytes(16), 0))
                _sync_folder(path)
                raw = os.pread(file, HEAD.size, 0)
            try:
                if (whole := head_of(raw, path).inode == status.st_ino) is False:
                    begins = _now()  # of a copy: nothing was noted in it, and nothing is
            except DamagedIndex:
                if raw[:8] != _MAGIC:
                    raise
                whole = False
            if not whole:
                _replace(path, b"", begins, secrets.token_bytes(16), 0)
                continue
            yield file
            return
        finally:
            os.close(file)


def _has_name(status: os.stat_result, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)


def _replace(path: Path, records: bytes, begins: int, identity: bytes, generation: int) -> None:
    with Draft(path) as draft:
        file = os.open(draft.path, _OPEN | os.O_CREAT | os.O_EXCL, stat.S_IMODE(path.stat().st_mode))
        try:
            _write_all(file, _head(os.fstat(file).st_ino, begins, identity, generation) + records)
        finally:
            os.close(file)
        draft.publish()
    _sync_folder(path)


def _head(inode: int, begins: int, identity: bytes, generation: int) -> bytes:
    head = HEAD.pack(_MAGIC, _VERSION, RECORD.size, generation, inode, begins, identity, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def _write_all(file: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(file, data[at:], at)
    os.fsync(file)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _all_of(file: int) -> bytes:
    size = os.fstat(file).st_size - HEAD.size
    size -= size % RECORD.size
    pieces, at = [], HEAD.size
    while at < HEAD.size + size and (piece := os.pread(file, HEAD.size + size - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _now() -> int:
    return time.time_ns() // 1000
