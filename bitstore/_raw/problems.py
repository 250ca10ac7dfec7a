"""What came in place of a blob, as data, and its text without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from bitstore._lookup.retry import ASK_FOR_LESS, OUTAGES
from bitstore.steps import TIMED_OUT, TOO_LARGE, Response, TransferError

__all__ = [
    "GCS_RATES",
    "LONGEST_TEXT",
    "Problem",
    "archive_problem",
    "cut",
    "too_large",
    "transfer_problem",
    "tried",
    "unasked",
    "without",
    "without_credentials",
]

LONGEST_TEXT = 300
_TELLING = 8  # characters of a secret that may stand at the end of a text: fewer tell nothing
# libcurl codes of transfers that brought no answer: no such host, no connection, timeout, TLS, nothing, send, receive.
_SILENT = frozenset({6, 7, TIMED_OUT, 35, 52, 55, 56})
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # storage classes that are not read at once
# Reasons of Google that ask for fewer requests, although their status is 403.
GCS_RATES = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


@dataclass(slots=True)
class Problem:
    """An answer that is not the blob."""

    status: int = 0  # of the HTTP answer; 0: there was no whole answer
    code: str = ""  # the service's own name for it; empty if the body named none
    message: str = ""  # the service's text, cut to a sane length
    region: str | None = None  # the S3 region that the answer points to
    header: str = ""  # the header or argument that the answer blames
    missing: bool = False  # the service said that it does not hold the blob
    no_bucket: bool = False  # the service said that there is no such bucket
    archived: bool = False  # the blob is there, but must be restored before it can be read
    forbidden: bool = False  # the read of this very blob is refused: what `forbidden_is_missing` is for
    refused: bool = False  # other credentials may be let in
    expired: bool = False  # fresh credentials may be let in
    elsewhere: bool = False  # the same request may succeed in another region
    too_large: bool = False  # the body was larger than the request allowed, and was cut off
    outage: bool = False  # the service, or what gives the credentials, is out: it is no verdict on the blob
    unservable: bool = False  # a store of this kind cannot serve such a bucket
    cut: int = 0  # the HTTP status of an answer whose body did not come to its end; 0: no head of an answer came
    cause: BaseException | None = field(default=None, repr=False)  # the exception behind it

    @property
    def unreachable(self) -> bool:
        """Whether it says nothing about this blob: see `StoreNotAvailable.unreachable`."""
        silent = isinstance(self.cause, TransferError) and self.cause.code in _SILENT
        return self.outage or self.status in OUTAGES or silent or self.code in GCS_RATES

    @property
    def asks_for_less(self) -> bool:
        """Whether there are too many requests, whatever they are for."""
        return self.status in ASK_FOR_LESS or self.code in GCS_RATES

    @property
    def definite(self) -> bool:
        """Whether the same question would get the same answer: see `StoreNotAvailable.definite`."""
        return self.no_bucket or self.archived or self.unservable

    def __str__(self) -> str:
        head = " ".join(str(part) for part in (self.status, self.code) if part)
        return ": ".join(part for part in (head, self.message) if part)


def archive_problem(headers: Mapping[str, str]) -> Problem | None:
    """The problem of an object whose head says that it lies in an archive, and was not restored; else None.

    Headers: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html.
    """
    place = headers.get("x-amz-archive-status", "")
    if not place and headers.get("x-amz-storage-class", "") in _ARCHIVES:
        place = headers["x-amz-storage-class"]
    if not place or 'ongoing-request="false"' in headers.get("x-amz-restore", ""):
        return None
    return Problem(403, "InvalidObjectState", f"archived: restore it first (it lies in {place})", archived=True)


def transfer_problem(error: TransferError, max_bytes: int | None) -> Problem:
    """What a broken transfer means."""
    if error.code == TOO_LARGE:
        # Without its cause: the traceback refers to the lookup's frames, which may go on to hold the blob itself.
        return replace(too_large(max_bytes), cut=error.status)
    return Problem(0, "", cut(str(error)), cut=error.status, cause=error)


def without_credentials(problem: Problem) -> Problem:
    """`problem` as it counts while what gives credentials is out: others may be let in, so it is no verdict."""
    return replace(problem, missing=False, forbidden=False, refused=False, outage=True)


def too_large(max_bytes: int | None) -> Problem:
    """The blob has more than `max_bytes`."""
    message = f"the blob is larger than max_blob_size ({max_bytes} bytes)"
    return Problem(message=message, too_large=True)


def unasked(status: int) -> Problem:
    """A success that is not the whole blob, which was asked for: a part would be taken for it, or nothing for empty."""
    return Problem(status, message="a success, but not with the whole blob")


def without(text: str, secrets: Iterable[str | None]) -> str:
    """`text` with every one of `secrets` blotted out: a server may echo what it was sent.

    Texts are cut to a sane length, so one that ends in the middle of a secret is looked for as well.
    """
    for secret in secrets:
        if not secret:
            continue
        text = text.replace(secret, "***")
        if text.endswith("..."):
            at = text.find(secret[:_TELLING])
            while at >= 0 and not secret.startswith(text[at:-3]):
                at = text.find(secret[:_TELLING], at + 1)
            if at >= 0:
                text = text[:at] + "***"
    return text


def cut(text: str) -> str:
    """`text`, no longer than messages should be."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."


def tried(operation: Callable[[], Response | Problem], meaning: Callable[[Exception], Problem]) -> Response | Problem:
    """What a call of a caller's own client comes to; `meaning` reads its exceptions."""
    try:
        return operation()
    except Exception as error:  # a caller's client may be a mock: whatever it raises is the answer
        problem = meaning(error)
        problem.cause = error
        return problem
