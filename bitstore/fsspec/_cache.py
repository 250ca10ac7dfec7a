"""A disk cache over any file system of fsspec: bounded, shared by processes, each file whole and of one version."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import pickle
import re
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import fsspec

from bitstore._caches.disk import DiskCache
from bitstore._raw.fsspec_raw import FsspecRaw, version_in
from bitstore._support.once import warn_once
from bitstore._support.redact import redact_url
from bitstore.errors import NotFoundInStore, StoreNotAvailable
from bitstore.fsspec._files import part, sized, switch

try:
    from fsspec.implementations.chained import ChainedFileSystem
except ModuleNotFoundError:  # before fsspec 2025.10
    ChainedFileSystem = fsspec.AbstractFileSystem

__all__ = ["BlobCacheFileSystem"]

logger = logging.getLogger("bitstore")

_SECRET = re.compile(r"key|secret|token|pass|cred|auth|sign|session|header|cookie", re.IGNORECASE)
_TRIES = 3  # fetches of a file that changes meanwhile


class BlobCacheFileSystem(ChainedFileSystem):  # type: ignore[misc]
    """Files of another file system, each kept whole in a `DiskCache`: `bitstorecache::s3://bucket/key`.

    What is opened is the cache's own file, checked first. A file is kept under its URL and the version that the other
    file system tells of it (ETag, generation, time): so a changed file is fetched again, and the old one is evicted
    when room is needed. Files above the size of the cache are read where they are, as are files without a version.
    A file passes through memory on its way into the cache: `max_blob_size` of a `DiskCache` bounds that.

    Parameters
    ----------
    target_protocol, target_options
        The other file system and its arguments: a chained URL fills these in.
    fs
        The other file system as an object, instead.
    cache_storage
        Folder of the cache, or a `DiskCache`. None: the folder that `DiskCache` takes by itself.
    max_size
        Bytes that the cache may hold, as for `DiskCache`.
    check_files
        Ask for the version of a file at each `open`. False: a file that is in the cache is never asked for again, which
        is right where files never change.
    verify
        Check a file's bytes at each `open`, which reads it once.

    Raises
    ------
    ValueError
        There is neither `fs` nor `target_protocol`, or both; or `max_size` is no size.
    """

    protocol: ClassVar[str] = "bitstorecache"
    cachable = False  # the other file system is, and the cache is a folder
    _strip_tokenize_options = ("fo",)

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        fs: Any = None,
        *,
        cache_storage: str | os.PathLike[str] | DiskCache | None = None,
        max_size: int | str | None = None,
        check_files: bool = True,
        verify: bool = True,
        fo: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (fs is None) == (target_protocol is None):
            raise ValueError("name the file system to cache: fs, or target_protocol, as bitstorecache::s3://... does")
        self.fs = fsspec.filesystem(target_protocol, **(target_options or {})) if fs is None else fs
        if isinstance(cache_storage, DiskCache):
            if max_size is not None:
                raise ValueError("max_size is that of the DiskCache which cache_storage is: leave it out")
            self.cache = cache_storage
        else:
            self.cache = DiskCache(cache_storage, max_size)
        self.check_files = switch("check_files", check_files)
        self.verify = switch("verify", verify)
        self._first = fo  # what a chained URL names: older releases of fsspec give no path for it
        self._name = hashlib.sha256(repr(_public(self.fs)).encode("utf-8", "surrogatepass")).hexdigest()
        # Paths are those of the other file system, so it says how they are written.
        self._strip_protocol = self._stripped

    def _stripped(self, path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [self._stripped(each) for each in path]
        text = os.fspath(path)
        for prefix in (f"{self.protocol}://", f"{self.protocol}::"):
            text = text.removeprefix(prefix)
        return self.fs._strip_protocol(text or self._first or "")

    # ------------------------------------------------------------------ reading

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        path = self._stripped(path)
        if mode != "rb":
            self._read_only(path)
        version = ""
        for _ in range(_TRIES):
            if self.check_files:
                info = self._info_now(path)
                seen = version_in(info)
                if seen is None:
                    text = "%s tells no version of its files, so they are not cached: check_files=False caches them"
                    warn_once(logger, ("no version", self._name), text, type(self.fs).__name__)
                    return self.fs.open(path, "rb", **options)
                version = seen
            key = f"{self._name}\n{path}\n{version}"
            try:
                return sized(self.cache.open(key, verify=self.verify))
            except NotFoundInStore:
                pass
            except StoreNotAvailable as error:  # a cache that is broken is no obstacle to reading
                warn_once(logger, ("cache", self._name, type(error)), "%s; files are read where they are", error)
                return self.fs.open(path, "rb", **options)
            if not self.check_files:
                info = self.fs.info(path)
            size = info.get("size")
            if size is None or size > min(self.cache.max_size, self.cache.max_blob_size or self.cache.max_size):
                return self.fs.open(path, "rb", **options)
            data = bytes(self.fs.cat_file(path))
            if len(data) == size and (not self.check_files or version_in(self._info_now(path)) == version):
                return self._kept(key, data)
        raise StoreNotAvailable(
            f"{self.protocol}://",
            f"{redact_url(path)}: what came was not the {size} bytes of one version, {_TRIES} times in a row",
        )

    def _kept(self, key: str, data: bytes) -> Any:
        try:
            self.cache.put(key, data)
            return sized(self.cache.open(key, verify=False))  # these very bytes have just been written
        except NotFoundInStore:
            pass  # it found no room, or was evicted already
        except StoreNotAvailable as error:
            warn_once(logger, ("cache", self._name, type(error)), "%s; files are not cached", error)
        return sized(io.BytesIO(data))

    def _info_now(self, path: str) -> dict[str, Any]:
        self.fs.invalidate_cache(path)  # an old listing knows an old version
        info: dict[str, Any] = self.fs.info(path)
        return info

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The bytes of a file from `start` up to `end`; negative ones count from its end."""
        with self._open(path) as file:
            return part(file, start, end)

    # ------------------------------------------------------------------ what the other file system says

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What the other file system says of a file."""
        info: dict[str, Any] = self.fs.info(self._stripped(path), **options)
        return info

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What the other file system lists."""
        listed: list[Any] = self.fs.ls(self._stripped(path), detail=detail, **options)
        return listed

    def exists(self, path: str, **options: Any) -> bool:
        """Whether the other file system has the file. Raises `StoreNotAvailable` where it could not say."""
        path = self._stripped(path)
        return bool(self.fs.exists(path, **options)) or self._there(path)

    def isfile(self, path: str) -> bool:
        """Whether the other file system has a file there. Raises `StoreNotAvailable` where it could not say."""
        path = self._stripped(path)
        return bool(self.fs.isfile(path)) or (not self.fs.isdir(path) and self._there(path))

    def _there(self, path: str) -> bool:
        """Whether there is a file of which the other file system says no, which many say after any failure."""
        raw = FsspecRaw(self.fs, missing_bucket="missing")
        url = self.fs.unstrip_protocol(path)
        return raw.is_valid(url) and raw.exists(url)

    def isdir(self, path: str) -> bool:
        """Whether the other file system has a folder there."""
        return bool(self.fs.isdir(self._stripped(path)))

    def created(self, path: str) -> Any:
        """When the file was made, as the other file system says."""
        return self.fs.created(self._stripped(path))

    def modified(self, path: str) -> Any:
        """When the file was last written, as the other file system says."""
        return self.fs.modified(self._stripped(path))

    def ukey(self, path: str) -> Any:
        """What the other file system says."""
        return self.fs.ukey(self._stripped(path))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Let the other file system forget its listings. What is on the disk stays."""
        self.fs.invalidate_cache(path if path is None else self._stripped(path))

    def _read_only(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EROFS, f"{self.protocol}:: is only read: write by the file system itself", str(path))

    _refused: Any = _read_only
    mkdir = makedirs = rmdir = touch = rm = rm_file = cp_file = pipe_file = put_file = _refused


def _public(value: Any) -> Any:
    """`value` without what may be a secret or changes with it: the name of a file system in the keys of the cache.

    Two that are different have different names: files of one must not be taken for those of another.
    """
    if isinstance(value, fsspec.AbstractFileSystem):
        return [type(value).__name__, _public(value.storage_args), _public(value.storage_options)]
    if isinstance(value, Mapping):
        # A mapping called `fo` has names of files.
        parts = (
            (str(name), repr(each) if name == "fo" and isinstance(each, Mapping) else _public(each))
            for name, each in value.items()
            if not _SECRET.search(str(name))
        )
        return sorted(parts, key=lambda part: part[0])
    if isinstance(value, (list, tuple)):
        return [_public(each) for each in value]
    if isinstance(value, (str, int, float, bool, bytes, type(None))):
        return value
    try:
        return type(value).__name__, hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # what does not pickle is like nothing else
        return type(value).__name__, secrets.token_hex(16)
