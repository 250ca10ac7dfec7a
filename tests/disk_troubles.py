"""What the tests of disk trouble need: children with rights and mounts of their own, failing file operations."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from bitstore._tiers.breaker import FAILURES
from bitstore._tiers.composite import Composite
from tests.disk_workers import OPERATIONS
from tests.stores import Shelf

__all__ = ["FailingDisk", "Heard", "in_child", "lookups_go_on", "mount", "own_mounts", "snapshot", "use_of"]

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def in_child(function: Callable[[], object]) -> object:
    """Run `function` in a forked child: its exit code is 0, or what the function returns, if that is a number.

    Fails if the function does, or blocks for four minutes (pytest ends the test after five).
    """
    child = os.fork()
    if child == 0:
        signal.alarm(240)
        code = 1
        try:
            told = function()
            code = told if isinstance(told, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 77), f"the child ended with {code}"
    return code


def own_mounts() -> bool:
    """Give this process (a fork without threads) file systems of its own; whether that is allowed."""
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:
        return False
    return _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)


def mount(what: Path | None, where: Path, options: str = "") -> None:
    """Mount a tmpfs with these options, or the file or folder `what` once more ("ro": only for reading)."""
    if what is None:
        assert _mount("tmpfs", where, "tmpfs", 0, options), os.strerror(ctypes.get_errno())
        return
    assert _mount(what, where, None, _MS_BIND, None), os.strerror(ctypes.get_errno())
    if options == "ro":
        flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
        # Flags that the mount below has must be named again, or an ordinary user may not change it.
        below = os.statvfs(where).f_flag
        flags |= below & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_RELATIME)
        assert _mount(None, where, None, flags, None), os.strerror(ctypes.get_errno())


def _mount(what: Path | str | None, where: Path | str, kind: str | None, flags: int, options: str | None) -> bool:
    texts = [None if text is None else os.fsencode(text) for text in (what, where, kind, options)]
    return int(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])) == 0


class Heard(logging.Handler):
    """What the library has logged since this was made."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        logging.getLogger("bitstore").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def check(self) -> None:
        """Nothing was said twice, but which blobs are replaced."""
        kinds = [_kind(record) for record in self.records if "it will be replaced" not in record.msg]
        assert len(set(kinds)) == len(kinds), [record.getMessage() for record in self.records]


def _kind(record: logging.LogRecord) -> str:
    if "said once" in record.msg and isinstance(record.args, tuple):  # the texts of a disk cache differ in this
        return " ".join(str(record.args[1]).split()[:2])
    return record.msg + " (writes)" * ("(writes)" in record.getMessage())  # these have a breaker of their own


def _callers(frame: FrameType | None) -> str:
    names: list[str] = []
    while frame is not None and len(names) < 5:
        names.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(names)


def snapshot(folder: Path) -> dict[str, object]:
    """All that the files in a folder show."""
    told: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        found = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(found.st_mode) else None
        told[str(path)] = (found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns, found.st_nlink, data)
    return told


def lookups_go_on(store: Composite, shelf: Shelf) -> None:
    """All blobs of the source can be had, one by one and in a batch, more often than it takes to open a breaker."""
    assert len(shelf.held) > FAILURES
    for _ in range(2):
        for key, data in shelf.held.items():
            assert store.get(key) == data
        for found in store.get_many(shelf.held):
            assert found.data == shelf.held[found.uri], found.error


def use_of(store: Composite) -> int:
    """How often the cache of this composite could not do its part, as far as it is counted."""
    cache = next(iter(store.stats().values()))
    return cache.failures + cache.write_failures + cache.invalid


class FailingDisk:
    """Makes a file operation of this process fail: the `number`th, and all behind it if `lasting`.

    Parameters
    ----------
    code
        Which error.
    number, lasting
        Which operation.
    """

    def __init__(self, code: int, number: int, *, lasting: bool) -> None:
        self.done = 0
        self.failed = ""  # the first operation that did, and where
        self._code = code
        self._number = number
        self._lasting = lasting
        self._real = {name: getattr(os, name) for name in OPERATIONS.split()}

    def __enter__(self) -> FailingDisk:
        for name, function in self._real.items():
            setattr(os, name, self._failing(name, function))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)

    def _failing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            self.done += 1
            if self.done != self._number and not (self._lasting and self.done > self._number):
                return function(*args, **options)
            if not self.failed:
                self.failed = f"{name} of {_callers(sys._getframe(1))}"
            if name == "close":  # whatever it says, the descriptor is closed
                function(*args)
            if name == "write":  # a part of it may have come through
                function(args[0], bytes(args[1])[: len(args[1]) // 2])
            raise OSError(self._code, os.strerror(self._code))

        return operation
