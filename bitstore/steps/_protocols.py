"""What a fast store offers besides `get`: optional methods, each a protocol that any class can implement.

A composite and a batch ask a store by these methods where its class has them, and by `get`, `exists` and `put` in a
worker thread where it has not. No base class is needed. Two rules hold for every pair of methods:

1. A class that overrides only `get` means its `get`: inherited `get_steps`, `download_steps` and `open_steps` are then
   passed over. One that overrides `get_steps` means that: inherited `hashed_steps` are passed over.
   `exists` and `exists_steps`, `put` and `put_steps` are such pairs, too. It is decided once for each class.
2. The key has been checked: `get_steps` and its kin are called with what `is_valid` accepts.

`bitstore.testing.check_store` checks the methods that a store has; `examples/fast_store.py` is such a store.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from bitstore.steps._request import Sink
from bitstore.steps._steps import Found, Steps, Stored

# Where a blob that is put into a store can be seen: in one process, in all of a machine (a node), or on all nodes.
Scope: TypeAlias = Literal["process", "node", "shared"]


class Write:
    """How a write treats a blob that is there already.

    Parameters
    ----------
    only_if_absent
        Leave an existing blob alone (`If-None-Match: *`); finding one is a success.
    replacing
        Overwrite only the copy that has this version (`If-Match`), which `version_steps` has returned. Finding another
        version is a success too: another writer has replaced the bad copy meanwhile.
    """

    __slots__ = ("only_if_absent", "replacing")

    def __init__(self, *, only_if_absent: bool = False, replacing: str | None = None) -> None:
        self.only_if_absent = only_if_absent
        self.replacing = replacing

    def __repr__(self) -> str:
        return f"Write(only_if_absent={self.only_if_absent}, replacing={self.replacing!r})"


OVERWRITE = Write()


class FileSink(Sink, Protocol):
    """The file that a download fills (`bitstore.Store.download`), as a store sees it.

    A store that streams calls `expect`, yields `Request(..., sink=file)`, then calls `check` and `ended`. One that
    does not stream calls `fill`. Neither returns before the whole blob is in the file.
    """

    @property
    def size(self) -> int:
        """Bytes that are in the file."""

    @property
    def complete(self) -> bool:
        """Whether the file holds the whole blob already, from an earlier download."""

    def expect(self, url: str) -> None:
        """The next answer comes from `url`. Bytes that an earlier download has left from there are kept."""

    def check(self) -> None:
        """Raise the error of the local disk, if it ended the transfer."""

    def ended(self, status: int, headers: Any) -> None:
        """The whole answer has come."""

    def restart(self) -> None:
        """Drop all bytes: they are the beginning of another version."""

    def fill(self, data: Any) -> None:
        """Write the whole blob, in place of what is there. TypeError unless `data` is bytes."""


@runtime_checkable
class GetsInSteps(Protocol):
    """A lookup as steps."""

    def get_steps(self, uri: Any, /) -> Steps[Found]:
        """Steps that end in the blob. They raise what `get` raises: `NotFoundInStore` only where the blob is absent."""


@runtime_checkable
class HashesInSteps(GetsInSteps, Protocol):
    """A lookup as steps that may hash the blob on its way."""

    def hashed_steps(self, uri: Any, algorithm: str, /) -> Steps[Found]:
        """As `get_steps`. What they end in may have the digest by this algorithm of `hashlib`: `Found.digest`."""


@runtime_checkable
class GetsByKey(GetsInSteps, Protocol):
    """A lookup as steps by what the store's own `canonical` has returned: a composite has it."""

    def key_steps(self, key: Any, paid_for: frozenset[str] = frozenset(), /) -> Steps[Found]:
        """`get_steps` of a canonical key; paid tiers named in `paid_for` lack the blob and are not asked again."""


@runtime_checkable
class ExistsInSteps(Protocol):
    """Existence as steps."""

    def exists_steps(self, uri: Any, /) -> Steps[bool]:
        """Steps that end in whether the store holds `uri`. They raise what `exists` raises."""


@runtime_checkable
class DescribesInSteps(Protocol):
    """What is known of a blob without its bytes, as steps."""

    def describe_steps(self, uri: Any, /) -> Steps[Stored | None]:
        """Steps that end in what the store holds under `uri`; None: nothing. They raise what `exists` raises."""


@runtime_checkable
class PutsInSteps(Protocol):
    """A write as steps."""

    def put_steps(self, uri: Any, data: bytes, write: Write, /) -> Steps[None]:
        """Steps that write `data`, on the condition `write`. They raise `StoreNotAvailable` if it was not written."""


@runtime_checkable
class HasVersions(Protocol):
    """Versions of what is stored, so that a bad copy is replaced, and nothing but this copy."""

    def version_steps(self, uri: Any, /) -> Steps[str | None]:
        """Steps that end in the version of the present copy, for `Write(replacing=...)`; None: there is no copy."""


@runtime_checkable
class DownloadsInSteps(Protocol):
    """A download into a file, in bounded memory."""

    def download_steps(self, uri: Any, file: Any, /) -> Steps[Found]:
        """Steps that bring the whole blob into `file` (a `FileSink`), and end in `Found(file, label)`."""


@runtime_checkable
class OpensInSteps(Protocol):
    """A blob as a file, of which parts are read where the store can."""

    def open_steps(self, uri: Any, verify: bool | None, /) -> Steps[Found]:
        """Steps that end in `Found` with the blob as bytes, or as a seekable binary file of one version of it.

        `verify`: check the digest, where the store knows it; None: as the store's own `verify` says. Reads of the file
        raise `StoreNotAvailable` where the blob is another one by then, or shorter.
        """


@runtime_checkable
class RangesInSteps(Protocol):
    """A part of a blob by one request."""

    def range_steps(self, uri: Any, start: int, end: int, /) -> Steps[bytes]:
        """Steps that end in the bytes from `start` up to `end`, which are of one version; fewer where the blob ends.

        They raise `NotFoundInStore` where there is no blob, and `StoreNotAvailable` where the store gives no parts.
        """


@runtime_checkable
class RequestCounts(Protocol):
    """Numbers of HTTP requests of one store in one process."""

    @property
    def requests(self) -> int:
        """Requests sent, tries included."""

    @property
    def retries(self) -> int:
        """How many of them were sent again after a failure."""


@runtime_checkable
class CountsRequests(Protocol):
    """Counts of requests, which `Composite.stats` shows."""

    def counts(self) -> RequestCounts | None:
        """The counts of this process; None: none are kept."""
