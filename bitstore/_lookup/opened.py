"""Blobs as open files: the file itself from a disk, and parts of one version from a server."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from bitstore._lookup.asking import canonical_of, methods_of, steps_of_get
from bitstore._lookup.options import check_timeout
from bitstore._lookup.partial import Elsewhere
from bitstore._lookup.run import run
from bitstore._support.digests import Algorithm
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Cancelled, Found, Steps

__all__ = ["FIRST_BYTES", "Opened", "PinnedFile", "PinnedFileOfDisk", "dropped", "open_file", "steps_of_open"]

FIRST_BYTES = 64 * 1024  # that come with the answer to the first question, which tells size and version
_BUFFER = 1024 * 1024  # bytes that are asked for at least, where fewer are read
_PIECE = 1 << 20


class Opened(Elsewhere):
    """A blob that a lookup has opened.

    Parameters
    ----------
    file
        A seekable binary file at its beginning.
    checked
        Whether its bytes are known to have the digest, where the lookup has asked for that.
    """

    def __init__(self, file: Any, *, checked: bool = False) -> None:
        self.file = file
        self.checked = checked

    def head(self, count: int = 16) -> bytes:
        """The first bytes."""
        head: bytes = self.file.read(count)
        self.file.seek(0)
        return head

    def digest(self, algorithm: Algorithm) -> str:
        """The digest of the whole file."""
        digest = algorithm.of_pieces(lambda: cast("bytes", self.file.read(_PIECE)))
        self.file.seek(0)
        return digest


def open_file(store: Any, uri: Any, *, verify: bool | None, timeout: float | None) -> BinaryIO:
    """Open one blob, as `Store.open` does."""
    check_timeout(timeout)
    try:
        found = run(steps_of_open(store, canonical_of(store)(uri), verify), timeout=timeout)
    except Cancelled:
        raise StoreNotAvailable(store, f"no answer within {timeout} s") from None
    data = found.data
    if isinstance(data, Opened):
        file = data.file
        return cast("BinaryIO", io.BufferedReader(file, _BUFFER) if isinstance(file, io.RawIOBase) else file)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"only bytes can be opened as a file, not {type(data).__name__}")
    return io.BytesIO(data)


def steps_of_open(store: Any, uri: Any, verify: bool | None) -> Steps[Found]:
    """The lookup of `uri` as steps, which end in its bytes or in `Opened`: the store's own ones, or those of `get`."""
    if not methods_of(store).open_steps:
        return (yield from steps_of_get(store, uri))
    found: Found = yield from store.open_steps(uri, verify)
    is_file = not isinstance(found.data, Opened) and hasattr(found.data, "read")
    return found._replace(data=Opened(found.data)) if is_file else found


def dropped(found: Found) -> None:
    """Close the file of what a lookup has found and does not take."""
    if isinstance(found.data, Opened):
        found.data.file.close()


class PinnedFile(io.RawIOBase):
    """One version of a blob, of which each read asks for the part that it needs.

    Parameters
    ----------
    name
        What the file is called.
    size
        Bytes of the whole.
    read
        Makes the steps that end in the bytes from a position up to another one; they raise `StoreNotAvailable` where
        that version is no more.
    here
        How many of the first bytes cost no request.
    """

    def __init__(self, name: str, size: int, read: Callable[[int, int], Steps[bytes]], here: int = 0) -> None:
        self.name = name
        self.size = size
        self._read = read
        self._here = here
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another position, as every file does."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is 0, 1 or 2, not {whence!r}")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what follows, and say with how many bytes. Raises `StoreNotAvailable`."""
        view = memoryview(buffer).cast("B")
        here = self._here - self._at  # a short read is a whole answer, too
        data = self._part(min(len(view), here) if here > 0 else len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """All that follows. Raises `StoreNotAvailable`."""
        return self._part(self.size)

    def _part(self, count: int) -> bytes:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        end = min(self._at + count, self.size)
        if end <= self._at:
            return b""
        data = run(self._read(self._at, end))
        if len(data) != end - self._at:
            raise StoreNotAvailable(self.name, f"{len(data)} bytes came of the {end - self._at} from {self._at} on")
        self._at = end
        return data


class PinnedFileOfDisk(io.FileIO):
    """A file of the disk that others may write to: a read after it was changed raises `StoreNotAvailable`.

    Parameters
    ----------
    descriptor
        Of the file, which this object closes.
    label
        Name of the store.
    path
        Of the file, for errors.
    """

    def __init__(self, descriptor: int, label: str, path: str) -> None:
        super().__init__(descriptor, "rb")
        self._label = label
        self._path = path
        self._seen = self._look()

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what follows, and say with how many bytes."""
        count = super().readinto(buffer)
        self._check()
        return count or 0

    def readall(self) -> bytes:
        """All that follows."""
        data = super().readall()
        self._check()
        return data or b""

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, or all that follow."""
        if size is None or size < 0:
            return self.readall()
        data = super().read(size)
        self._check()
        return data or b""

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self.fileno())
        return status.st_size, status.st_mtime_ns

    def _check(self) -> None:
        if self._look() != self._seen:
            raise StoreNotAvailable(self._label, f"{self._path} was changed while it was read")
