"""Where damaged files go: out of the way at once, but still there to be looked at."""

# ruff: noqa: PTH106, PTH108
from __future__ import annotations

import contextlib
import os
import stat
import time

from bitstore._caches.bound import Bound
from bitstore._caches.folder import Folder, Place

__all__ = ["put_aside", "trim"]

_KEEP = 8  # files
_SHARE = 64  # and together at most this part of the cache's bound


def put_aside(folder: Folder, bound: Bound, place: Place, seen: os.stat_result | None) -> bool:
    """Move the damaged file at `place` to the quarantine; whether it was this call that did.

    Parameters
    ----------
    folder, bound
        The cache folder, and its bound: the file no longer counts for it.
    place
        Where the file is.
    seen
        What was found damaged; None for something that is no plain file.

    Raises
    ------
    OSError
        The disk does not let us.
    """
    try:
        source = folder.open(place.folders)
    except FileNotFoundError:
        return False  # evicted meanwhile, and its folder with it
    try:
        target = folder.open(("quarantine",), create=True)
        try:
            name = f"{time.time_ns():020d}.{os.getpid()}.{place.name}"
            epoch = bound.ledger.epoch
            try:
                os.rename(place.name, name, src_dir_fd=source, dst_dir_fd=target)
            except FileNotFoundError:
                return False
            moved = os.stat(name, dir_fd=target, follow_symlinks=False)
            if stat.S_ISREG(moved.st_mode):
                bound.ledger.release(moved.st_size, epoch)
            if seen is not None and (moved.st_ino, moved.st_size) != (seen.st_ino, seen.st_size):
                # Another process has put the damaged file aside and a good one in its place, after we had read the
                # first and before we renamed: what we have moved is the good one. Back with it.
                _restore(bound, name, target, place.name, source)
                return False
        finally:
            os.close(target)
    finally:
        os.close(source)
    trim(folder, bound.max_size // _SHARE)
    return True


def _restore(bound: Bound, name: str, source: int, final: str, target: int) -> None:
    """Link the file back under its final name, as if it were written now: with a reservation, and within the bound."""
    epoch = bound.ledger.epoch
    size = os.stat(name, dir_fd=source, follow_symlinks=False).st_size
    restored = False
    if bound.ledger.reserve(size) <= bound.max_size:
        with contextlib.suppress(FileExistsError):
            os.link(name, final, src_dir_fd=source, dst_dir_fd=target)
            restored = True
    os.unlink(name, dir_fd=source)
    if not restored:
        bound.ledger.release(size, epoch)


def trim(folder: Folder, max_bytes: int, *, keep: int = _KEEP) -> None:
    """Delete what was put aside first, until at most `keep` entries and `max_bytes` are left."""
    count = total = 0
    for place in reversed(folder.others("quarantine")):
        found = folder.stat(place)
        if found is None:
            continue
        count += 1
        total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if count > keep or total > max_bytes:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(found.st_mode):
                    os.unlink(f"{folder.root}/{place}")  # of a symbolic link, this deletes the link
                else:
                    # A folder with something inside was never ours, so its contents are not ours to delete.
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{folder.root}/{place}")
