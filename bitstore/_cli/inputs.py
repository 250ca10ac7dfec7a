"""The files that a command is given: files, folders with all that is below them, and standard input."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bitstore._support.atomic import DRAFTS
from bitstore._support.redact import text_of

__all__ = ["Input", "check_inputs", "inputs", "readable", "scratch_folder"]

_PIECE = 1 << 20  # bytes


class Input(NamedTuple):
    """A file that was named or found."""

    # What the user calls it: as it was given, or below the folder that was given.
    name: str
    # Where its bytes are.
    path: Path
    # Bytes when it was found.
    size: int = 0
    # Why it is passed over without a failure (a link, a pipe); None: it is not.
    left_out: str | None = None
    # Why it cannot be had; None: it can.
    error: str | None = None


def check_inputs(names: list[str]) -> None:
    """Raise ValueError for a name of which nothing can be had."""
    for name in names:
        if name == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed: name a file")
            if names.count("-") > 1:
                raise ValueError("standard input (-) can be read once, and is named more often")
            continue
        try:
            mode = Path(name).stat().st_mode
        except (OSError, ValueError) as error:  # ValueError: a NUL in it
            raise ValueError(f"cannot read {readable(name)}: {getattr(error, 'strerror', None) or error}") from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode)):
            raise ValueError(f"{readable(name)} is neither a file, a folder nor a pipe")


def inputs(names: list[str], scratch: Path) -> Iterator[Input]:
    """All files, those of a folder in the order of their names. Links in folders are not followed.

    Parameters
    ----------
    names
        Files, folders, pipes, or `-` for standard input.
    scratch
        A folder for what comes through a pipe, as its size must be known before it is stored.
    """
    for number, name in enumerate(names):
        try:
            status = None if name == "-" else Path(name).stat()
            if status is None or stat.S_ISFIFO(status.st_mode):
                yield _spooled(name, scratch / str(number))
            elif stat.S_ISDIR(status.st_mode):
                yield from _below(name)
            else:
                yield Input(name, Path(name), status.st_size)
        except OSError as error:
            yield Input(name, Path(name), error=error.strerror or text_of(error))


def _spooled(name: str, path: Path) -> Input:
    source = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115
    try:
        with path.open("xb") as file:
            while piece := source.read(_PIECE):
                file.write(piece)
            size = file.tell()
    finally:
        if name != "-":
            source.close()
    return Input(name, path, size)


def _below(folder: str) -> Iterator[Input]:
    open_folders = [_entries(folder)]  # a stack of its own: folders may lie deeper than Python calls functions
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
        elif isinstance(entry, Input):
            yield entry
        else:
            try:
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(_entries(entry.path))
                elif (item := _found(entry)) is not None:
                    yield item
            except OSError as error:  # it is gone by now, say
                yield Input(entry.path, Path(entry.path), error=error.strerror or text_of(error))


def _entries(folder: str) -> Iterator[os.DirEntry[str] | Input]:
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: os.fsencode(entry.name)))
    except OSError as error:
        return iter([Input(folder, Path(folder), error=error.strerror or text_of(error))])


def _found(entry: os.DirEntry[str]) -> Input | None:
    path = Path(entry.path)
    if entry.is_symlink():
        return Input(entry.path, path, left_out=f"a link to {readable(os.fspath(path.readlink()))}")
    if not entry.is_file(follow_symlinks=False):
        return Input(entry.path, path, left_out="neither a file nor a folder")
    if fnmatch.fnmatchcase(entry.name, DRAFTS):  # which another process is writing
        return None
    return Input(entry.path, path, entry.stat(follow_symlinks=False).st_size)


def readable(name: str) -> str:
    """`name` as text that can be shown, whatever bytes the name of the file has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for what comes through a pipe."""
    return tempfile.TemporaryDirectory(prefix="bitstore-")
