"""The files of a disk cache: where they are, and how they come and go.

::

    <root>/sha1/3f7/3f786850e387550fdab836ed7e6dc881de23001b    bytes that match their digest
    <root>/sha1/3f7/3f786850...23001b.d/<checksum>              bytes that do not (nobody had verified them)
    <root>/keys/a02/a02c13f9....d/<checksum>                    keys that are no digests: by sha256 of the key
    <root>/tmp/           drafts: files that are being written
    <root>/quarantine/    files that were found damaged
    <root>/ledger/        see `ledger`

Everything below the root is opened without following symbolic links, and only plain files are read or
deleted, so that nothing outside is ever touched through a link that somebody put inside.
"""

# ruff: noqa: PTH103
from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["DRAFT", "TOPS", "Folder", "Item", "Place"]

TOPS = ("sha1", "sha256", "md5", "keys")
_FAN = re.compile(r"[0-9a-f]{3}")
_BLOB = re.compile(r"[0-9a-f]{32,64}")
_BESIDE = re.compile(r"[0-9a-f]{32,64}\.d")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DRAFT = re.compile(r"(?P<space>[0-9a-f]+)\.(?P<pid>[0-9]+)\.(?P<token>[0-9a-f]+)\.[0-9]+\.(?P<size>[0-9]{1,19})")


class Place(NamedTuple):
    """Where a file is: the folders below the root, and its name there."""

    folders: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return "/".join((*self.folders, self.name))


class Item(NamedTuple):
    """A blob's file, as a listing found it. Sorts by age."""

    mtime_ns: int
    size: int
    place: Place


class Folder:
    """The file operations of one cache folder.

    Parameters
    ----------
    root
        Absolute path. It is made (0700) at the first write.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def open(self, folders: tuple[str, ...], *, create: bool = False) -> int:
        """A descriptor of a folder below the root, reached through no symbolic link.

        Raises
        ------
        FileNotFoundError
            It does not exist (and `create` is false).
        NotADirectoryError
            A file or a symbolic link is in its place.
        """
        for attempt in itertools.count():
            fd = self._open(f"{self.root}/{folders[0]}", None, create)
            try:
                for name in folders[1:]:
                    parent, fd = fd, -1
                    try:
                        fd = self._open(name, parent, create)
                    finally:
                        os.close(parent)
            except FileNotFoundError:
                # An eviction may remove a folder that is empty just when we are about to make another one in it.
                if not create or attempt == 100:
                    raise
            except BaseException:
                if fd >= 0:
                    os.close(fd)
                raise
            else:
                return fd
        raise AssertionError("unreachable")

    def _open(self, name: str, parent: int | None, create: bool) -> int:
        while True:
            try:
                return os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if not create:
                    raise
            if parent is None:
                os.makedirs(self.root, 0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)

    def stat(self, place: Place) -> os.stat_result | None:
        """What is at `place`; None if nothing is."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.lstat(f"{self.root}/{place}")
        return None

    def touch(self, place: Place) -> None:
        """Mark as used now, as far as the disk lets us (it may be read-only)."""
        with contextlib.suppress(OSError):
            folder = self.open(place.folders)
            try:
                os.utime(place.name, dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(folder)

    def beside(self, path: str) -> list[str]:
        """Names of the files in the `.d` folder at `path`, below the root; none if there is no such folder."""
        try:
            return [name for name in os.listdir(f"{self.root}/{path}") if _BLOB.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def unlink(self, place: Place, *, only: Callable[[os.stat_result], bool] | None = None) -> int | None:
        """Delete the plain file at `place`. Returns its size, or None if this call did not delete it.

        Parameters
        ----------
        only
            Told what is there; the file is left alone if it says no.
        """
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder = self.open(place.folders)
            try:
                found = os.stat(place.name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and (only is None or only(found)):
                    os.unlink(place.name, dir_fd=folder)
                    return found.st_size
            finally:
                os.close(folder)
        return None

    # -- listing

    def items(self, *, shuffled: bool = False, skip: frozenset[int] = frozenset()) -> Iterator[list[Item]]:
        """The blobs' files, a list for each fan-out folder; empty folders are removed on the way.

        Parameters
        ----------
        shuffled
            Begin at a random folder, so that several processes look at different ones.
        skip
            Numbers of inodes to leave out.
        """
        fans = [(top, fan) for top in TOPS for fan in self._names((top,)) if _FAN.fullmatch(fan)]
        start = random.randrange(len(fans)) if shuffled and fans else 0
        for fan in itertools.chain(fans[start:], fans[:start]):
            yield list(self._list(fan, skip))

    def _names(self, folders: tuple[str, ...]) -> list[str]:
        try:
            fd = self.open(folders)
        except (FileNotFoundError, NotADirectoryError):
            return []  # nothing there, or something that is not ours
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _list(self, folders: tuple[str, ...], skip: frozenset[int]) -> Iterator[Item]:
        try:
            fd = self.open(folders)
        except (FileNotFoundError, NotADirectoryError):
            return
        empty = True
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    empty = False
                    if _BLOB.fullmatch(entry.name):
                        with contextlib.suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            if stat.S_ISREG(found.st_mode) and found.st_ino not in skip:
                                yield Item(found.st_mtime_ns, found.st_size, Place(folders, entry.name))
                    elif _BESIDE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                        yield from self._list((*folders, entry.name), skip)
        finally:
            os.close(fd)
        if empty:
            # Whoever is about to put a file there finds the folder gone, and makes it again.
            with contextlib.suppress(OSError):
                parent = self.open(folders[:-1])
                try:
                    os.rmdir(folders[-1], dir_fd=parent)
                finally:
                    os.close(parent)

    def measure(self) -> int:
        """Bytes of all drafts and blobs.

        Drafts first: a file only ever goes from draft to blob, so one that this order misses did not exist
        when it began. One that is both at that moment is the same inode, and counted once.
        """
        total = 0
        inodes = set()
        for place, size in self.drafts():
            if (found := self.stat(place)) is not None:
                inodes.add(found.st_ino)
                total += size
        for items in self.items(skip=frozenset(inodes)):
            total += sum(item.size for item in items)
        return total

    def drafts(self) -> list[tuple[Place, int]]:
        """The files that are being written, with the size that each will have (its name tells)."""
        return [
            (Place(("tmp",), name), int(match["size"]))
            for name in self._names(("tmp",))
            if (match := DRAFT.fullmatch(name)) is not None
        ]

    def others(self, top: str) -> list[Place]:
        """Whatever is in one of the folders that hold no blobs, in the order of the names."""
        return [Place((top,), name) for name in sorted(self._names((top,)))]
