"""A cache in a folder of a local disk, shared by any number of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bitstore._caches.address import target
from bitstore._caches.blobs import DAMAGED, INLINE, Blobs, Large
from bitstore._caches.folder import is_unmatched
from bitstore._caches.local import LocalCache
from bitstore._caches.quarantine import trim
from bitstore._caches.root import absolute, default_folder, default_size, examine, warn_of
from bitstore._caches.writing import write
from bitstore._lookup.opened import Opened
from bitstore._lookup.partial import Partial
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.per_process import PerProcess
from bitstore._support.sizes import format_size, parse_size
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable
from bitstore.outline import Outline
from bitstore.steps import OVERWRITE, Call, Found, Scope, Steps, Stored, Write

__all__ = ["DiskCache", "Verified", "digests_here", "find_here"]


class Verified(NamedTuple):
    """What `DiskCache.verify_all` has found."""

    checked: int
    damaged: int
    bytes: int


class DiskCache(LocalCache):
    """Keeps blobs as files in a folder, within a bound on their bytes; what was not used for longest goes first.

    Any number of threads and processes of one machine may use one folder, and any of them may be killed at
    any time: a file under its final name is always whole, and together they never exceed `max_size`. A
    power cut may damage files, which is noticed when they are read. The file system must be a local one
    with hard links (appends to one file by several hosts are not reliable over NFS). A process that writes much keeps
    the ledger and a few of the folders open (five descriptors or so), until its caches of that folder are gone.

    Parameters
    ----------
    folder
        Where the files are; made (only for its owner, 0700) at the first write. None: the environment variable
        `BITSTORE_CACHE_DIR`, or the usual place for caches of the operating system; asked again wherever the cache is
        unpickled, so that each node of a cluster uses its own. A process without a home folder has no such place: its
        cache holds nothing, and says so in one warning.
    max_size
        The most bytes that the blobs may have together: an int, or a text such as `"200GB"`, `"512MiB"`. None: the
        environment variable `BITSTORE_CACHE_SIZE`, or 10 GB (asked again where it is unpickled). What does not fit any
        more is evicted, in caches from 64 MiB on with 1/1024 of it (at most 1 MiB) beyond that. It counts lengths of
        blobs: a disk rounds each file up to its blocks (4 KiB, mostly). Besides, `quarantine/` takes up to 1/64 of it
        (and one more blob in each process that is just about to put it aside), each write under way its own size in
        `tmp/` (until a process begins to write, also those whose process was killed), and `ledger/` up to 2 MiB.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`: the keys are such digests (other keys go as well). A digest store's
        composite tells the cache by itself, see `use_algorithm`.
    verify
        Check the bytes at each read, against the digest, or against a checksum in the file's name where
        they never matched the digest. If false, a read only has to be as long as the file is, which notices neither
        changed bytes nor a truncated file. May be changed at any time.
    max_blob_size
        Blobs above this are not kept (as are blobs above `max_size`), which `stats` counts as skipped.
    allow_foreign_owner
        Use the folder even if another user owns it, and so could put anything there.

    Raises
    ------
    ValueError
        An invalid size, an unknown algorithm, or an empty folder name.
    NotADirectoryError
        `folder` is a file, lies in one, or is below a link that leads nowhere.
    AccessDenied
        Another user owns `folder`, or this user may not enter a folder on the way to it. (A `PermissionError` too.)
    StoreNotAvailable
        The disk could not say what `folder` is, or the path is impossible: too long, or links lead in a circle.
    """

    scope: Scope = "node"
    _trouble: str | None = None  # why this process has no folder for the cache; None: it has one, or can make it

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        max_size: int | str | None = None,
        *,
        algorithm: str | None = None,
        verify: bool = True,
        max_blob_size: int | str | None = None,
        allow_foreign_owner: bool = False,
    ) -> None:
        # Defaults depend on the machine, so another machine finds its own.
        self._from_environment = frozenset(
            name for name, given in (("_root", folder), ("_trouble", folder), ("_max_size", max_size)) if given is None
        )
        self._set_root(folder)
        self._blobs_of: PerProcess[Blobs] = PerProcess()
        self.max_size = default_size() if max_size is None else max_size
        self.max_blob_size = max_blob_size
        self.verify = verify
        self.allow_foreign_owner = allow_foreign_owner
        self._algorithm: str | None = None
        if algorithm is not None:
            self.use_algorithm(algorithm)
        if self._trouble is None:
            examine(self._root, self.label, allow_foreign_owner=allow_foreign_owner)

    @property
    def max_size(self) -> int:
        """Bytes. May be set at any time, also as a text; what is too much is evicted by the next write."""
        return self._max_size

    @max_size.setter
    def max_size(self, size: int | str) -> None:
        self._max_size = parsed = self._positive_size(size)
        if (blobs := self._blobs_of.get()) is not None:
            blobs.bound.max_size = parsed

    @property
    def max_blob_size(self) -> int | None:
        """Bytes. May be set at any time, also as a text; None: only `max_size` bounds a blob."""
        return self._max_blob_size

    @max_blob_size.setter
    def max_blob_size(self, size: int | str | None) -> None:
        self._max_blob_size = None if size is None else parse_size(size, name="max_blob_size")

    @property
    def allow_foreign_owner(self) -> bool:
        """As given. Where it is set, the next call looks again at the owner of the folder."""
        return self._allow_foreign_owner

    @allow_foreign_owner.setter
    def allow_foreign_owner(self, allow: bool) -> None:
        self._allow_foreign_owner = allow
        if (blobs := self._blobs_of.get()) is not None:
            blobs.access.allow(allow)

    @property
    def algorithm(self) -> str | None:
        """Name of the algorithm whose digests the keys are; None: unknown. `use_algorithm` sets it, once."""
        return self._algorithm

    @property
    def folder(self) -> Path:
        """The cache folder, absolute. Raises StoreNotAvailable where the process has none."""
        if self._trouble is not None:
            raise StoreNotAvailable(self.label, f"there is no folder for it: {self._trouble}")
        return Path(self._root)

    @property
    def label(self) -> str:
        """A short name for statistics and error messages. It is the same on all machines that mean the same."""
        return "disk" if "_root" in self._from_environment else f"disk:{self._root}"

    def use_algorithm(self, name: str) -> None:
        """Take the keys for digests of the algorithm `name`.

        Raises
        ------
        ValueError
            Unknown, or another than the one that the cache uses already: one cache object, one algorithm.
        """
        name = digest_algorithm(name).name
        if self.algorithm not in (None, name):
            raise ValueError(
                f"{self!r} holds {self.algorithm} digests: make another DiskCache for {name} (same folder)"
            )
        self._algorithm = name

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a non-empty text, and there is a folder: composites pass a cache without one over."""
        return self._trouble is None and super().is_valid(uri)

    # -- reading

    def get(self, uri: str) -> bytes:
        """The bytes kept under `uri`.

        Raises
        ------
        InvalidURI
            `uri` is not a non-empty text.
        NotFoundInStore
            The cache does not hold it (any more).
        InvalidDataFound
            It held damaged bytes, which are out of the way now. (A `NotFoundInStore` too.)
        StoreNotAvailable
            The disk could not say.
        """
        return self._find(uri, None, self.verify, True)[1]

    def exists(self, uri: str) -> bool:
        """Whether the cache holds `uri`, whatever its bytes are. Raises what `get` raises, for the same reasons."""
        self._check_valid(uri)
        blobs = self._blobs()
        try:
            return blobs.access.granted() and bool(blobs.files(uri, self.algorithm))
        except OSError as error:
            raise self._failed(blobs, "read_errors", error) from error

    def path(self, uri: str, *, verify: bool | None = None) -> Path:
        """The file that holds `uri`, such as for `mmap`. Only for reading: to change it damages the cache.

        An eviction may delete it at any time, which does not disturb a process that has it open or mapped.

        Parameters
        ----------
        uri
            The key.
        verify
            Check the bytes first, which reads the file once. None: as the cache's own `verify` says.

        Raises
        ------
        InvalidURI, NotFoundInStore, InvalidDataFound, StoreNotAvailable
            As `get` does.
        """
        place = self._find(uri, None, self.verify if verify is None else verify, False)[0]
        return Path(f"{self._root}/{place}")

    def _find(self, uri: str, limit: int | None, check: bool, keep: bool) -> tuple[str, bytes]:
        """The place of a good file of `uri` below the root, and its bytes; the parameters are those of `Blobs.find`."""
        self._check_valid(uri)
        blobs = self._blobs_of.get() or self._blobs()
        found = None
        try:
            if blobs.access.trusted or blobs.access.granted():
                found = blobs.find(uri, self.algorithm, limit, check, keep)
        except OSError as error:
            raise self._failed(blobs, "read_errors", error) from error
        if isinstance(found, tuple):
            blobs.count("hits")
            return found
        blobs.count("misses")
        if found is DAMAGED:
            raise InvalidDataFound(self.label, uri, "its file was damaged, and is put aside")
        raise NotFoundInStore(self.label, uri)

    # -- writing

    def put(self, uri: str, data: bytes) -> None:
        """Keep `data` under `uri`.

        A blob that is too large, or finds no room because others are writing as much as the cache may hold,
        is not kept: `stats` counts it as skipped.

        Raises
        ------
        InvalidURI
            `uri` is not a non-empty text.
        TypeError
            `data` is not bytes.
        StoreNotAvailable
            The disk does not take it: full, read-only, gone.
        """
        data = self._checked(uri, data)
        blobs = self._blobs()
        if self._trouble is not None:
            blobs.count("skipped")
            return
        try:
            blobs.start_writing()
            outcome = write(blobs, target(uri, self.algorithm, data), data, self.max_blob_size)
        except OSError as error:
            blobs.folder.forget()
            raise self._failed(blobs, "write_errors", error) from error
        blobs.count(outcome)

    def delete(self, uri: str) -> bool:
        """Delete the files of `uri`; whether there were any.

        Raises
        ------
        InvalidURI, StoreNotAvailable
            As `put` does.
        """
        self._check_valid(uri)
        blobs = self._blobs()
        try:
            if not blobs.access.granted():
                return False
            return sum(map(blobs.bound.delete, blobs.files(uri, self.algorithm))) > 0
        except OSError as error:
            raise self._failed(blobs, "write_errors", error) from error

    # -- keeping house

    def stats(self) -> dict[str, int | None]:
        """Counters of this process, and the state of the folder.

        `hits`, `misses`; `written`, `present` (was there already), `skipped` (too large, or no room); `evicted`,
        `evicted_bytes`; `damaged` (files put aside); `read_errors`, `write_errors` (the disk failed); `bytes` (what the
        blobs of all processes add up to, as far as it is known without looking at each file; None: not known
        before the first write) and `max_size`.
        """
        blobs = self._blobs()
        with blobs.lock:
            counters: dict[str, int | None] = dict(blobs.counters)
        counters["evicted"] = blobs.bound.evicted
        counters["evicted_bytes"] = blobs.bound.evicted_bytes
        try:
            counters["bytes"] = blobs.bound.ledger.total() if blobs.access.granted() else 0
        except OSError:
            counters["bytes"] = None  # statistics must not fail where a lookup would tell what is wrong
        counters["max_size"] = self.max_size
        return counters

    def verify_all(self) -> Verified:
        """Check every file of the folder, and put damaged ones aside. Does not count as a use of them.

        Raises
        ------
        StoreNotAvailable
            The disk could not say.
        """
        blobs = self._blobs()
        checked = damaged = size = 0
        try:
            if blobs.access.granted():
                for items in blobs.folder.items():
                    for item in items:
                        good = blobs.verify(item.place)
                        checked += good is not None
                        damaged += good is False
                        size += item.size if good else 0
        except OSError as error:
            raise self._failed(blobs, "read_errors", error) from error
        return Verified(checked, damaged, size)

    def prune(self, max_size: int | str | None = None) -> int:
        """Clean up after dead writers, count what is really there, and evict down to `max_size`.

        Looks at every file, so it also puts the bound right after files were added or deleted by hand.

        Parameters
        ----------
        max_size
            Bytes, or a text such as `"50GB"`; None: the cache's own.

        Returns
        -------
        int
            The bytes that the cache holds now.

        Raises
        ------
        ValueError
            `max_size` is not a size.
        StoreNotAvailable
            The disk does not let us.
        """
        bound = self.max_size if max_size is None else parse_size(max_size, name="max_size")
        blobs = self._blobs()
        if self._trouble is not None:
            return 0
        try:
            blobs.start_writing()
            blobs.bound.reclaim()
            trim(blobs.folder, bound // 64)
            blobs.bound.make_room(blobs.bound.recount(), max_size=bound)
            return blobs.bound.ledger.total() or 0
        except OSError as error:
            raise self._failed(blobs, "write_errors", error) from error

    def clear(self) -> None:
        """Delete all blobs and what is in quarantine. Others may go on using the folder meanwhile.

        Raises
        ------
        StoreNotAvailable
            The disk does not let us.
        """
        blobs = self._blobs()
        try:
            if blobs.access.granted():
                for items in blobs.folder.items():
                    for item in items:
                        blobs.bound.delete(item.place)
                trim(blobs.folder, 0, keep=0)
                blobs.bound.reclaim()
                blobs.bound.recount()
        except OSError as error:
            raise self._failed(blobs, "write_errors", error) from error

    # -- within

    def _blobs(self) -> Blobs:
        return self._blobs_of.get() or self._blobs_of.set_once(
            Blobs(self._root, self.label, self.max_size, allow_foreign_owner=self.allow_foreign_owner)
        )

    def _failed(self, blobs: Blobs, counter: str, error: OSError) -> StoreNotAvailable:
        blobs.count(counter)
        if isinstance(error, StoreNotAvailable):
            return error
        doing = "read" if counter == "read_errors" else "write"
        return StoreNotAvailable(self.label, f"cannot {doing}: {error}")

    # A small file is read where the lookup runs, as handing it over would cost more than reading it.
    answers_at_once = True

    def get_steps(self, uri: str) -> Steps[Found]:
        try:
            place, data = self._find(uri, INLINE, self.verify, True)
        except Large:
            place, data = yield Call(self._find, uri, None, self.verify, True)
        return Found(data, self.label, matched=not is_unmatched(place))

    def download_steps(self, uri: str, partial: Partial) -> Steps[Found]:
        yield Call(self._copy, uri, partial)
        return Found(partial, self.label)

    def open_steps(self, uri: str, verify: bool | None = None) -> Steps[Found]:
        place, file = yield Call(self._open, uri, verify)
        return Found(Opened(file, checked=True), self.label, matched=not is_unmatched(place))

    def _open(self, uri: str, verify: bool | None) -> tuple[str, BinaryIO]:
        place = self._find(uri, None, self.verify if verify is None else verify, False)[0]
        try:
            return place, Path(f"{self._root}/{place}").open("rb")
        except FileNotFoundError:
            raise NotFoundInStore(self.label, uri) from None  # evicted just now
        except OSError as error:
            raise self._failed(self._blobs(), "read_errors", error) from error

    def _copy(self, uri: str, partial: Partial) -> None:
        # A copy, never a hard link: a write to the caller's file must not be a write to the cache.
        with self._open(uri, None)[1] as file:
            try:
                partial.copy(file.fileno())
            except OSError as error:
                raise self._failed(self._blobs(), "read_errors", error) from error

    def exists_steps(self, uri: str) -> Steps[bool]:
        yield from ()
        return DiskCache.exists(self, uri)

    def describe_steps(self, uri: str) -> Steps[Stored | None]:
        yield from ()
        self._check_valid(uri)
        blobs = self._blobs()
        try:
            for place in blobs.files(uri, self.algorithm) if blobs.access.granted() else ():
                if (status := blobs.folder.stat(place)) is not None:
                    return Stored(Path(f"{self._root}/{place}").as_uri(), status.st_size)
        except OSError as error:
            raise self._failed(blobs, "read_errors", error) from error
        return None

    def put_steps(self, uri: str, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
        yield Call(DiskCache.put, self, uri, data)

    def _set_root(self, folder: str | os.PathLike[str] | None) -> None:
        if folder is None:
            folder, self._trouble = default_folder()
            if self._trouble is not None:
                self._root = ""
                warn_of(self.label, self._trouble)
                return
        self._root = absolute(folder)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self._from_environment}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The folder is not checked here, but at its first use: a cache that this machine cannot use must not keep a
        # composite that holds it from being unpickled.
        self.__dict__.update(state)
        if "_root" in self._from_environment:
            self._set_root(None)
        if "_max_size" in self._from_environment:
            self._max_size = default_size()

    def outline(self) -> Outline:
        """Its folder and size."""
        facts: dict[str, Any] = {
            "folder": f"none: {self._trouble}" if self._trouble else self._root,
            "largest size": format_size(self.max_size),
            "verify": bool(self.verify),
        }
        return Outline(self.label, type(self).__name__, facts=facts)

    def __repr__(self) -> str:
        options = f"{None if self._trouble else self._root!r}, max_size={format_size(self.max_size)!r}"
        if self.algorithm is not None:
            options += f", algorithm={self.algorithm!r}"
        if not self.verify:
            options += ", verify=False"
        return f"{type(self).__name__}({options})"


def digests_here(cache: DiskCache, since: float = 0.0) -> Iterator[list[str]]:
    """The digests whose blobs `cache` holds, many at a time, in no order; others may come and go meanwhile.

    Parameters
    ----------
    since
        Only of files written or used after this time, in seconds since 1970.

    Raises
    ------
    StoreNotAvailable
        The disk could not say.
    """
    blobs = cache._blobs()
    try:
        if not blobs.access.granted():
            return
        for items in blobs.folder.items():
            kept = (item.place for item in items if item.mtime_ns >= since * 1e9)
            yield [place.name for place in kept if place.folders[0] == cache.algorithm and len(place.folders) == 2]
    except OSError as error:
        raise cache._failed(blobs, "read_errors", error) from error


def find_here(cache: DiskCache, digest: str) -> bytes | None:
    """The blob of a digest from the files of `cache`; None: whether its bytes are an answer depends on the tiers below.

    Raises
    ------
    BitstoreError
        As `DiskCache.get`.
    """
    place, data = cache._find(digest, None, cache.verify, True)
    return None if is_unmatched(place) else data
