"""What the processes of the disk cache's tests do. Run as a module, it kills itself at chosen calls."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import stat
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bitstore.caches.disk import DiskCache
from bitstore.errors import NotFoundInStore

BOUND = 40_000  # room for four of the blobs that the killed processes write
TOPS = ("sha1", "sha256", "md5", "keys")


def blob(number: int, size: int) -> tuple[str, bytes]:
    """A blob of `size` bytes that `number` determines, and its sha1."""
    data = random.Random(number).randbytes(size)
    return hashlib.sha1(data).hexdigest(), data


def final_files(folder: Path) -> list[Path]:
    """All plain files under final names."""
    found: list[Path] = []
    for top in TOPS:
        for root, _, names in os.walk(folder / top):
            found += [Path(root) / name for name in names]
    return found


def total_bytes(folder: Path) -> int:
    """Bytes under final names."""
    return sum(path.lstat().st_size for path in final_files(folder))


def is_whole(path: Path) -> bool:
    """Whether a file is what its name says."""
    data = path.read_bytes()
    if path.parent.suffix == ".d":
        return hashlib.blake2b(data, digest_size=16).hexdigest() == path.name
    return hashlib.new(path.parts[-3], data).hexdigest() == path.name


def churn(folder: str, max_size: int, seed: int, largest: int, stop: Event) -> None:
    """Put and get at random until told to stop."""
    dice = random.Random(seed)
    cache = DiskCache(folder, max_size, algorithm="sha1")
    while not stop.is_set():
        number = dice.randrange(200)
        key, data = blob(number, random.Random(-number).randrange(largest))
        action = dice.random()
        if action < 0.5:
            cache.put(key, data)
        elif action < 0.55:
            cache.put("a key of all", data)
        elif action < 0.57:
            cache.delete(key)
        else:
            try:
                assert cache.get(key) == data
            except NotFoundInStore:
                continue
    assert cache.stats()["damaged"] == 0


# Every file operation that the cache uses. Each is a moment at which a process may be killed.
OPERATIONS = (
    "open close read pread write fstat stat lstat link unlink rename mkdir makedirs rmdir listdir scandir fchmod utime"
)


def kill_at(number: int, *, torn: bool) -> None:
    """Have this process killed at its `number`th file operation; if that is a write, after half of it."""
    left = number

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if torn and name == "write":
                    function(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return operation

    for name in OPERATIONS.split():
        setattr(os, name, wrap(name, getattr(os, name)))


def damage_one(folder: Path) -> None:
    path = random.choice(final_files(folder))
    path.write_bytes(bytes(path.stat().st_size))


def operate(folder: Path, what: str, turn: int) -> Callable[[], object]:
    """Prepare one operation; the function that is returned does it."""
    cache = DiskCache(folder, BOUND, algorithm="sha1")
    key, data = blob(1000 + turn, 9000 + turn)
    if what == "put":
        return lambda: cache.put(key, data)
    if what == "replace":
        return lambda: cache.put("always the same", data)
    if what == "heal":
        damage_one(folder)

        def heal() -> None:
            cache.verify_all()
            cache.put(key, data)

        return heal
    if what == "prune":
        for number in range(4):
            cache.put(*blob(number, 9000))
        return lambda: cache.prune(BOUND // 2)
    for number in range(4):
        cache.put(*blob(number, 9000))
    return cache.clear


def main(folder: Path, what: str, torn: bool) -> None:
    """Kill a process at its first, second, ... file operation, until one comes through; check after each."""
    setup = DiskCache(folder, BOUND, algorithm="sha1")
    for number in range(5):
        setup.put(*blob(number, 9000))
    for turn in range(1, 3000):
        child = os.fork()
        if child == 0:
            act = operate(folder, what, turn)
            kill_at(turn, torn=torn)
            act()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for path in final_files(folder):
            assert is_whole(path) or what == "heal", f"{path} is not whole, killed at {turn}"
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        held = total_bytes(folder)
        assert held <= BOUND, f"{held} bytes, killed at {turn}"
        after = DiskCache(folder, BOUND, algorithm="sha1")
        known = after.stats()["bytes"]
        assert known is None or known >= held, f"the ledger says {known} of {held} bytes, killed at {turn}"
        key, data = blob(-turn, 5000)
        after.put(key, data)
        assert after.get(key) == data
        assert not list((folder / "tmp").iterdir()), f"drafts are left, killed at {turn}"
        assert total_bytes(folder) <= BOUND
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    else:
        raise AssertionError("never came through")
    after.verify_all()
    held = after.prune()
    assert held == total_bytes(folder), "a count finds exactly what is there"
    print(turn)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "torn")
