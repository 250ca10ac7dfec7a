"""The folder of a disk cache: which one it is, and whether this process may use it."""

# ruff: noqa: PTH100, PTH103, PTH110, PTH111, PTH114, PTH116, PTH117, PTH118, PTH120
from __future__ import annotations

import logging
import os
import stat

from bitstore._support.once import warn_once
from bitstore._support.sizes import parse_size
from bitstore.errors import AccessDenied, StoreNotAvailable

__all__ = ["Access", "absolute", "default_folder", "default_size", "examine", "make", "warn_of"]

logger = logging.getLogger("bitstore")


def default_folder() -> tuple[str, str | None]:
    """The folder of caches that name none, and why this process cannot use it; None: it can.

    It is what `BITSTORE_CACHE_DIR` names, or the usual place for caches of the operating system.

    A process has no home where neither `HOME` nor the list of users names one, as in a container that runs with a user
    id of its own. Images and services also name a home that is a file, or that belongs to another user.
    """
    if configured := os.environ.get("BITSTORE_CACHE_DIR"):
        try:
            return _expanded(configured), None
        except ValueError as error:
            return "", str(error)
    import platformdirs

    try:
        folder = os.path.join(platformdirs.user_cache_dir("bitstore"), "blobs")
        if not os.path.isabs(folder):
            return "", "this process has no home folder (HOME is not set)"
        os.stat(folder)
    except (NotADirectoryError, PermissionError) as error:
        return "", f"{folder}: {error.strerror}"
    except OSError:
        pass  # a folder that is not there is made at the first write; a disk that fails is reported by `examine`
    except (RuntimeError, KeyError) as error:  # what libraries raise where there is no home
        return "", f"this process has no home folder ({error.args[0] if error.args else error})"
    return folder, None


def warn_of(label: str, trouble: str) -> None:
    """Warn that a cache keeps nothing, once in this process."""
    warn_once(logger, "no cache folder", "%s: blobs are not kept, as there is no folder for them: %s", label, trouble)


def default_size() -> int:
    """Bytes of caches that name no size: `BITSTORE_CACHE_SIZE`, or 10 GB."""
    return parse_size(os.environ.get("BITSTORE_CACHE_SIZE") or "10GB", name="BITSTORE_CACHE_SIZE")


def absolute(folder: str | os.PathLike[str]) -> str:
    """The path of `folder`, which neither a change of the working folder nor another process reads as another one.

    Raises ValueError for what cannot be a path.
    """
    name: object = os.fspath(folder)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"cache folder {folder!r} is not a path: give a text such as '/mnt/nvme/blobs'")
    return os.path.abspath(_expanded(name))


def examine(root: str, label: str, *, allow_foreign_owner: bool) -> os.stat_result | None:
    """What the cache folder `root` is; None if it does not exist.

    Raises
    ------
    NotADirectoryError
        It is a file, or a file or a link that leads nowhere is on the way to it.
    AccessDenied
        Another user owns it, or this user may not look into a folder on the way to it. (A `PermissionError` too.)
    StoreNotAvailable
        The disk could not say, or the path is impossible.
    """
    try:
        found = os.stat(root)
    except FileNotFoundError:
        _check_links(root)
        return None
    except NotADirectoryError:
        raise NotADirectoryError(f"cache folder '{root}' cannot be: a part of its path is a file") from None
    except PermissionError:
        raise AccessDenied(
            label, f"cache folder '{root}' cannot be reached: user {os.geteuid()} may not enter '{_last_reached(root)}'"
        ) from None
    except OSError as error:
        raise StoreNotAvailable(label, f"cannot look at cache folder '{root}': {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"cache folder '{root}' is a file: name a folder, or a path that is free")
    if found.st_uid != os.geteuid() and not allow_foreign_owner:
        raise AccessDenied(
            label,
            f"the folder belongs to user {found.st_uid}, which could put anything there, and this is user "
            f"{os.geteuid()}; choose a folder of your own, or trust it with allow_foreign_owner=True",
        )
    return found


def make(root: str) -> None:
    """Make the folder, only for its owner. Raises `OSError` with the path of the cache folder."""
    try:
        os.makedirs(root, 0o700, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"the cache folder cannot be made: {error.strerror}", root) from error


def _check_links(root: str) -> None:
    """Raise NotADirectoryError if the first part of the path that does not exist is a link: its disk is not there."""
    path = root
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if os.path.islink(path) and not os.path.exists(path):
        target = os.path.realpath(path)
        raise NotADirectoryError(
            f"cache folder '{root}' cannot be: '{path}' is a link to '{target}', which is not there"
        )


def _last_reached(root: str) -> str:
    """The last folder on the way to `root` that this process can look at: it may not enter that one."""
    path = os.path.dirname(root)
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _expanded(folder: str) -> str:
    """`folder` with the home folder in place of `~`. Raises ValueError where there is no home."""
    path = os.path.expanduser(folder)
    if path.startswith("~") and path.partition("/")[0] == folder.partition("/")[0]:
        user = path.partition("/")[0]
        missing = "this process has no home folder (HOME is not set)" if user == "~" else f"there is no user {user[1:]}"
        raise ValueError(f"cache folder {folder!r}: {missing}; give an absolute path (./~ for a folder of that name)")
    return path


class Access:
    """Whether one process may use a cache folder.

    Parameters
    ----------
    root
        The folder, absolute; empty: there is none.
    label
        What messages call it.
    allow_foreign_owner
        Whether another user may own it. May be changed by `allow`.

    Attributes
    ----------
    trusted
        The folder is there, and may be used.
    owner
        The user that must own the files; None: any user.
    """

    __slots__ = ("_allow_foreign_owner", "_label", "_root", "owner", "trusted")

    def __init__(self, root: str, label: str, *, allow_foreign_owner: bool) -> None:
        self._root = root
        self._label = label
        self.owner: int | None = None
        self.allow(allow_foreign_owner)

    def allow(self, foreign_owner: bool) -> None:
        """Let the next call look again at the owner."""
        self._allow_foreign_owner = foreign_owner
        self.trusted = False

    def granted(self) -> bool:
        """Whether there is a folder. Raises what `examine` raises if it is not one that we trust."""
        if not self.trusted and self._look() is not None:
            self._trust()
        return self.trusted

    def make(self) -> os.stat_result | None:
        """Make the folder if there is none, and look at it in any case. Raises as `granted`, and `OSError`."""
        found = self._look()
        if found is None:
            make(self._root)
            found = self._look()
        self._trust()
        return found

    def _look(self) -> os.stat_result | None:
        return examine(self._root, self._label, allow_foreign_owner=self._allow_foreign_owner) if self._root else None

    def _trust(self) -> None:
        self.owner = None if self._allow_foreign_owner else os.geteuid()
        self.trusted = True
