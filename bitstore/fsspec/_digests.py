"""A store addressed by digest, as a file system of fsspec: `sha1://<digest>`, `sha256://<digest>`, `md5://<digest>`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import fsspec

from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.per_process import PerProcess
from bitstore._tiers.chain import costs
from bitstore.config import find, load
from bitstore.errors import InvalidDataFound, InvalidURI, StoreNotAvailable
from bitstore.fsspec._files import part, sized, switch
from bitstore.store import Store

__all__ = ["DigestFileSystem", "Md5FileSystem", "Sha1FileSystem", "Sha256FileSystem"]

_configured: PerProcess[dict[tuple[str, int, int], Any]] = PerProcess()


class DigestFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Blobs as files whose name is their digest. They are read, not written, and there is no listing of them.

    Parameters
    ----------
    store
        A composite, or any store of such digests, as an object. None: the composite of a configuration file, which is
        read once in a process as long as it does not change.
    config
        The configuration file; None: the one that `bitstore.config.load` finds.
    verify
        As in `Store.open`: True checks every blob before a byte is given, False lets tiers that verify give parts
        unchecked, None does as each tier's own `verify` says.

    Raises
    ------
    TypeError, ValueError
        `store` is no store of such digests, or `config` describes one of others, or both are given; or `verify` is
        neither a bool nor a text such as `"true"`, which fsspec's own configuration files hold.
    bitstore.config.ConfigError
        There is no configuration, or it says something that cannot be.

    Notes
    -----
    Errors are those of the store: `NotFoundInStore` is a `FileNotFoundError`, and a lookup that failed
    (`StoreNotAvailable`) is raised by every method, also by `exists` and for bytes that do not match their digest.
    `info` opens the blob to know its size. Of a store that costs money the last blob is held in memory, because readers
    open a file several times: so it is paid for once. A cache in the composite does that for all.
    """

    protocol: ClassVar[str] = "digest"
    cachable = False  # fsspec takes two stores for one whose representations are equal
    algorithm: ClassVar[str] = "sha256"

    def __init__(
        self,
        *args: Any,
        store: Store | None = None,
        config: str | os.PathLike[str] | None = None,
        verify: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if store is not None and config is not None:
            raise ValueError("store and config exclude each other: leave one out")
        self.store: Any = _of_configuration(config) if store is None else store
        given: Any = self.store
        if isinstance(given, type) or not all(hasattr(given, name) for name in ("get_many", "open", "is_valid")):
            raise TypeError(f"expected a store, such as a Sha1Composite, not {store!r}")
        algorithm = getattr(self.store, "algorithm", None)
        if algorithm != self.algorithm:
            other = f"{algorithm} digests" if isinstance(algorithm, str) else "no digests of a known algorithm"
            raise ValueError(
                f"{self.protocol}:// needs a store of {self.algorithm} digests, and {self.store!r} has {other}"
            )
        self.verify = switch("verify", verify, or_none=True)
        self._bought: tuple[str, bytes] | None = None  # the last blob of a store that costs money

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [cls._strip_protocol(each) for each in path]
        text = os.fspath(path)
        return text.removeprefix(f"{cls.protocol}://").strip("/").lower()

    def _digest(self, path: Any) -> str:
        digest: str = self._strip_protocol(path)
        if digest_algorithm(self.algorithm).is_digest(digest) is None:
            raise InvalidURI(self, path, hint=f"{self.protocol}://<{self.algorithm}>")
        return digest

    # ------------------------------------------------------------------ reading

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            self._read_only(path)
        return sized(self._file(self._digest(path), self.verify))

    def _file(self, digest: str, verify: bool | None) -> Any:
        paid = costs(self.store)
        bought, data = (paid and self._bought) or ("", b"")
        if bought == digest:
            return io.BytesIO(data)
        with _no_absence(self.store):
            file = self.store.open(digest, verify=self.verify if paid else verify)
        if paid and isinstance(file, io.BytesIO):
            self._bought = digest, file.getvalue()
        return file

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The bytes of a blob from `start` up to `end`; negative ones count from its end."""
        digest = self._digest(path)
        held = self._bought is not None and self._bought[0] == digest
        if start is None and end is None and self.verify is not True and not held:
            with _no_absence(self.store):
                data: bytes = self.store.get(digest)  # which caches keep
                return data
        with self._open(digest) as file:
            return part(file, start, end)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """The bytes of one blob, or of many at once as a dict by digest.

        Parameters
        ----------
        path
            A digest or URL, or many.
        recursive
            There are no folders: True is an error.
        on_error
            `"raise"` the first error, `"return"` errors in place of bytes, or `"omit"` such blobs.
        """
        if on_error not in ("raise", "return", "omit"):
            raise ValueError(f"on_error is 'raise', 'return' or 'omit', not {on_error!r}")
        if recursive:
            self._unlisted(path)
        if isinstance(path, (str, os.PathLike)):
            return self.cat_file(os.fspath(path))
        digests = list(dict.fromkeys(map(self._digest, path)))
        found: dict[str, Any] = {}
        for blob in self.store.get_many(digests):
            answer = self._checked(blob) if blob.error is None else _mismatch(self.store, blob.error)
            if isinstance(answer, Exception):
                if on_error == "raise":
                    raise answer
                if on_error == "omit":
                    continue
            found[blob.uri] = answer
        return {digest: found[digest] for digest in digests if digest in found}

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: Any = None, on_error: str = "return", **options: Any
    ) -> list[Any]:
        """Parts of blobs, each blob opened once.

        Parameters
        ----------
        paths
            Digests or URLs.
        starts, ends
            Where each part begins and ends, or one number for all.
        max_gap
            Not used.
        on_error
            `"raise"` the first error, or `"return"` errors in place of bytes.
        """
        if not isinstance(paths, list):
            raise TypeError(f"expected a list of digests, not {type(paths).__name__}")
        bounds = [list(each) if hasattr(each, "__len__") else [each] * len(paths) for each in (starts, ends)]
        if any(len(each) != len(paths) for each in bounds):
            raise ValueError(
                f"{len(paths)} paths, {len(bounds[0])} starts and {len(bounds[1])} ends do not fit together"
            )
        found: list[Any] = [None] * len(paths)
        places: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            places.setdefault(self._digest(path), []).append(place)
        for digest, wanted in places.items():
            try:
                with self._open(digest) as file:
                    for place in wanted:
                        found[place] = part(file, bounds[0][place], bounds[1][place])
            except Exception as error:  # one of a blob among many
                if on_error == "raise":
                    raise
                found = [
                    error if place in wanted and found[place] is None else each for place, each in enumerate(found)
                ]
        return found

    def _checked(self, blob: Any) -> Any:
        """The bytes of a blob of `get_many`, or the error that the check of its digest comes to."""
        if self.verify is not True or digest_algorithm(self.algorithm).of(blob.data) == blob.uri:
            return blob.data
        try:  # a bad copy in a cache is replaced by this
            return self.cat_file(blob.uri)
        except Exception as error:  # one of a blob among many
            return error

    def get_file(self, rpath: str, lpath: Any, callback: Any = None, outfile: Any = None, **options: Any) -> None:
        """Bring a blob into the local file `lpath`, in bounded memory; it appears under its name when it is whole."""
        outfile = lpath if outfile is None and hasattr(lpath, "write") else outfile
        if outfile is not None:
            with self._open(rpath) as file:
                while piece := file.read(1 << 20):
                    outfile.write(piece)
            return
        path = Path(lpath)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _no_absence(self.store):
            self.store.download(self._digest(rpath), path, verify=self.verify is not False)
        if callback is not None:
            callback.set_size(path.stat().st_size)
            callback.absolute_update(path.stat().st_size)

    # ------------------------------------------------------------------ what is known of a blob

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size and kind of a blob, which is opened for it."""
        if not self._strip_protocol(path):
            return {"name": "", "size": 0, "type": "directory"}
        digest = self._digest(path)
        with self._file(digest, False) as file:
            size = file.seek(0, os.SEEK_END)
        return {"name": digest, "size": size, "type": "file", self.algorithm: digest}

    def exists(self, path: str, **options: Any) -> bool:
        """Whether the store has the blob. Raises `StoreNotAvailable` where it could not say."""
        if not self._strip_protocol(path):
            return True
        with _no_absence(self.store):
            there: bool = self.store.exists(self._digest(path))
            return there

    def isfile(self, path: str) -> bool:
        """Whether the store has the blob, as `exists`; True for what only a paid source may have: `open` asks it."""
        return bool(self._strip_protocol(path)) and (self.exists(path) or costs(self.store))

    def isdir(self, path: str) -> bool:
        """False for every blob."""
        return not self._strip_protocol(path)

    def ukey(self, path: str) -> str:
        """The digest: no other bytes are ever under this name."""
        return self._digest(path)

    def checksum(self, path: str) -> int:
        """The digest as a number."""
        return int(self._digest(path), 16)

    # ------------------------------------------------------------------ what there is not

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Raise `NotImplementedError`, but for a blob, of which it is the `info`."""
        if not self._strip_protocol(path):
            self._unlisted(path)
        info = self.info(path)
        return [info] if detail else [info["name"]]

    def _unlisted(self, path: Any) -> NoReturn:
        raise NotImplementedError(
            f"{self.protocol}:// has no listing and no folders: blobs are opened by their digest, not {path!r}"
        )

    def _read_only(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EROFS, f"{self.protocol}:// is only read: put blobs into a store of the chain", str(path))

    def _not_listed(self, path: Any = "", *_: Any, **__: Any) -> NoReturn:
        self._unlisted(path)

    walk = find = glob = du = _not_listed
    _refused: Any = _read_only
    mkdir = makedirs = rmdir = touch = rm = rm_file = cp_file = pipe_file = put_file = _refused


class Sha1FileSystem(DigestFileSystem):
    """`sha1://<digest>`."""

    protocol = "sha1"
    algorithm = "sha1"


class Sha256FileSystem(DigestFileSystem):
    """`sha256://<digest>`."""

    protocol = "sha256"
    algorithm = "sha256"


class Md5FileSystem(DigestFileSystem):
    """`md5://<digest>`."""

    protocol = "md5"
    algorithm = "md5"


@contextlib.contextmanager
def _no_absence(store: Any) -> Iterator[None]:
    """Raise no `FileNotFoundError` for bytes that do not match: zarr and others fill in zeros for what is absent."""
    try:
        yield
    except InvalidDataFound as error:
        raise _mismatch(store, error) from error


def _mismatch(store: Any, error: Exception) -> Exception:
    return StoreNotAvailable(store, str(error)) if isinstance(error, InvalidDataFound) else error


def _of_configuration(config: str | os.PathLike[str] | None) -> Any:
    try:
        path = (find() if config is None else Path(config).expanduser()).absolute()
        status = path.stat()
    except (OSError, RuntimeError, ValueError):
        return load(config)  # which says what is wrong
    known = _configured.get() or _configured.set_once({})
    key = (str(path), status.st_mtime_ns, status.st_size)
    # One composite for all file systems of a file: they share its connections, and what it knows of outages.
    return known.get(key) or known.setdefault(key, load(path))
