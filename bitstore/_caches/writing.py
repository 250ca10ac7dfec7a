"""How a blob gets into a disk cache: compared with what is there, or drafted, reserved and given its name."""

from __future__ import annotations

import os
import stat
import time

from bitstore._caches.blobs import READ, RESOLUTION, Blobs
from bitstore._caches.draft import Draft
from bitstore._caches.folder import Place
from bitstore._caches.quarantine import put_aside
from bitstore._support.sizes import format_size

__all__ = ["write"]


def write(blobs: Blobs, target: Place, data: bytes, max_blob_size: int | None) -> str:
    """Put `data` into the file at `target`; returns the counter to which it belongs.

    Raises
    ------
    OSError
        The disk does not take it.
    """
    bound, size = blobs.bound, len(data)
    if size > bound.max_size or (max_blob_size is not None and size > max_blob_size):
        blobs.warn_once("size", "a blob of %s is too large to be kept", format_size(size))
        return "skipped"
    fan = blobs.folder.enter(target.folders, create=True)
    try:
        # What is there already is older, also where the clock of the file system is too coarse to say so.
        newest = _newest(blobs, target) if len(target.folders) > 2 else 0
        if os.access(target.name, os.F_OK, dir_fd=fan, follow_symlinks=False) and _is_there(blobs, target, data):
            published = False
            mine = blobs.folder.stat(target) if newest else None
            if mine is not None and mine.st_mtime_ns <= newest:
                blobs.folder.touch(target, newest + 1)
        else:
            kept = _write_new(blobs, target, fan, data, newest)
            if kept is None:
                return "skipped"
            published = kept
    finally:
        os.close(fan)
    if len(target.folders) > 2:
        _replace_others(blobs, target)
    return "written" if published else "present"


def _is_there(blobs: Blobs, target: Place, data: bytes) -> bool:
    """Whether `data` is there already, which makes it used just now. Anything else is put out of the way."""
    folder = blobs.folder
    found = folder.stat(target)
    if found is None:
        return False
    plain = stat.S_ISREG(found.st_mode)
    holds = _holds(f"{folder.root}/{target}", data) if plain else False
    if holds:
        folder.touch(target)
    elif holds is not None:
        blobs.tell_damage(str(target), "its bytes do not match its name" if plain else "no plain file")
        put_aside(folder, blobs.bound, target, found if plain else None)
    return bool(holds)


def _holds(path: str, data: bytes) -> bool | None:
    """Whether the plain file at `path` has exactly these bytes; None if it is gone.

    To compare them costs far less than to write them, and a put that trusted the size would leave a damaged
    file where it is, for good if the cache is only written.
    """
    try:
        fd = os.open(path, READ)
    except FileNotFoundError:
        return None  # evicted just now
    except OSError:
        return False  # it does not open, such as on a bad sector: as good as damaged
    at = 0
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != len(data):
            return False
        while at < len(data):
            part = os.read(fd, 1 << 20)
            if not part or part != data[at : at + len(part)]:  # bytes: views compare one by one
                return False
            at += len(part)
    except OSError:
        return False  # nor can it be read
    finally:
        os.close(fd)
    return True


def _write_new(blobs: Blobs, target: Place, fan: int, data: bytes, newest: int) -> bool | None:
    """Write a file to `target`, whose folder is open as `fan`; false: one came there meanwhile, None: no room."""
    folder, bound, size = blobs.folder, blobs.bound, len(data)
    # The draft comes before the reservation: a count that runs meanwhile must see one or the other. It comes after
    # the ledger: the count with which that begins would take it for reserved already.
    bound.ledger.ensure()
    draft = Draft(folder, size)
    reserved = published = False
    try:
        lowest = bound.ledger.reserve(size)
        reserved = True
        if lowest < size:  # impossible, so the folder was changed by hand
            lowest = bound.recount()
        if lowest > bound.max_size and not bound.make_room(lowest):
            return None
        draft.write(data)
        draft.be_younger(newest)
        published = draft.publish(target, fan)
    finally:
        if not published:
            epoch = bound.ledger.epoch
            # The process that deletes a draft releases its bytes. No other may, or they would be subtracted twice.
            if draft.discard() and reserved:
                bound.ledger.release(size, epoch)
    return published


def _newest(blobs: Blobs, target: Place) -> int:
    """The time of the youngest other value of the key, in nanoseconds, but for those from the future; 0: none."""
    others = [Place(target.folders, name) for name in blobs.folder.beside("/".join(target.folders))]
    found = [blobs.folder.stat(other) for other in others if other != target]
    latest = time.time() + RESOLUTION
    return max((each.st_mtime_ns for each in found if each is not None and each.st_mtime <= latest), default=0)


def _replace_others(blobs: Blobs, target: Place) -> None:
    """Of several values of one key the last one put counts."""
    mine = blobs.folder.stat(target)
    for name in blobs.folder.beside("/".join(target.folders)):
        other = Place(target.folders, name)
        found = None if other == target else blobs.folder.stat(other)
        if mine is None or found is None:
            continue
        # Two writers at the same time must not delete both values, so the younger one stays, by time and name. But
        # one from the future is left from before the clock was set back.
        older = (found.st_mtime_ns, name) < (mine.st_mtime_ns, target.name)
        if older or found.st_mtime > time.time() + RESOLUTION:
            blobs.bound.delete(other)
