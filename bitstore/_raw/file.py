"""Files of this machine, or of a folder that many machines mount, as a store."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import unquote_to_bytes

from bitstore._lookup.opened import Opened
from bitstore._lookup.partial import Partial
from bitstore._raw import regular_file
from bitstore._raw.base import RawStore, blob_bytes
from bitstore._raw.folder_listing import list_folder
from bitstore._raw.listing import Listing
from bitstore._raw.options import Option, one_of
from bitstore.errors import AccessDenied, InvalidURI, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Call, Found, Steps, Stored, Write

__all__ = ["FileRaw"]

_URL = re.compile(r"file://(?:localhost)?(/[^\x00\r\n\ud800-\udfff]*)").fullmatch
_READ_INLINE = 1024 * 1024  # bytes; reading more than this holds up a transfer thread

# By folder: the device on which it was first seen, or last with something in it. An unmounted disk leaves its folder.
_devices: dict[str, int] = {}


def _absolute(name: str, folder: Any) -> str | None:
    if folder is not None and not Path(folder).is_absolute():
        raise ValueError(f"{name} must be an absolute path, not {os.fspath(folder)!r}")
    return None if folder is None else os.fspath(folder)


class FileRaw(RawStore):
    """Files by `file:///absolute/path`, percent-decoded; no other character is special.

    Writes are atomic: a file is complete under its name, or not there. They are not synced to the disk.

    Parameters
    ----------
    root
        Only files below this folder: a path that leads out of it, by `..` or by a symbolic link, is an
        `InvalidURI`. None: any file.
    missing_folder
        `"failure"`: where `root` is not there (a disk that is not mounted), or the folder of a digest store's prefix,
        that is an error, because every blob would be missing. So is a folder that was on another disk before, and is
        empty now (a disk that was unmounted meanwhile). `"missing"`: all blobs in it count as missing.
    """

    URI_HINT = "file:///absolute/path"
    takes_files = True

    root = Option["str | None"](None, _absolute)

    missing_folder = Option[Literal["failure", "missing"]]("failure", one_of("failure", "missing"))

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None = None,
        missing_folder: Literal["failure", "missing"] = "failure",
    ) -> None:
        self._configure({"root": root, "missing_folder": missing_folder})

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is `file:///absolute/path`, by its text below `root`."""
        return isinstance(uri, str) and self._named(uri) is not None

    # ------------------------------------------------------------------ lookups as steps

    def get_steps(self, uri: Any) -> Steps[Found]:
        path = self._path(uri)
        try:
            data = regular_file.read(path, _READ_INLINE)
            if data is None:
                data = yield Call(regular_file.read, path, None)
        except OSError as error:
            self._missing_or_failed(uri, error)
        return Found(data, self.label)

    def download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        path = self._path(uri)
        try:
            yield Call(regular_file.copy, path, partial)
        except OSError as error:
            self._missing_or_failed(uri, error)
        return Found(partial, self.label)

    def open_steps(self, uri: Any, verify: bool | None = None) -> Steps[Found]:
        path = self._path(uri)
        try:
            file = yield Call(regular_file.open_pinned, path, self.label)
        except OSError as error:
            self._missing_or_failed(uri, error)
        return Found(Opened(file), self.label)

    def range_steps(self, uri: Any, start: int, end: int) -> Steps[bytes]:
        path = self._path(uri)
        try:
            if end - start <= _READ_INLINE:
                return regular_file.read_range(path, start, end)
            data: bytes = yield Call(regular_file.read_range, path, start, end)
        except OSError as error:
            self._missing_or_failed(uri, error)
        return data

    def exists_steps(self, uri: Any) -> Steps[bool]:
        return (yield from self._status(uri)) is not None

    def version_steps(self, uri: Any) -> Steps[str | None]:
        status = yield from self._status(uri)
        return None if status is None else regular_file.version_of(status)

    def describe_steps(self, uri: Any) -> Steps[Stored | None]:
        status = yield from self._status(uri)
        return None if status is None else Stored(uri, status.st_size)

    def _status(self, uri: Any) -> Steps[os.stat_result | None]:
        path = self._path(uri)
        try:
            status: os.stat_result = yield Call(regular_file.readable, path)
        except OSError as error:
            try:
                self._missing_or_failed(uri, error)
            except NotFoundInStore:
                return None
        return status

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        path = self._path(uri)
        body = blob_bytes(data)
        try:
            yield Call(regular_file.write, path, body, write, self.root if self.missing_folder == "failure" else None)
        except OSError as error:
            raise self._failure(f"PUT {uri}", error) from error

    def delete_steps(self, uri: Any) -> Steps[None]:
        """Steps that delete a file; one that is not there is deleted already."""
        try:
            yield Call(Path(os.fsdecode(self._path(uri))).unlink, True)
        except OSError as error:
            raise self._failure(f"DELETE {uri}", error) from error

    def list_steps(
        self,
        uri: str,
        *,
        one_level: bool = False,
        most: int = 1000,
        after: str | None = None,
        beyond: str | None = None,
    ) -> Steps[Listing]:
        folder, begin = self._path(f"{uri}-")[:-1].rsplit(b"/", 1)
        try:
            page: Listing = yield Call(
                list_folder, os.fsdecode(folder) + "/", os.fsdecode(begin), one_level, most, after or beyond
            )
        except OSError as error:
            raise self._failure(f"LIST {uri}", error) from error
        return page

    # ------------------------------------------------------------------ names and errors

    def _named(self, uri: str) -> bytes | None:
        match = _URL(uri)
        if match is None:
            return None
        path = unquote_to_bytes(match[1])
        if b"\0" in path:
            return None
        if self.root is not None and not _below(os.path.normpath(path), os.path.normpath(os.fsencode(self.root))):
            return None
        return path

    def _path(self, uri: Any) -> bytes:
        path = self._named(uri) if isinstance(uri, str) else None
        if path is None:
            self._refuse(uri)
        if self.root is None:
            return path
        if self.root not in _devices:
            with contextlib.suppress(OSError):
                _devices[self.root] = Path(self.root).stat().st_dev
        real = os.path.realpath(path)
        if not _below(real, os.path.realpath(os.fsencode(self.root))):
            raise InvalidURI(self, uri, hint=self._hint())
        return real  # and not `path`, whose links may change before it is opened

    def _hint(self) -> str:
        return self.URI_HINT if self.root is None else f"{self.URI_HINT} below {self.root}"

    def _missing_or_failed(self, uri: str, error: OSError) -> NoReturn:
        lenient = self.missing_folder == "missing"
        if error.errno == errno.ENOENT or (error.errno == errno.ENOTDIR and lenient):
            if not lenient:
                top = b"/".join(self._path(uri).split(b"/")[:2])
                self._check_folder(uri, Path(os.fsdecode(top) if self.root is None else self.root))
            self._check_links(uri)
            raise NotFoundInStore(self, uri) from error
        if error.errno == errno.ENOTDIR:
            self._check_folder(uri, Path(os.fsdecode(self._path(uri))).parent)
        raise self._failure(uri, error) from error

    def container_steps(self, uri: str, *, made_by_writes: bool) -> Steps[None]:
        """Steps that raise `StoreNotAvailable` where the folder of all URLs that begin with `uri` is not there.

        Parameters
        ----------
        uri
            The URL of the folder.
        made_by_writes
            The store is a cache, whose first write makes the folder: then the folder above it must be there.
        """
        if self.missing_folder == "failure" and self.root is None:
            folder = Path(os.fsdecode(self._path(uri)))
            self._check_folder(uri, folder.parent if made_by_writes else folder)
        yield from ()

    def _check_folder(self, uri: str, folder: Path) -> None:
        # Not as a `Call`: it is no slower than the opening of the file was.
        advice = "if its blobs are to count as missing: missing_folder='missing'"
        if not folder.is_dir():
            raise self._lost(uri, f"there is no folder {folder}: mount the disk, or make it; {advice}")
        device = folder.stat().st_dev
        if _devices.setdefault(str(folder), device) != device:
            if not any(folder.iterdir()):
                raise self._lost(uri, f"the folder {folder} is empty, and no longer on the disk it was on; {advice}")
            _devices[str(folder)] = device

    def _check_links(self, uri: str) -> None:
        file = Path(os.fsdecode(self._named(uri) or b""))
        for link in (file, *file.parents):
            if link.exists():
                return
            if link.is_symlink():
                raise self._lost(uri, f"{link} is a link to {link.readlink()}, which is not there")

    def _lost(self, uri: str, reason: str) -> StoreNotAvailable:
        failure = StoreNotAvailable(self, f"{uri}: {reason}")
        failure.definite = True
        failure.no_container = self.root is not None and not Path(self.root).is_dir()
        return failure

    def _failure(self, what: str, error: OSError) -> StoreNotAvailable:
        kind = AccessDenied if error.errno in (errno.EACCES, errno.EPERM) else StoreNotAvailable
        return kind(self, f"{what}: {error.strerror or error}")


def _below(path: bytes, root: bytes) -> bool:
    return path.startswith(root.rstrip(b"/") + b"/")
