"""The files of a disk cache: where they are, and how they come and go.

::

    <root>/sha1/3f7/3f786850e387550fdab836ed7e6dc881de23001b    bytes that match their digest
    <root>/sha1/3f7/3f786850...23001b.d/<checksum>              bytes that do not (they were not verified)
    <root>/keys/a02/a02c13f9....d/<checksum>                    keys that are no digests: by sha256 of the key
    <root>/tmp/           drafts: files that are being written
    <root>/quarantine/    files that were found damaged
    <root>/ledger/        see `ledger`

Writes, renames and deletions follow no symbolic link below the root, so that nothing outside is ever changed
through a link inside; and only plain files are read. A read goes by its path: where a *folder* is
a link, it finds what is behind it, and takes it only if it matches its name. (To open each folder on the way would
cost a third more.)
"""

# ruff: noqa: PTH103, PTH116
from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import stat
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bitstore._caches.held import Held
from bitstore._support.digests import ALGORITHMS

__all__ = ["DRAFT", "TOPS", "Folder", "Item", "Place", "is_unmatched"]

TOPS = (*ALGORITHMS, "keys")
_FAN = re.compile(r"[0-9a-f]{3}")
_DIGEST = "|".join(f"[0-9a-f]{{{kind.length}}}" for kind in ALGORITHMS.values())
_BLOB = re.compile(_DIGEST)
_BESIDE = re.compile(rf"(?:{_DIGEST})\.d")
_SETTLED_NS = 3 * 10**9  # more than the coarsest clocks of file systems
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DRAFT = re.compile(r"(?P<space>[0-9a-f]+)\.(?P<pid>[0-9]+)\.(?P<token>[0-9a-f]+)\.[0-9]+\.(?P<size>[0-9]{1,19})")


class Place(NamedTuple):
    """Where a file is: the folders below the root, and its name there."""

    folders: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return "/".join((*self.folders, self.name))


def is_unmatched(place: str) -> bool:
    """Whether the file at `place` (its path below the root) is of bytes that do not match their digest."""
    return ".d/" in place and not place.startswith("keys/")


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
        # Folders of the root that stay open while nothing is made, renamed or deleted there: that would change the
        # root's ctime, which no program can set. Until it is some seconds old, a change might leave it as it is. It is
        # one value with the root to which it belongs, as threads that have seen different ones come here together.
        self._tops: tuple[tuple[int, int, int], dict[str, Held] | None] = ((0, 0, 0), None)

    def seen(self, root: os.stat_result) -> None:
        """Take note of the root at the beginning of each write: descriptors may be believed while it is the same."""
        stamp = (root.st_dev, root.st_ino, root.st_ctime_ns)
        known, tops = self._tops
        if stamp != known or tops is None:
            settled = abs(time.time_ns() - root.st_ctime_ns) > _SETTLED_NS
            self._tops = (stamp, {} if settled else None)

    def look(self) -> None:
        """See for yourself what the root is."""
        try:
            self.seen(os.stat(self.root))
        except OSError:
            self.forget()

    def forget(self) -> None:
        """Let go of what is kept open, such as after an error: others may have closed the descriptors."""
        self._tops = ((0, 0, 0), None)

    def top(self, name: str, *, create: bool = False) -> Held:
        """A descriptor of a folder of the root, as of what was last `seen`; call its `done`. Raises as `open`."""
        # A thread that has just seen a change makes a new dictionary, so what we open meanwhile is lost with the old.
        tops = self._tops[1]
        held = None if tops is None else tops.get(name)
        if held is None:
            held = Held(self.open((name,), create=create))
            if tops is not None:
                held.kept = True
                tops[name] = held
        return held

    def enter(self, folders: tuple[str, ...], *, create: bool = False) -> int:
        """Like `open`, but as of what was last `seen`, which costs less."""
        if len(folders) == 2 and self._tops[1] is not None:
            try:
                top = self.top(folders[0])
                return os.open(folders[1], _DIRECTORY, dir_fd=top.fd)
            except FileNotFoundError:
                if not create:
                    raise
        return self.open(folders, create=create)

    def open(self, folders: tuple[str, ...], *, create: bool = False) -> int:
        """A descriptor of a folder below the root, reached through no symbolic link.

        Raises
        ------
        FileNotFoundError
            It does not exist (and `create` is false).
        NotADirectoryError
            A file or a symbolic link is in its place.
        """
        attempts = 0
        while True:
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
                attempts += 1
                if not create or attempts > 100:
                    raise
            except BaseException:
                if fd >= 0:
                    os.close(fd)
                raise
            else:
                return fd

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
        """What is at `place`; None if nothing is. A file in place of a folder is a failure, and raises `OSError`."""
        try:
            return os.lstat(f"{self.root}/{place}")
        except FileNotFoundError:
            return None

    def touch(self, place: Place, mtime_ns: int | None = None) -> None:
        """Mark as used now, or at the given time, as far as the disk lets us (it may be read-only)."""
        times: dict[str, Any] = {} if mtime_ns is None else {"ns": (mtime_ns, mtime_ns)}
        with contextlib.suppress(OSError):
            folder = self.open(place.folders)
            try:
                os.utime(place.name, dir_fd=folder, follow_symlinks=False, **times)
            finally:
                os.close(folder)

    def beside(self, path: str) -> list[str]:
        """Names of the files in the `.d` folder at `path`, below the root; none if there is no such folder."""
        try:
            return [name for name in os.listdir(f"{self.root}/{path}") if _BLOB.fullmatch(name)]
        except FileNotFoundError:
            return []

    def unlink(self, place: Place, *, mtime_ns: int | None = None, kept: bool = False) -> int | None:
        """Delete the plain file at `place`. Returns its size, or None if this call did not delete it.

        Parameters
        ----------
        mtime_ns
            The file is left alone if its time is another one.
        kept
            Believe what was last `seen` of the root.
        """
        try:
            folder = self.enter(place.folders) if kept else self.open(place.folders)
            try:
                found = os.stat(place.name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and (mtime_ns is None or found.st_mtime_ns == mtime_ns):
                    os.unlink(place.name, dir_fd=folder)
                    return found.st_size
            finally:
                os.close(folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None

    # -- listing

    def items(self, *, shuffled: bool = False, skip: frozenset[int] = frozenset()) -> Iterator[list[Item]]:
        """The blobs' files, a list for each fan-out folder; empty folders are removed on the way.

        Parameters
        ----------
        shuffled
            For a few of them: begin at a random folder, so that several processes look at different ones, and believe
            what was last `seen` of the root.
        skip
            Numbers of inodes to leave out.
        """
        fans = [(top, fan) for top in TOPS for fan in self._names((top,)) if _FAN.fullmatch(fan)]
        start = random.randrange(len(fans)) if shuffled and fans else 0
        for fan in itertools.chain(fans[start:], fans[:start]):
            yield self._list(fan, skip, kept=shuffled)

    def _names(self, folders: tuple[str, ...]) -> list[str]:
        try:
            fd = self.open(folders)
        except (FileNotFoundError, NotADirectoryError):
            return []  # nothing there, or something that is not ours
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _list(self, folders: tuple[str, ...], skip: frozenset[int], *, kept: bool = False) -> list[Item]:
        items: list[Item] = []
        try:
            fd = self.enter(folders) if kept else self.open(folders)
        except (FileNotFoundError, NotADirectoryError):
            return items
        empty = True
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    empty = False
                    name = entry.name
                    if _BLOB.fullmatch(name):
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if stat.S_ISREG(found.st_mode) and found.st_ino not in skip:
                            items.append(Item(found.st_mtime_ns, found.st_size, Place(folders, name)))
                    elif _BESIDE.fullmatch(name) and entry.is_dir(follow_symlinks=False):
                        items += self._list((*folders, name), skip)
        finally:
            os.close(fd)
        if empty:
            # A writer that is about to put a file there finds the folder gone, and makes it again.
            with contextlib.suppress(OSError):
                parent = self.open(folders[:-1])
                try:
                    os.rmdir(folders[-1], dir_fd=parent)
                finally:
                    os.close(parent)
        return items

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
