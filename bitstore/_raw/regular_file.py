"""Blocking calls on one regular file, by the bytes of its path. All raise `OSError`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from bitstore._lookup.opened import PinnedFileOfDisk
from bitstore._lookup.partial import Partial
from bitstore._support.atomic import Draft, check_regular
from bitstore.steps import FileBody, Write

__all__ = ["copy", "open_pinned", "read", "read_range", "readable", "version_of", "write"]

_PIECE = 1024 * 1024  # bytes that are read at a time

# O_NONBLOCK: opening a named pipe would otherwise wait for a writer.
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# What these open they close themselves: a lookup that runs out of time leaves the call that still reads, and must not
# close its descriptor, whose number soon stands for another file.


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[tuple[int, int]]:
    """The descriptor and the size of a regular file."""
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        check_regular(status)
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read(path: bytes, most: int | None) -> bytes | None:
    """The whole file: up to its end, for it may have grown or shrunk since its size was looked up.

    None: it has more than `most` bytes.
    """
    with _opened(path) as (descriptor, size):
        if most is not None and size > most:
            return None
        data = os.read(descriptor, size + 1)
        if len(data) == size:  # and the end was seen, because one byte more was asked for
            return data
        chunks = [data]
        while data:
            data = os.read(descriptor, _PIECE)
            chunks.append(data)
        return b"".join(chunks)


def read_range(path: bytes, start: int, end: int) -> bytes:
    """The bytes from `start` up to `end`; fewer where the file ends before."""
    with _opened(path) as (descriptor, _):
        data = os.pread(descriptor, end - start, start)
        if len(data) == end - start or not data:
            return data
        chunks = [data]
        at = start + len(data)
        while at < end and (data := os.pread(descriptor, end - at, at)):
            chunks.append(data)
            at += len(data)
        return b"".join(chunks)


def open_pinned(path: bytes, label: str) -> PinnedFileOfDisk:
    """The file as it is now, for reads of its parts; `label` is for their errors."""
    with _opened(path) as (descriptor, _):
        return PinnedFileOfDisk(os.dup(descriptor), label, os.fsdecode(path))


def copy(path: bytes, partial: Partial) -> None:
    """Copy the whole file."""
    with _opened(path) as (descriptor, _):
        partial.copy(descriptor)


def readable(path: bytes) -> os.stat_result:
    """What the file is. Raises `OSError` where `read` would."""
    status = Path(os.fsdecode(path)).stat()
    check_regular(status)
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return status


def version_of(status: os.stat_result) -> str:
    """A text that is another one after each write of the file."""
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def write(path: bytes, body: bytes | FileBody, wanted: Write, root: str | None) -> None:
    """Write the whole file on the condition that `wanted` sets, below `root`, which must be there."""
    if root is not None and not Path(root).is_dir():  # not to be made on another disk than the one that was meant
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {root}")
    name = os.fsdecode(path)
    if name.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, "the name of a file cannot end with '/'")
    with Draft(Path(name)) as draft:
        target = draft.target
        if wanted.only_if_absent and target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(body, FileBody):
            _write_file(draft, body)
        else:
            draft.write(body)
        if wanted.replacing is None or _still(path, wanted.replacing):
            draft.publish(replace=not wanted.only_if_absent)


def _write_file(draft: Draft, body: FileBody) -> None:
    with contextlib.closing(body.open()) as reader, draft.path.open("xb", buffering=0) as file:
        while piece := reader.read(_PIECE):
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]


def _still(path: bytes, version: str) -> bool:
    try:
        return version_of(readable(path)) == version
    except FileNotFoundError:
        return False
