"""What the processes of the disk cache's tests do. Run as a module, it kills itself at chosen calls."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bitstore._caches import folder as folders
from bitstore._caches import ledger
from bitstore._caches.disk import DiskCache
from bitstore._caches.draft import Draft
from bitstore._caches.folder import Folder
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
    "open close read pread write access lseek fstat stat lstat link unlink rename mkdir makedirs rmdir listdir scandir "
    "fchmod utime"
)
# What they come down to. A name that a machine does not know is passed over.
SYSTEM_CALLS = (
    "openat close read pread64 write faccessat2 lseek fstat newfstatat lstat stat link linkat unlink unlinkat "
    "rename renameat renameat2 mkdir mkdirat rmdir getdents64 fchmod utimensat ftruncate"
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


@contextlib.contextmanager
def killed_by_strace(call: str, number: int, pid: int) -> Iterator[None]:
    """Have another process killed when it enters the system call `call` for the `number`th time."""
    command = ["strace", "-o", os.devnull, "-e", f"trace=?{call}", "-e", f"inject=?{call}:signal=KILL:when={number}"]
    with subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said + strace.stderr.read()
        yield


def damage_one(folder: Path) -> None:
    path = random.choice(final_files(folder))
    path.write_bytes(bytes(path.stat().st_size))


def die_writing(folder: Path, size: int) -> None:
    """Leave what a process leaves that is killed in the middle of a write."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            draft = Draft(Folder(str(folder)), size)
            DiskCache(folder, BOUND, algorithm="sha1")._blobs().bound.ledger.reserve(size)
            draft.write(bytes(size // 2))
        os._exit(0)
    os.waitpid(child, 0)


def operate(folder: Path, what: str, serial: int) -> Callable[[], object]:
    """Prepare one operation; the function that is returned does it. Each `serial` means other blobs."""
    cache = DiskCache(folder, BOUND, algorithm="sha1")
    key, data = blob(1000 + serial, 9000 + serial % 1000)
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
    if what == "mend":  # a put over a damaged file
        cache.put(key, data)
        cache.path(key).write_bytes(bytes(len(data)))
        return lambda: cache.put(key, data)
    if what == "delete":
        cache.put(key, data)
        return lambda: cache.delete(key)
    if what == "reclaim":
        die_writing(folder, 3000)
        die_writing(folder, 2000)
        return lambda: cache.put(key, data)
    if what == "rotate":  # each record fills its ledger file
        cache._blobs().bound.ledger._max_bytes = 32
        return lambda: cache.put(key, data)
    if what == "recount":
        shutil.rmtree(folder / "ledger")  # by hand, say
        return lambda: cache.put(key, data)
    if what == "prune":
        for number in range(4):
            cache.put(*blob(number, 9000))
        return lambda: cache.prune(BOUND // 2)
    assert what == "clear"
    for number in range(4):
        cache.put(*blob(number, 9000))
    return cache.clear


def by_itself(folder: Path, what: str, serial: int, turn: int, *, torn: bool) -> int:
    """Do the operation in a child that kills itself at its `turn`th file operation; returns its status."""
    child = os.fork()
    if child == 0:
        act = operate(folder, what, serial)
        kill_at(turn, torn=torn)
        act()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def by_strace(folder: Path, what: str, serial: int, turn: int, *, call: str) -> int:
    """Do the operation in a child that is killed when it enters `call` for the `turn`th time; returns its status."""
    (ready, tell_ready), (go, tell_go) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        act = operate(folder, what, serial)
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER_ANY: strace is not our ancestor
        os.write(tell_ready, b"1")
        os.read(go, 1)
        act()
        os._exit(0)
    try:
        os.close(tell_ready)
        assert os.read(ready, 1), "the child died before its work"
        with killed_by_strace(call, turn, child):
            os.write(tell_go, b"1")
            return os.waitpid(child, 0)[1]
    finally:
        for fd in (ready, go, tell_go):
            os.close(fd)


def check(folder: Path, what: str, serial: int, turn: int) -> DiskCache:
    """All that must be true after a kill; returns the cache, opened again."""
    for path in final_files(folder):
        damaged = what in ("heal", "mend") and not any(path.read_bytes())
        assert is_whole(path) or damaged, f"{path} is not whole, killed at {turn}"
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    held = total_bytes(folder)
    assert held <= BOUND, f"{held} bytes, killed at {turn}"
    after = DiskCache(folder, BOUND, algorithm="sha1")
    known = after.stats()["bytes"]
    assert known is None or known >= held, f"the ledger says {known} of {held} bytes, killed at {turn}"
    key, data = blob(-serial, 5000)
    after.put(key, data)
    assert after.get(key) == data
    left = [*(folder / "tmp").iterdir(), *(folder / "ledger").glob(".*")]
    assert not left, f"drafts are left, killed at {turn}: {left}"
    assert total_bytes(folder) <= BOUND
    return after


def main(folder: Path, what: str, how: str) -> None:
    """Kill a process at its first, second, ... file operation, until one comes through; check after each."""
    if how == "kept":  # descriptors are kept open from the first record on, and in a folder that was just made
        ledger._KEEP = 1
        folders._SETTLED_NS = -(10**18)
    setup = DiskCache(folder, BOUND, algorithm="sha1")
    for number in range(5):
        setup.put(*blob(number, 9000))
    serial = kills = 0
    for call in SYSTEM_CALLS.split() if how == "strace" else [""]:
        for turn in range(1, 3000):
            kill = functools.partial(by_strace, call=call) if call else functools.partial(by_itself, torn=how == "torn")
            serial += 1
            status = kill(folder, what, serial, turn)
            after = check(folder, what, serial, turn)
            if os.waitstatus_to_exitcode(status) == 0:
                break
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            kills += 1
        else:
            raise AssertionError("never came through")
    after.verify_all()
    held = after.prune()
    assert held == total_bytes(folder), "a count finds exactly what is there"
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
