"""What an answer of an object store means, read from its body: the status alone does not tell.

A 404 may be a missing key or a proxy's own page, a 403 may be an archived object or a wrong key, a 400
may be an expired token. Error codes of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
of Google Cloud Storage: https://cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bitstore.steps import TIMED_OUT, TOO_LARGE, Response, TransferError

__all__ = [
    "Problem",
    "gcs_problem",
    "plain_problem",
    "s3_problem",
    "too_large",
    "transfer_problem",
    "unasked",
    "without",
    "without_credentials",
]

_LONGEST_TEXT = 300
_TELLING = 8  # characters of a secret that may stand at the end of a text: fewer tell nothing
_LONGEST_BODY = 64 * 1024  # an error body longer than this is no error body

_XML_ERROR = re.compile(rb"<Error(?:\s[^>]*)?>(.*)</Error>", re.DOTALL)
_XML_FIELD = re.compile(rb"<(Code|Message|Region)>([^<]*)</\1>")
_GCS_PLAIN_MISSING = re.compile(r"(not found|no such (object|bucket).*|the specified bucket does not exist\.?)", re.I)
_GCS_NO_BUCKET = re.compile(r"no such bucket|the specified bucket does not exist", re.I)

_OUT = frozenset({429, 502, 503, 504})
# libcurl codes of transfers that brought no answer: no such host, no connection, timeout, TLS, nothing, send, receive.
_SILENT = frozenset({6, 7, TIMED_OUT, 35, 52, 55, 56})
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "InvalidObjectState"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled"})
_BAD_KEYS = _EXPIRED | {
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


@dataclass(slots=True)
class Problem:
    """An answer that is not the blob.

    Attributes
    ----------
    status
        The HTTP status; 0: there was no whole answer.
    code
        The service's own name for it; empty if the body named none.
    message
        The service's text, cut to a sane length.
    region
        The S3 region that the answer points to.
    missing
        The service said that it does not hold the blob.
    forbidden
        The service knows who asks and says no, about this blob: what `forbidden_is_missing` is for.
    refused
        Other credentials may be let in.
    expired
        Fresh credentials may be let in.
    elsewhere
        The same request may succeed in another region.
    too_large
        The body was larger than the request allowed, and was cut off.
    outage
        What gives the credentials is out, so the question was not asked, or not by all that may ask it.
    cut
        The HTTP status of an answer whose body did not come to its end; 0: no head of an answer came.
    cause
        The exception behind it.
    """

    status: int = 0
    code: str = ""
    message: str = ""
    region: str | None = None
    missing: bool = False
    forbidden: bool = False
    refused: bool = False
    expired: bool = False
    elsewhere: bool = False
    too_large: bool = False
    outage: bool = False
    cut: int = 0
    cause: BaseException | None = field(default=None, repr=False)

    @property
    def unreachable(self) -> bool:
        """Whether it says nothing about this blob: see `StoreNotAvailable.unreachable`."""
        silent = isinstance(self.cause, TransferError) and self.cause.code in _SILENT
        return self.outage or self.status in _OUT or silent

    @property
    def no_bucket(self) -> bool:
        """The service said that there is no such bucket."""
        if self.code in ("NoSuchKey", "NoSuchBucket"):  # S3 says it in a word, and to look for more would cost
            return self.code == "NoSuchBucket"
        return _GCS_NO_BUCKET.search(self.message) is not None

    def __str__(self) -> str:
        head = " ".join(str(part) for part in (self.status, self.code) if part)
        return ": ".join(part for part in (head, self.message) if part)


def s3_problem(response: Response) -> Problem:
    """What an answer of S3 other than success means."""
    found = _XML_ERROR.search(response.body) if len(response.body) <= _LONGEST_BODY else None
    if found is None:
        return s3_meaning(response.status, "", _excerpt(response.body))
    fields = {name.decode(): _text(value) for name, value in _XML_FIELD.findall(found[1])}
    return s3_meaning(response.status, fields.get("Code", ""), fields.get("Message", ""), fields.get("Region"))


def s3_meaning(status: int, code: str, message: str, region: str | None = None) -> Problem:
    """The same from its parts, however they came (REST or a boto3 client)."""
    if code == "RequestTimeTooSkewed":
        message = f"the clock of this machine is off, so its signatures are refused ({message})"
    missing = code in _MISSING
    skewed = code in ("RequestTimeTooSkewed", "RequestExpired")
    return Problem(
        status,
        code,
        _cut(message),
        region=region or None,
        missing=missing,
        forbidden=status == 403 and code in _FORBIDDEN,
        refused=not missing and not skewed and (status in (401, 403) or code in _BAD_KEYS),
        expired=code in _EXPIRED,
        elsewhere=status == 301 or code in _ELSEWHERE,
    )


def gcs_problem(response: Response) -> Problem:
    """What an answer of the JSON API of Google Cloud Storage other than success means."""
    status = response.status
    parsed = _json_error(response.body)
    if parsed is not None:
        code, message = parsed
        # A wrong billing project is a 404 too, and says nothing about the blob.
        missing = status == 404 and "project" not in message.lower()
    else:
        code, message = "", _excerpt(response.body)
        # Media downloads answer with plain text instead of JSON.
        missing = status == 404 and _GCS_PLAIN_MISSING.fullmatch(message) is not None
    return Problem(
        status,
        code,
        _cut(message),
        missing=missing,
        forbidden=status == 403 and parsed is not None and code not in ("userRateLimitExceeded", "rateLimitExceeded"),
        refused=status in (401, 403),
        expired=status == 401,
    )


def plain_problem(response: Response) -> Problem:
    """What an answer of any web server other than success means: there the status is all there is."""
    status = response.status
    return Problem(
        status,
        "",
        _excerpt(response.body),
        missing=status in (404, 410),
        forbidden=status == 403,
        refused=status in (401, 403),
    )


def transfer_problem(error: TransferError, max_bytes: int | None) -> Problem:
    """What a broken transfer means."""
    if error.code == TOO_LARGE:
        # Without its cause: the traceback refers to the lookup's frames, which may go on to hold the blob itself.
        return replace(too_large(max_bytes), cut=error.status)
    return Problem(0, "", _cut(str(error)), cut=error.status, cause=error)


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


def _json_error(body: bytes) -> tuple[str, str] | None:
    if len(body) > _LONGEST_BODY or not body.lstrip().startswith(b"{"):
        return None
    try:
        error = json.loads(body)["error"]
        details = error.get("errors") or [{}]
        return str(details[0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # JSON of somebody else, perhaps nested without end


def _excerpt(body: bytes) -> str:
    return _cut(" ".join(body[: 4 * _LONGEST_TEXT].decode("utf-8", "replace").split()))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def _text(value: bytes) -> str:
    return " ".join(html.unescape(value.decode("utf-8", "replace")).split())
