"""What a store is: the one contract that everything in this library meets.

A user's own store needs `is_valid` and `get`, and `put` if it is to serve as a cache. A fast store writes its lookup
as steps besides (`bitstore.steps`), so that thousands of lookups can share one thread.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, BinaryIO, ClassVar

from bitstore._frames.methods import FrameMethods
from bitstore._lookup.asking import Errors, methods_of
from bitstore._lookup.run import run
from bitstore._support.compat import ClassLogger
from bitstore._support.redact import redact
from bitstore.blob import Blob
from bitstore.errors import InvalidDataFound, InvalidURI, NotFoundInStore
from bitstore.location import Location
from bitstore.outline import Outline, outline_of
from bitstore.steps import OVERWRITE, Found, RequestCounts, Scope, Steps

__all__ = ["Errors", "SteppedStore", "Store"]


class Store(FrameMethods, ABC):
    """Anything that answers `get(uri)` with bytes.

    Attributes
    ----------
    URI_HINT
        What a right URI looks like; `InvalidURI` shows it.
    paid
        True where a `get` costs money or quota: a composite does not ask such a store while an earlier
        tier's failure leaves the answer open.
    bytes_only
        True where `put` takes nothing but bytes: a composite lets other data pass such a cache.
    scope
        How far what is put into the store can be seen: `"process"` (memory), `"node"` (a disk of one machine) or
        `"shared"` (all nodes of a cluster).
    logger
        A logger with the name of the class, for subclasses; they may put any other in its place.
    """

    URI_HINT: ClassVar[str | None] = None
    paid: bool = False
    bytes_only: bool = False
    scope: Scope = "shared"
    logger: Any = ClassLogger()

    @abstractmethod
    def is_valid(self, uri: Any, /) -> bool:
        """Whether `uri` is a name that this store understands."""

    @abstractmethod
    def get(self, uri: Any, /) -> Any:
        """The bytes stored under `uri`.

        Raises
        ------
        InvalidURI
            `uri` is not a name that this store understands.
        NotFoundInStore
            The store says that it does not hold the blob.
        StoreNotAvailable
            The store could not say. A user's own store may raise any other exception: it means the same.
        """

    def put(self, uri: Any, data: bytes, /) -> None:
        """Keep `data` under `uri`. Optional: only caches and writable stores have it, or `put_steps`."""
        if not methods_of(self).put_steps:
            raise NotImplementedError(f"{type(self).__name__} does not implement the 'put' method")
        self._check_valid(uri)
        run(self.put_steps(uri, data, OVERWRITE))  # type: ignore[attr-defined]

    def exists(self, uri: Any) -> bool:
        """Whether the store holds `uri`. Raises what `get` raises, except `NotFoundInStore` where that is an absence.

        This default fetches the blob to find out, unless the class has `exists_steps`.
        """
        if methods_of(self).exists_steps:
            self._check_valid(uri)
            return run(self.exists_steps(uri))  # type: ignore[attr-defined, no-any-return]
        try:
            self.get(uri)
        except InvalidDataFound:  # there is something, and not the blob
            raise
        except NotFoundInStore:
            return False
        return True

    def get_many(
        self,
        uris: Iterable[Any],
        *,
        ordered: bool = False,
        errors: Errors = "return",
        timeout: float | None = None,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
        threads: int | None = None,
    ) -> Iterator[Blob]:
        """Look up many blobs at once, in bounded memory; answers come as they arrive.

        Parameters
        ----------
        uris
            Any iterable, also an endless one; it is read as answers are taken, a bounded window ahead.
        ordered
            Give the answers in the order of `uris`.
        errors
            `"return"`: a `Blob` with `error` set; `"raise"`: raise the first one; `"ignore"`: leave such
            blobs out; `"log"`: leave them out and log each.
        timeout
            Seconds that one lookup may take in all; None: as long as its tiers' own limits allow.
        in_flight
            How many lookups may be under way or waiting to be taken; None: chosen by the library.
        max_bytes
            About how many bytes of blobs may be held at once (a number, or a size such as `"256MB"`).
        patience
            Seconds from the beginning of an outage (a tier of a composite is unreachable, or left alone after
            repeated failures) for which lookups wait and try again: so a short outage does not turn a data set
            into failures. 0: what fails has failed.
        threads
            How many threads transfer, 1 to 16; None: one for small blobs, whose lookups are mostly Python (two from
            4 cores on), and for large ones as many as there are cores, 8 at most.

        Yields
        ------
        Blob
            One per input, duplicates included.
        """
        from bitstore._lookup.batch import get_many
        from bitstore._lookup.options import LookupOptions

        options = LookupOptions(
            timeout=timeout, in_flight=in_flight, max_bytes=max_bytes, patience=patience, threads=threads
        )
        return get_many(self, uris, options, ordered=ordered, errors=errors)

    async def aget(self, uri: Any, *, timeout: float | None = None) -> Any:
        """What `get` returns and raises, for asyncio: thousands may be awaited at once, without a thread for each.

        Parameters
        ----------
        uri
            What to look up.
        timeout
            Seconds for the whole lookup; None: as long as the tiers' own limits allow.

        Raises
        ------
        StoreNotAvailable
            As in `get`; also when `timeout` was over (a composite: `LookupTimedOut`). A cancelled task gives up its
            lookup.
        """
        from bitstore._lookup.asynchronous import get

        return await get(self, uri, timeout=timeout)

    def aget_many(
        self,
        uris: Iterable[Any],
        *,
        ordered: bool = False,
        errors: Errors = "return",
        timeout: float | None = None,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
        threads: int | None = None,
    ) -> AsyncIterator[Blob]:
        """`get_many` for asyncio: `async for blob in store.aget_many(uris)`.

        Parameters
        ----------
        uris
            Any iterable; it is read in the event loop, so its `next` must not block.
        ordered, errors, timeout, in_flight, max_bytes, patience, threads
            As in `get_many`.

        Yields
        ------
        Blob
            One per input, duplicates included.
        """
        from bitstore._lookup.asynchronous import get_many
        from bitstore._lookup.options import LookupOptions

        options = LookupOptions(
            timeout=timeout, in_flight=in_flight, max_bytes=max_bytes, patience=patience, threads=threads
        )
        return get_many(self, uris, options, ordered=ordered, errors=errors)

    def exists_many(
        self,
        uris: Iterable[Any],
        *,
        paid: bool = False,
        ordered: bool = False,
        errors: Errors = "return",
        timeout: float | None = None,
        in_flight: int | None = None,
    ) -> Iterator[Blob]:
        """Which of many blobs are there: `exists` for thousands at once. No blob is moved where a store can tell.

        Parameters
        ----------
        uris, ordered, errors, timeout, in_flight
            As in `get_many`.
        paid
            Ask paid tiers as well for what no other tier holds: as `get` does, on its conditions and at its costs, so
            that caches keep what is paid for. Else what only they may have is missing: not to be had for free.

        Yields
        ------
        Blob
            One per input, without data. `source` names the first tier that holds it.
        """
        from bitstore._lookup.batch import get_many
        from bitstore._lookup.locating import Presence
        from bitstore._lookup.options import LookupOptions

        options = LookupOptions(timeout=timeout, in_flight=in_flight)
        return get_many(Presence(self, paid=paid), uris, options, ordered=ordered, errors=errors)

    def locate(self, uri: Any, *, paid: bool = False, timeout: float | None = None) -> list[Location]:
        """Where the blob is: what each tier says about it, without the bytes, in the order of the tiers.

        All tiers are asked at once (by HEAD or a look at the file; a store with no more than `get` by that), also
        caches that lookups only write.

        Parameters
        ----------
        uri
            What to look for.
        paid
            Ask paid tiers as well, which costs what `get` costs. What they return is not kept.
        timeout
            Seconds after which a tier without an answer has failed; None: as long as the tiers' own limits allow.

        Raises
        ------
        InvalidURI
            `uri` is not a name that the store understands. What a tier raises is in its answer.
        """
        from bitstore._lookup.locating import locate

        return locate(self, uri, paid=paid, timeout=timeout)

    def download(
        self,
        uri: Any,
        path: str | os.PathLike[str],
        *,
        timeout: float | None = None,
        verify: bool = True,
    ) -> str:
        """Write the blob to the file `path`, in bounded memory where the store streams, and say where it came from.

        The file appears under its name when it is whole. What has come of an unfinished download stays beside
        it and is resumed by the next one, as long as the server holds the same version. Caches that stand
        above a streaming tier are not filled.

        Parameters
        ----------
        uri
            What to look up.
        path
            The file to write, in a folder that exists. A file there is replaced.
        timeout
            Seconds for the whole download; None: as long as the tiers' own limits allow.
        verify
            Check the digest, where the store knows it, whatever the store's own `verify` says.

        Returns
        -------
        str
            Name of the store or tier that had the blob.

        Raises
        ------
        OSError
            The file cannot be written. All other errors are those of `get`.
        """
        from bitstore._lookup.download import download

        return download(self, uri, path, timeout=timeout, verify=verify)

    async def adownload(
        self,
        uri: Any,
        path: str | os.PathLike[str],
        *,
        timeout: float | None = None,
        verify: bool = True,
    ) -> str:
        """`download` for asyncio: same parameters, result and errors. A cancelled one can be resumed."""
        from bitstore._lookup.asynchronous import download

        return await download(self, uri, path, timeout=timeout, verify=verify)

    def open(self, uri: Any, *, verify: bool | None = None, timeout: float | None = None) -> BinaryIO:
        """The blob as a seekable binary file, of which parts are read without the whole where that can be.

        From a `DiskCache` it is the file itself, which stays readable when it is evicted. From S3, GCS, HTTP servers
        and folders it is one version of the blob: each read asks for the part that it needs, and raises
        `StoreNotAvailable` where the blob was replaced or cut since. All else (compressed blobs, servers without
        ranges, stores that have only `get`) is fetched whole, kept by the caches as after `get`, and in memory.

        Parameters
        ----------
        uri
            What to look up.
        verify
            True: check the digest, where the store knows it, before a byte is given: the blob is fetched whole, or
            read once from the disk cache. False: do not fetch or read more for a check; what comes whole all the same
            is checked as the store says. None: as each store's own `verify` says.
        timeout
            Seconds until the file is open; None: as long as the tiers' own limits allow. Reads have those limits.

        Raises
        ------
        InvalidURI, NotFoundInStore, StoreNotAvailable
            As `get` does.
        TypeError
            A user's own store has something else than bytes.
        """
        from bitstore._lookup.opened import open_file

        return open_file(self, uri, verify=verify, timeout=timeout)

    def canonical(self, uri: Any) -> Any:
        """The one form of all spellings of `uri` (a digest in lower case, say).

        Raises `InvalidURI` unless it is valid.
        """
        self._check_valid(uri)
        return uri

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(uri):
            raise InvalidURI(self, uri, hint=self.URI_HINT)

    def counts(self) -> RequestCounts | None:
        """Numbers of HTTP requests of this process, for `Composite.stats`; None: the store keeps none."""
        return None

    @property
    def label(self) -> str:
        """A short name for statistics and error messages."""
        return type(self).__name__

    def outline(self) -> Outline:
        """What the store is and how it is set, without secrets: `print(store.outline())`. Notebooks show it as a table.

        A subclass may add to the facts of `super().outline()`.
        """
        return Outline(redact(self.label), type(self).__name__)

    def _repr_html_(self) -> str:
        return outline_of(self).html()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class SteppedStore(Store):
    """A store whose lookup is written as steps alone: `get` is made from them, as `exists` and `put` are.

    A subclass implements `is_valid` and `get_steps`, and as many of the other methods in `bitstore.steps` as it likes.
    """

    @abstractmethod
    def get_steps(self, uri: Any, /) -> Steps[Found]:
        """The lookup of `uri` as steps, as `bitstore.steps.GetsInSteps` describes them."""

    def get(self, uri: Any) -> Any:
        """The bytes stored under `uri`. Raises what the steps raise, and `InvalidURI`."""
        self._check_valid(uri)
        return run(self.get_steps(uri)).data
