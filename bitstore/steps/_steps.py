"""The steps of a lookup, as data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from bitstore.steps._request import Request


class Call:
    """Run `function(*args)`, which may block: drivers keep it off the transfer thread."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args


class Sleep:
    """Resume after `seconds`."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Landing(Protocol):
    """Something that will happen once."""

    def on_landing(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, from any thread, when it has happened (at once if it already has)."""


class Wait:
    """Resume when `event` has happened."""

    __slots__ = ("event",)

    def __init__(self, event: Landing) -> None:
        self.event = event


class Together:
    """Perform several generators of steps at once; the answer is the list of what they return.

    The first error among them ends the others and is thrown. The end of the lookup ends all of them.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Steps[Any]]) -> None:
        if not parts:
            raise ValueError("nothing to perform")
        self.parts = parts


class Cancelled(BaseException):
    """Thrown into a lookup whose time is up. Not an `Exception`: no tier may take it for a failure of its own."""


class Found(NamedTuple):
    """What a successful lookup returns.

    Attributes
    ----------
    data
        The blob: bytes, or whatever a user's own store returned.
    source
        Name of the store or tier that had it.
    etag
        The ETag under which the bucket holds these bytes, where it is known.
    matched
        False: the store knows that the bytes have another digest than their name says. A digest composite whose
        sources verify takes such a copy in a cache for missing.
    digest
        The digest of `data` in lower-case hexadecimal, by the algorithm that the lookup named (`hash_with`), where it
        was computed on the way; None: it was not.
    """

    data: Any
    source: str
    etag: str | None = None
    matched: bool = True
    digest: str | None = None


class Stored(NamedTuple):
    """What a store says about a blob that it holds, without the bytes.

    Attributes
    ----------
    url
        Where the blob lies, without passwords and signatures; None: it has no address.
    size
        Bytes as they are stored (compressed, where they are); None: unknown.
    etag
        The ETag; None: the store has none.
    encoding
        The `Content-Encoding` under which the object is stored; None: it has none.
    compression
        The codec in which the store expands what it holds (`DigestStore.compression`); None: it expands nothing.
    """

    url: str | None = None
    size: int | None = None
    etag: str | None = None
    encoding: str | None = None
    compression: str | None = None


T = TypeVar("T")
Step: TypeAlias = "Request | Call | Sleep | Wait | Together"
Steps: TypeAlias = Generator[Step, Any, T]
