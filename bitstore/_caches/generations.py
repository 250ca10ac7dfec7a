"""The files of a ledger: generations, each under its number. The newest one is the ledger."""

# ruff: noqa: PTH102
from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bitstore._caches.draft import draft_name, is_abandoned
from bitstore._caches.folder import Place
from bitstore._caches.held import Held
from bitstore._caches.records import DELTA, SIZE, START, View, is_start, pack

__all__ = ["Generations", "Kept", "NoLedger", "append"]

_DRAFT = ".new."
_NUMBER = re.compile(r"[0-9]{16}").fullmatch  # what `_name` makes, and no other number
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: the name may be a pipe
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | _FLAGS


class NoLedger(Exception):
    """What stands under the name of a generation is no ledger: it lost its bytes, or is no plain file."""

    def __init__(self, generation: int) -> None:
        super().__init__(generation)
        self.generation = generation


class Kept:
    """A ledger file that stays open between two records, which costs less than to open it for each."""

    __slots__ = ("_file", "_folder", "_inode", "_name", "fd", "identity", "view")

    def __init__(self, path: str, view: View) -> None:
        self.view = view
        self._name = _name(view.generation)
        self._folder = Held(os.open(path, _DIRECTORY))
        self._file = Held(os.open(self._name, os.O_RDWR | os.O_APPEND | _FLAGS, dir_fd=self._folder.fd))
        self.fd = self._file.fd
        found = os.fstat(self._folder.fd)
        self.identity = (found.st_ino, found.st_dev)
        self._inode = os.fstat(self.fd).st_ino

    def look(self) -> os.stat_result | None:
        """What is under the file's name now; None if it is another file, or nothing."""
        try:
            found = os.stat(self._name, dir_fd=self._folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found if found.st_ino == self._inode else None


class Generations:
    """The ledger files in one folder.

    Parameters
    ----------
    folder
        Where they are; made with the first of them.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def newest(self) -> int | None:
        """The highest number; None: there is no file."""
        try:
            with self._directory() as folder:
                return max((int(name) for name in os.listdir(folder) if _NUMBER(name)), default=None)
        except FileNotFoundError:
            return None

    def open(self, generation: int, flags: int) -> tuple[int, bytes]:
        """A descriptor of one file, and its first two records.

        Raises
        ------
        FileNotFoundError
            It is not there.
        NoLedger
            What is there is no ledger.
        """
        fd = -1
        try:
            with self._directory() as folder:
                try:
                    fd = os.open(_name(generation), flags | _FLAGS, dir_fd=folder)
                except FileNotFoundError:
                    raise
                except OSError:  # a symbolic link, a folder or a socket does not open like this
                    if stat.S_ISREG(os.stat(_name(generation), dir_fd=folder, follow_symlinks=False).st_mode):
                        raise
                    raise NoLedger(generation) from None
            try:
                start = os.pread(fd, 2 * SIZE, 0)
            except OSError:  # a pipe cannot be read like this
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    raise
                raise NoLedger(generation) from None
            if not is_start(start[:SIZE]):
                raise NoLedger(generation)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        return fd, start

    def create(self, generation: int, total: Callable[[], int], grown: int, epoch: int) -> None:
        """Make one file, unless another process has. Its first record says `total()`, `grown` and `epoch`."""
        # The cache folder itself may have been deleted under us: it is made again, as private as at first.
        Path(self.folder).parent.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)
        draft = f"{_DRAFT}{draft_name(SIZE)}"
        with self._directory() as folder:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=folder)
            try:
                try:
                    # The second record adds nothing, and tells this file from any other of the same number.
                    mark = int.from_bytes(os.urandom(7), "little")
                    append(fd, pack(START, total(), grown, epoch) + pack(DELTA, 0, mark, 0))
                finally:
                    os.close(fd)
                # A link, not a rename: it appears whole, and the first one stays.
                with contextlib.suppress(FileExistsError):
                    os.link(draft, _name(generation), src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)

    def drop_before(self, generation: int) -> None:
        """Delete the files of lower numbers, as far as the disk lets us."""
        with contextlib.suppress(OSError), self._directory() as folder:
            for name in os.listdir(folder):
                if _NUMBER(name) and int(name) < generation:
                    os.unlink(name, dir_fd=folder)

    def reclaim(self) -> None:
        """Delete the files that processes were just making when they died."""
        with contextlib.suppress(FileNotFoundError), self._directory() as folder:
            for name in os.listdir(folder):
                if name.startswith(_DRAFT):
                    with contextlib.suppress(FileNotFoundError):
                        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if is_abandoned(Place((), name.removeprefix(_DRAFT)), found)[0]:
                            os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        """A descriptor of the folder, which must be one and not a symbolic link to one."""
        fd = os.open(self.folder, _DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)


def _name(generation: int) -> str:
    return f"{generation:016d}"


def append(fd: int, record: bytes) -> int:
    """Append one record; returns where it ends."""
    if os.write(fd, record) != len(record):
        # A part of a record is skipped by every reader, so it does no harm.
        raise OSError(errno.ENOSPC, "the disk took only a part of a ledger record")
    return os.lseek(fd, 0, os.SEEK_CUR)  # O_APPEND leaves the position behind what was just written
