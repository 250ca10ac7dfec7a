"""A file on its way: beside its target until it is whole, so that a download can be resumed after any kind of end."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bitstore._lookup.cut import gets_on
from bitstore._lookup.origin import Origin
from bitstore._support.atomic import target_of
from bitstore._support.digests import algorithm as digest_algorithm

__all__ = ["CannotWrite", "Elsewhere", "Partial"]

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_PIECE = 1 << 20


class CannotWrite(BaseException):
    """The target's disk does not take the bytes. Not an `Exception`: no tier may take it for a failure of its own."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Elsewhere:
    """A blob that a lookup has found and that is not in memory: no cache keeps it, and it answers no other lookup."""


class Partial(Elsewhere):
    """The bytes of one blob that have come so far (a `Sink` of the data plane).

    They lie in `.bitstore-<hash of the name>.partial` in the target's folder, and what they are the beginning
    of in a file `.origin` next to it. Each state on the disk between two system calls is one from which a later
    download can resume, or sees that it must start again.

    Parameters
    ----------
    target
        Where the file is wanted.
    verify
        Whether stores that know the digest check it.

    Attributes
    ----------
    size
        How many bytes are there.
    resumed
        Whether some of them are from an earlier download.
    checked
        The algorithm and the digest that the bytes are known to have.
    """

    def __init__(self, target: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.target = Path(target)
        self.verify = verify
        self.size = 0
        self.resumed = False
        self.checked: tuple[str, str] | None = None
        self._fd = -1
        self._use = threading.Lock()  # held while a blocking call uses the descriptor
        self._left = False  # whether the download is over: the call that uses the descriptor closes it
        self._path = self.target
        self._shared = False  # whether a later download will look for the file
        self._finished = False
        self._origin: Origin | None = None
        self._url = ""
        self._stale = False
        self._error: OSError | None = None
        self._furthest = 0  # bytes that were here when `advanced` was last true, or when the download began

    # ------------------------------------------------------------------ the file

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take possession of the partial file. It stays, for a later download, unless `finish` or `discard` is called.

        Raises
        ------
        FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
            There can be no such file as the target.
        OSError
            The target is a pipe, a device or an open descriptor. Links are followed.
        """
        if self.target.is_dir():
            raise IsADirectoryError(f"'{self.target}' is a folder: name a file to download to")
        self.target = target_of(self.target)
        if not self.target.parent.exists():  # else the error would name the partial file
            raise FileNotFoundError(errno.ENOENT, "there is no folder to download to", str(self.target.parent))
        self._take()
        try:
            yield
        finally:
            if not self._shared and not self._finished:
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
            self._left = True
            self._close()

    def finish(self) -> None:
        """Give the file its name."""
        self._forget_origin()
        self._guarded(self._path.replace, self.target)
        self._finished = True

    def discard(self) -> None:
        """Leave nothing behind."""
        self._shared = False
        self._forget_origin()

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        """Keep the descriptor open: the number of a closed one soon stands for another file."""
        if not self._use.acquire(blocking=False):
            raise OSError(errno.EBADF, "the download is over")
        try:
            yield
        finally:
            self._use.release()
            if self._left:
                self._close()

    def _close(self) -> None:
        """Close the file, and with it the lock on it, unless a call that ran out of time still uses it."""
        if self._use.acquire(blocking=False):  # for good, so the file is closed once
            os.close(self._fd)

    def _take(self) -> None:
        name = hashlib.sha256(os.fsencode(self.target.name)).hexdigest()[:24]  # any name is short enough with this one
        self._path = self.target.parent / f".bitstore-{name}.partial"
        while True:
            fd = os.open(self._path, _OPEN, 0o666)
            try:
                alone = _lock(fd)
                # The process that had the lock before may have finished: then this file is the target, or gone.
                mine = alone and _same(self._path, fd)
                regular = stat.S_ISREG(os.fstat(fd).st_mode)
            except BaseException:
                os.close(fd)
                raise
            if mine and regular:
                self._fd, self._shared = fd, True
                return
            os.close(fd)
            if not alone or not regular:
                break
        # Another process downloads to the same target right now: each into a file of its own, and the last one stays.
        self._path = self.target.parent / f".bitstore-{name}-{os.getpid()}-{secrets.token_hex(8)}.partial"
        self._fd = os.open(self._path, _OPEN | os.O_EXCL, 0o666)

    # ------------------------------------------------------------------ bytes from anywhere

    def restart(self) -> None:
        """Forget all bytes."""
        # The bytes before their origin: bytes whose origin is another would be taken for the wrong beginning.
        self._guarded(os.ftruncate, self._fd, 0)
        self._forget_origin()
        self.size = 0
        self.resumed = False
        self.checked = None

    def fill(self, data: Any) -> None:
        """Take the whole blob. TypeError unless it is bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"only bytes can be written to a file, not {type(data).__name__}")
        with self._used():
            self.restart()
            self._guarded(self._append, data)

    def copy(self, source: int) -> None:
        """Take what is in the open file `source`, from its beginning. OSError if that cannot be read."""
        with self._used():
            self.restart()
            if hasattr(os, "copy_file_range"):
                # The kernel copies, or shares the blocks where the file system can. Else the loop below copies.
                with contextlib.suppress(OSError):
                    while count := os.copy_file_range(source, self._fd, 1 << 30, self.size, self.size):
                        self.size += count
            os.lseek(source, self.size, os.SEEK_SET)
            while piece := os.read(source, _PIECE):
                self._guarded(self._append, piece)

    def digest(self, algorithm: str) -> str:
        """The digest of the bytes, as they are on the disk."""
        with self._used():
            self._guarded(os.lseek, self._fd, 0, os.SEEK_SET)
            return digest_algorithm(algorithm).of_pieces(lambda: self._guarded(os.read, self._fd, _PIECE))

    def head(self, count: int = 16) -> bytes:
        """The first bytes."""
        with self._used():
            self._guarded(os.lseek, self._fd, 0, os.SEEK_SET)
            head: bytes = self._guarded(os.read, self._fd, count)
        return head

    def whole(self) -> bytes:
        """All bytes."""
        with self._used():
            self._guarded(os.lseek, self._fd, 0, os.SEEK_SET)
            return b"".join(iter(lambda: self._guarded(os.read, self._fd, _PIECE), b""))

    # ------------------------------------------------------------------ bytes from a server: a Sink

    def expect(self, url: str) -> None:
        """What follows comes from `url`. Bytes from there that an earlier download has left are kept."""
        # Its hash, as it is kept on the disk, and a URL may have a signature in it.
        self._url = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        self._stale = False
        self._furthest = 0
        self._origin = Origin.read(self._origin_path) if self._shared else None
        length = os.fstat(self._fd).st_size
        if length and self._origin is not None and self._origin.explains(self._url, length):
            self.size = self._furthest = length
            self.resumed = True
            self.checked = None
        else:
            self.restart()

    @property
    def complete(self) -> bool:
        """All bytes are here already: the earlier download ended between the last byte and the new name."""
        return self._origin is not None and self._origin.size == self.size and self.size > 0

    @property
    def stale(self) -> bool:
        """The server answered with another version than the one of which the bytes are the beginning."""
        return self._stale

    def headers(self) -> tuple[str, ...]:
        """Ask for what is not there yet, of that version only."""
        if self.size and self._origin is None:
            self.restart()
        if not self.size or self._origin is None:
            return ()
        return f"Range: bytes={self.size}-", f"If-Match: {self._origin.etag}"

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """See `bitstore.steps.Sink`."""
        try:
            if status == 200:
                self.restart()
                self._write_origin(headers)
                return True
        except CannotWrite as failure:
            self._error = failure.error
            return False
        self._stale = self._origin is None or not self._origin.goes_on(headers, self.size)
        return not self._stale

    def write(self, chunk: bytes) -> bool:
        """See `bitstore.steps.Sink`."""
        try:
            self._append(chunk)
        except OSError as error:
            self._error = error  # in a callback of libcurl, which an exception would not leave
            return False
        return True

    def advanced(self) -> bool:
        """See `bitstore.steps.Sink`."""
        # Without an ETag the next try starts again, so nothing is gained. Nor is it by coming as far as before.
        origin = self._origin
        further = origin is not None and gets_on(self.size - self._furthest, self.size, origin.size)
        if further:
            self._furthest = self.size
        return further

    def ended(self, status: int, headers: Mapping[str, str]) -> None:
        """The whole answer has come; an empty body has been no news until now."""
        if status == 200 and not self.size:
            self.begin(status, headers)
        self.check()

    def check(self) -> None:
        """Raise `CannotWrite` if that was why a transfer ended."""
        if self._error is not None:
            raise CannotWrite(self._error)

    # ------------------------------------------------------------------ within

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        while left:
            count = os.pwrite(self._fd, left, self.size)
            self.size += count
            left = left[count:]

    def _guarded(self, function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except OSError as error:
            raise CannotWrite(error) from error

    @property
    def _origin_path(self) -> Path:
        return self._path.with_suffix(".origin")

    def _write_origin(self, headers: Mapping[str, str]) -> None:
        origin = Origin.of_answer(self._url, headers)
        if origin is None:
            return
        self._origin = origin
        if self._shared:  # written before the first byte is, so it is whole where there is anything to resume from
            self._guarded(origin.write, self._origin_path)

    def _forget_origin(self) -> None:
        self._origin = None
        with contextlib.suppress(OSError):
            self._origin_path.unlink()

    def __repr__(self) -> str:
        return f"Partial({str(self.target)!r}, {self.size} bytes)"


def _lock(fd: int) -> bool:
    """Whether the file is ours alone; it is until it is closed, however that comes about."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        return False
    return True


def _same(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False
