"""Files that are whole under their name, or not there: written beside their target, then renamed.

A process that is killed leaves at most a draft, whose name begins with `.bitstore-` and ends with `.tmp`. Links are
followed, as a shell's `>` does. Folders, pipes and devices are never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DRAFTS",
    "Draft",
    "check_regular",
    "fitting_name",
    "is_special",
    "sweep",
    "target_of",
    "write_into",
    "write_whole",
]

DRAFTS: Final = ".bitstore-*.tmp"  # pattern of the drafts' names

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_ABANDONED = 3600.0  # seconds without a write after which a draft's writer is taken for dead
_NAME_MAX = 255  # bytes of a name, where the file system does not tell
_MOST_LINKS = 40  # links that lead to links, as the kernel follows them
# Names of open descriptors: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self))/fd/([0-9]{1,9})").fullmatch
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class Draft:
    """A new file under a name of its own in the folder of its target; it ends in `publish` or `discard`.

    As a context manager it discards what was not published. The draft's name has 30 bytes, whatever the target's has.

    Parameters
    ----------
    target
        The final name. Where it is a link, the file that the link leads to is meant.

    Raises
    ------
    OSError
        A folder, pipe or device has the name; the name is too long; links lead in a circle.
    """

    def __init__(self, target: Path) -> None:
        self.target = target_of(target)
        self.path = self.target.with_name(f".bitstore-{secrets.token_hex(8)}.tmp")

    def write(self, data: bytes) -> None:
        """Make the draft a file of these bytes. Raises `OSError`."""
        _write_all(os.open(self.path, _CREATE, 0o666), data)

    def publish(self, target: Path | None = None, *, replace: bool = True) -> None:
        """Give the draft its final name. Raises `OSError`.

        Parameters
        ----------
        target
            Another final name in the same folder.
        replace
            False: a file that has the name already stays, and the draft is discarded.
        """
        final = self.target if target is None else target_of(target)
        if replace:
            self.path.replace(final)
            return
        try:
            os.link(self.path, final)  # fails where the name is taken, which a rename would not
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # This file system has no links: at worst one whole file replaces another.
            self.path.replace(final)
        self.discard()

    def discard(self) -> None:
        """Delete the draft, if it is there."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()


def write_whole(target: Path, data: bytes) -> None:
    """Make `target` a file of these bytes: whole, or as it was before. Raises `OSError` as `Draft` does."""
    with Draft(target) as draft:
        draft.write(data)
        draft.publish()


def write_into(target: Path, data: bytes) -> None:
    """Write `data` into the device, pipe or open descriptor that `target` names; else as `write_whole`.

    The writer of a pipe waits until a reader opens it. Raises `OSError`.
    """
    number = _descriptor(target)
    if number is not None:
        descriptor = os.dup(number)
    elif is_special(target):
        descriptor = os.open(target, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
    else:
        write_whole(target, data)
        return
    _write_all(descriptor, data)


def is_special(path: Path) -> bool:
    """Whether `path` names, perhaps through links, something that is neither a plain file nor a folder."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def target_of(path: Path) -> Path:
    """The plain file that `path` names or will name, through all links.

    Raises
    ------
    OSError
        A folder, pipe or device is there; or the path is impossible.
    """
    if _descriptor(path) is not None:
        raise OSError(errno.EINVAL, "it is an open descriptor, not a regular file", str(path))
    try:
        check_regular(path.stat())
    except FileNotFoundError:
        pass
    except OSError as error:
        error.filename = str(path)
        raise
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_regular(status: os.stat_result) -> None:
    """Raise `OSError` unless this is the status of a plain file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def sweep(folder: Path) -> None:
    """Delete the drafts of killed processes in `folder`: those that are an hour old."""
    for draft in folder.glob(DRAFTS):
        with contextlib.suppress(OSError):  # another process may have deleted it
            if time.time() - draft.lstat().st_mtime > _ABANDONED:
                draft.unlink()


def fitting_name(folder: Path, stem: str, suffix: str) -> str:
    """`stem` and `suffix` as a name that the file system of `folder` takes: a long stem is cut, and its hash added."""
    name = stem + suffix
    try:
        most = os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        most = _NAME_MAX
    if len(os.fsencode(name)) <= most:
        return name
    mark = "-" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    room = most - len(os.fsencode(mark + suffix))
    return os.fsencode(stem)[:room].decode("utf-8", "ignore") + mark + suffix


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _descriptor(path: Path) -> int | None:
    """The number of the open descriptor that `path` names, such as `/dev/stdout`; None: it names no descriptor.

    To open such a name would begin a redirected file again at its first byte.
    """
    name = os.path.abspath(path)  # noqa: PTH100
    for _ in range(_MOST_LINKS):
        if (number := _STANDARD.get(name)) is not None:
            return number
        if match := _DESCRIPTOR(name):
            return int(match[1])
        try:
            name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))  # noqa: PTH115, PTH118, PTH120
        except OSError:
            return None
    return None
