"""What a store is: the one contract that everything in this library meets.

A user's own store needs `is_valid` and `get`, and `put` if it is to serve as a cache. The library's
own stores write their lookup as steps (`bitstore.transfer.steps`) besides, so that thousands of them
can share one thread.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias

from bitstore.blob import Blob
from bitstore.errors import InvalidURI, NotFoundInStore
from bitstore.old import ClassLogger
from bitstore.transfer.steps import Call, Found, Steps

__all__ = ["Store", "Write", "exists_steps", "get_steps", "key_steps", "put_steps"]

Errors: TypeAlias = Literal["return", "raise", "ignore", "log"]


class Store(ABC):
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
    logger
        A logger with the name of the class, for subclasses; they may put any other in its place.
    """

    URI_HINT: ClassVar[str | None] = None
    paid: bool = False
    bytes_only: bool = False
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
        """Keep `data` under `uri`. Optional: only caches and writable stores have it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement the 'put' method")

    def exists(self, uri: Any) -> bool:
        """Whether the store holds `uri`. Raises what `get` raises, except `NotFoundInStore`.

        This default fetches the blob to find out.
        """
        try:
            self.get(uri)
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

        Yields
        ------
        Blob
            One per input, duplicates included.
        """
        from bitstore.batch import get_many

        return get_many(
            self,
            uris,
            ordered=ordered,
            errors=errors,
            timeout=timeout,
            in_flight=in_flight,
            max_bytes=max_bytes,
            patience=patience,
        )

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
        it and is gone on with by the next one, as long as the server holds the same version. Caches that stand
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
        from bitstore.download import download

        return download(self, uri, path, timeout=timeout, verify=verify)

    def canonical(self, uri: Any) -> Any:
        """The one form of all spellings of `uri` (a digest in lower case, say).

        Raises `InvalidURI` unless it is valid.
        """
        self._check_valid(uri)
        return uri

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(uri):
            raise InvalidURI(self, uri, hint=self.URI_HINT)

    @property
    def label(self) -> str:
        """A short name for statistics and error messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Write:
    """How a write treats what is there already.

    Attributes
    ----------
    only_if_absent
        Leave an existing blob alone (`If-None-Match: *`); finding one is a success.
    replacing
        Overwrite only the copy that has this ETag (`If-Match`); finding another is a success too,
        because somebody else has replaced the bad one meanwhile.
    """

    __slots__ = ("only_if_absent", "replacing")

    def __init__(self, *, only_if_absent: bool = False, replacing: str | None = None) -> None:
        self.only_if_absent = only_if_absent
        self.replacing = replacing


OVERWRITE = Write()


def get_steps(store: Store, uri: Any) -> Steps[Found]:
    """The lookup of `uri` as steps: the store's own ones, or one blocking call of its `get`.

    `uri` is valid: who calls this has asked the store's `is_valid` or `canonical`.
    """
    if _has_steps(type(store), "get", "_get_steps") and "get" not in getattr(store, "__dict__", ()):
        steps: Steps[Found] = store._get_steps(uri)  # type: ignore[attr-defined]
        return steps
    return _call_get(store, uri)


def key_steps(store: Store) -> Callable[..., Steps[Found]] | None:
    """A composite's own lookup, as steps, of what its `canonical` returned. None where there is none: see `get_steps`.

    After the key it may be given the names of tiers not to ask, because they have just said that they lack the blob.
    """
    bypassed = "get" in getattr(store, "__dict__", ()) or not _has_steps(type(store), "get", "_get_steps")
    if bypassed or not _has_steps(type(store), "_get_steps", "_key_steps"):
        return None
    steps: Callable[..., Steps[Found]] = store._key_steps  # type: ignore[attr-defined]
    return steps


def exists_steps(store: Store, uri: Any) -> Steps[bool]:
    """Whether `store` holds `uri`, as steps."""
    if _has_steps(type(store), "exists", "_exists_steps"):
        steps: Steps[bool] = store._exists_steps(uri)  # type: ignore[attr-defined]
        return steps
    return _call(store.exists, uri) if hasattr(store, "exists") else _call(Store.exists, store, uri)


def put_steps(store: Store, uri: Any, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
    """The write of `data` as steps. A store that has only `put` overwrites, whatever `write` says."""
    if _has_steps(type(store), "put", "_put_steps"):
        steps: Steps[None] = store._put_steps(uri, data, write)  # type: ignore[attr-defined]
        return steps
    return _call(store.put, uri, data)


def _call_get(store: Store, uri: Any) -> Steps[Found]:
    data = yield Call(store.get, uri)
    return Found(data, getattr(store, "label", type(store).__name__))


def _call(function: Any, *args: Any) -> Steps[Any]:
    return (yield Call(function, *args))


@lru_cache(maxsize=1024)
def _has_steps(cls: type, method: str, steps: str) -> bool:
    # A subclass that overrides only `get` means its `get`: the steps of its base class must not bypass it.
    for base in cls.__mro__:
        if steps in vars(base):
            return True
        if method in vars(base):
            return False
    return False
