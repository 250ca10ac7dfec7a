"""What the tests of the disk cache do to files, folders and processes."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from bitstore import DiskCache
from bitstore._caches import folder as folders
from tests.disk_workers import blob


def fill(cache: DiskCache, number: int = 0, size: int = 1000) -> tuple[str, bytes, Path]:
    """Put the blob of a number into the cache; returns its key, its bytes and its file."""
    key, data = blob(number, size)
    cache.put(key, data)
    return key, data, cache.path(key)


def flip(path: Path) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def age(path: Path, seconds: float) -> None:
    """Set the time of a file's last use so many seconds back; a negative number: into the future."""
    os.utime(path, (time.time() - seconds,) * 2)


def keep_open(cache: DiskCache, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cache hold its descriptors, as it does after many writes into a folder of some age."""
    monkeypatch.setattr(folders, "_SETTLED_NS", 30 * 10**6)
    cache.put("a key", b"")
    for number in range(200, 300):
        fill(cache, number)
    while kept_open(folder) < 4:
        time.sleep(0.01)  # until the clock of the file system has gone on
        fill(cache, 300)
        cache.delete(blob(300, 1000)[0])


def kept_open(folder: Path) -> int:
    """How many descriptors of folders and ledgers this process has open below `folder`."""
    targets = (os.path.realpath(f"/dev/fd/{name}") for name in os.listdir("/dev/fd"))
    return sum(target.startswith(f"{folder.resolve()}/") for target in targets)


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)
