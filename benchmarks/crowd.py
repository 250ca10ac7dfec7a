"""Caches on disk with very many files, written straight into the layout of a `DiskCache`."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

__all__ = ["copy", "count", "fill", "hot", "lacking"]

_BLOCK = 4096  # bytes that a small file takes on most disks


def hot(folder: Path, *, count: int, size: int) -> list[str]:
    """Write random blobs into the cache in `folder`, which lies on a disk that holds nothing else of it yet."""
    digests = []
    for _ in range(count):
        data = os.urandom(size)
        digest = hashlib.sha1(data).hexdigest()
        place = folder / "sha1" / digest[:3]
        place.mkdir(parents=True, exist_ok=True)
        (place / digest).write_bytes(data)
        digests.append(digest)
    return digests


def copy(source: Path, target: Path, digests: list[str]) -> None:
    """Copy blobs from one cache to another."""
    for digest in digests:
        place = target / "sha1" / digest[:3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "sha1" / digest[:3] / digest, place / digest)


def fill(folder: Path, *, files: int, size: int | None, processes: int) -> None:
    """Write `files` blobs of `size` bytes (None: a few) into the cache in `folder`."""
    parts = [(folder, range(number, files, processes), size) for number in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(_fill, parts)


def _fill(folder: Path, numbers: range, size: int | None) -> None:
    root = f"{folder}/sha1"
    for number in range(4096):
        Path(f"{root}/{number:03x}").mkdir(parents=True, exist_ok=True)
    blobs = [(b"%-*d" % (size or 1, number)) for number in numbers]
    # In the order of the folders, so that the disk is not made to jump about.
    for digest, data in sorted((hashlib.sha1(data).hexdigest(), data) for data in blobs):
        file = os.open(f"{root}/{digest[:3]}/{digest}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, data)
        os.close(file)


def count(folder: Path) -> None:
    """Let the cache count what it holds, once, as it would have by writing the files itself."""
    from bitstore import DiskCache

    DiskCache(folder, "1TB", algorithm="sha1").prune()


def lacking(folder: Path, files: int) -> str | None:
    """Why the disk of `folder` cannot take so many files; None: it can."""
    disk = os.statvfs(folder)
    if disk.f_files and disk.f_favail < files * 1.2:
        return f"the disk has room for {disk.f_favail:,} more files only, and {files:,} are needed"
    need = int(files * _BLOCK * 1.3)
    if disk.f_bavail * disk.f_frsize < need:
        return f"the disk has less than {need / 1e9:.0f} GB free"
    return None
