"""HTTP requests and responses, as the data plane sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from bitstore._support.redact import redact_password
from bitstore.steps._file_body import FileBody

# So much of an error is always taken, however small the blobs may be: its body tells what it is.
ERROR_BYTES = 64 * 1024
NO_HEADERS: dict[str, str] = {}
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # what stays as it is of a server's `location`
TIMED_OUT = 28  # CURLE_OPERATION_TIMEDOUT
EARLY = 0.02  # seconds by which libcurl may end a transfer before the time that it was given is over
TRICKLE = 100  # bytes a second: less is no progress. 1,024 transfers over a line of 1 Mbit/s still have more each.
REFUSED = 43  # CURLE_BAD_FUNCTION_ARGUMENT, the code of a `TransferError` for a request that no transport can carry
TOO_LARGE = 63  # CURLE_FILESIZE_EXCEEDED, the code of a `TransferError` for a body above `max_bytes`


class Signer(Protocol):
    """Makes the headers of a request whose signature depends on what is asked for, and when."""

    def lines(self, method: str, url: str, headers: Sequence[str]) -> list[str]:
        """All header lines of a request that has `headers` of its own. Called each time it is sent."""


@dataclass(frozen=True, eq=False)
class Profile:
    """What many requests have in common. Connections are kept per profile, so make one and use it often.

    Attributes
    ----------
    headers
        Lines `"Name: value"` that every request carries.
    signer
        Makes the headers of each request, in place of `headers`.
    connect_timeout
        Seconds to wait for a connection.
    stall_timeout
        Seconds without a byte (before the first or between two), or with fewer than 100 in each, after which a
        transfer is given up.
    total_timeout
        Seconds that one attempt may take in all; None: no limit as long as bytes flow.
    ca_bundle
        Path of a PEM file of certificate authorities; None: the system's or certifi's.
    proxy
        Proxy URL; None: what the environment says (`https_proxy`, `no_proxy`, ...).
    max_bytes
        Give up on the body of a GET that is larger than this; None: no limit.
    """

    headers: tuple[str, ...] = field(default=(), repr=False)
    signer: Signer | None = field(default=None, repr=False)
    connect_timeout: float = 5.0
    stall_timeout: float = 15.0
    total_timeout: float | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    max_bytes: int | None = None


class Sink(Protocol):
    """Where the body of a GET goes as it arrives, instead of into memory."""

    def headers(self) -> tuple[str, ...]:
        """Lines `"Name: value"` of the next try, which may ask only for what is not there yet."""

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """Take the head of an answer with status 200 or 206. False: end the transfer, its body does not fit."""

    def write(self, chunk: bytes) -> bool:
        """Take the next bytes of the body. False: end the transfer."""

    def advanced(self) -> bool:
        """Whether enough bytes have come to stay, since this was last True, to begin the count of tries again."""


class Room(NamedTuple):
    """Where in memory a transport may receive a part of a blob.

    Attributes
    ----------
    memory
        For the bytes of the whole blob. Nothing else sees them before all of them were written.
    start
        Where the part begins.
    """

    memory: bytes
    start: int

    def filled(self, size: int) -> Any:
        """The part of so many bytes that was received, as a memoryview."""
        return memoryview(self.memory)[self.start : self.start + size]


class Request:
    """One HTTP exchange.

    Parameters
    ----------
    profile
        How to sign, connect and give up.
    url
        The whole URL, percent-encoded.
    method
        `GET`, `HEAD`, `PUT`, `POST` or `DELETE`.
    body
        What to send (PUT, POST). The bytes of a `FileBody` are read where the transfer runs, and may block it.
    headers
        Further lines `"Name: value"` of this request alone.
    want_headers
        Collect the response headers. Off by default: each line costs a call back into Python.
    max_bytes
        Give up on a body larger than this; None: what the profile says; 0: no limit.
    sink
        Takes the body if the status is 200 or 206; the response is then without it. It is called where the
        transfer runs and may block it, so it is for `bitstore._lookup.run` only.
    hash_with
        Name of a digest algorithm (`"sha1"`, `"sha256"` or `"md5"`): a transport may compute this digest of the body
        as it comes. None: the digest is not wanted.
    room
        Where a transport may receive the body of a GET with `Range` if the status is 206. What it has received there is
        a memoryview in the response.
    """

    __slots__ = (
        "body",
        "hash_with",
        "headers",
        "into_memory",
        "max_bytes",
        "method",
        "plain",
        "profile",
        "room",
        "sent_at",
        "sink",
        "url",
        "want_headers",
    )

    def __init__(
        self,
        profile: Profile,
        url: str,
        *,
        method: str = "GET",
        body: bytes | FileBody | None = None,
        headers: tuple[str, ...] = (),
        want_headers: bool = False,
        max_bytes: int | None = None,
        sink: Sink | None = None,
        hash_with: str | None = None,
        room: Room | None = None,
    ) -> None:
        self.profile = profile
        self.url = url
        self.method = method
        self.body = body
        self.headers = headers
        self.want_headers = want_headers
        self.max_bytes = max_bytes
        self.sink = sink
        self.hash_with = hash_with
        self.room = room
        # When it was sent, in seconds on the clock of pauses, where that was before the lookup asked for it.
        self.sent_at: float | None = None
        # Whether this is a GET whose body goes into memory.
        self.into_memory = method == "GET" and body is None and sink is None
        # Whether it is one of a whole body, as its profile has it; by far the most are.
        self.plain = self.into_memory and not headers and not want_headers and max_bytes is None

    @property
    def origin(self) -> str:
        """Scheme, host and port as in the URL; empty if no path follows them."""
        end = self.url.find("/", 8)  # behind the scheme
        return self.url[:end] if end > 0 else ""

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url})"


class Response(NamedTuple):
    """A whole answer of a server, whatever its status.

    Attributes
    ----------
    status
        The HTTP status code.
    body
        All bytes of the body, as sent (no content decoding). With `Request.room` it may be a memoryview of that.
    headers
        Lower-case names to values. Without `want_headers` there is at most `location`: the absolute URL
        that a 3xx answer points to. Redirects are never followed here.
    retry_after
        Seconds that the server asks to wait before the next try; 0: it said nothing.
    digest
        The digest of `body` by the request's `hash_with`, in lower-case hexadecimal, where the transport has computed
        it for a status 200; None: it has not.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    retry_after: float
    digest: str | None = None


class TransferError(Exception):
    """No whole answer came: connection, TLS, time-out, cut body.

    What had come of the answer serves the next try. It is neither shown nor pickled: part of a large blob has no place
    in a log.

    Attributes
    ----------
    code
        libcurl's error number (https://curl.se/libcurl/c/libcurl-errors.html).
    status
        The HTTP status, if the head of an answer had arrived; else 0.
    headers
        The response headers so far (empty unless the request had `want_headers`).
    partial
        The bytes of the body that had arrived.
    """

    def __init__(
        self, code: int, message: str, status: int = 0, headers: Mapping[str, str] | None = None, partial: bytes = b""
    ) -> None:
        message = redact_password(message)  # libcurl repeats the URL of a proxy that it cannot use
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status
        self.headers: Mapping[str, str] = headers or {}
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args

    def __str__(self) -> str:
        return f"{self.message} (curl error {self.code})"
