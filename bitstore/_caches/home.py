"""The folder of a disk cache that names none: below the user's home, if this process has one."""

from __future__ import annotations

import logging
import os

from bitstore._support.once import warn_once

__all__ = ["expanded", "folder_of_cache", "warn_of"]

logger = logging.getLogger("bitstore")


def folder_of_cache() -> tuple[str, str | None]:
    """The folder of caches that name none, and why this process cannot use it; None: it can.

    It is what `BITSTORE_CACHE_DIR` names, or the usual place for caches of the operating system.

    A process has no home where neither `HOME` nor the list of users names one, as in a container that runs with a user
    id of its own. Images and services also name a home that is a file, or that belongs to another user.
    """
    if configured := os.environ.get("BITSTORE_CACHE_DIR"):
        try:
            return expanded(configured), None
        except ValueError as error:
            return "", str(error)
    import platformdirs

    try:
        folder = os.path.join(platformdirs.user_cache_dir("bitstore"), "blobs")  # noqa: PTH118
        if not os.path.isabs(folder):  # noqa: PTH117
            return "", "this process has no home folder (HOME is not set)"
        os.stat(folder)  # noqa: PTH116
    except FileNotFoundError:
        pass  # it is made at the first write
    except (NotADirectoryError, PermissionError) as error:
        return "", f"{folder}: {error.strerror}"
    except (RuntimeError, KeyError) as error:  # what libraries raise where there is no home
        return "", f"this process has no home folder ({error.args[0] if error.args else error})"
    return folder, None


def expanded(folder: str) -> str:
    """`folder` with the home folder in place of `~`. Raises ValueError where there is no home."""
    path = os.path.expanduser(folder)  # noqa: PTH111
    if path.startswith("~") and path.partition("/")[0] == folder.partition("/")[0]:
        user = path.partition("/")[0]
        missing = "this process has no home folder (HOME is not set)" if user == "~" else f"there is no user {user[1:]}"
        raise ValueError(f"cache folder {folder!r}: {missing}; give an absolute path (./~ for a folder of that name)")
    return path


def warn_of(label: str, trouble: str) -> None:
    """Warn that a cache keeps nothing, once in this process."""
    warn_once(logger, "no cache folder", "%s: blobs are not kept, as there is no folder for them: %s", label, trouble)
