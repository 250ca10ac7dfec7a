"""What an answer of an object store means, read from its body: the status alone does not tell.

A 404 may be a missing key or a proxy's own page, a 403 may be an archived object or a wrong key, a 400
may be an expired token. Error codes of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
of Google Cloud Storage: https://cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bitstore._lookup.retry import OUTAGES
from bitstore.steps import TIMED_OUT, TOO_LARGE, Response, TransferError

__all__ = [
    "Problem",
    "archive_problem",
    "gcs_meaning",
    "gcs_problem",
    "json_error",
    "plain_problem",
    "s3_meaning",
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
_XML_FIELD = re.compile(rb"<(Code|Message|Region|Header|ArgumentName|Details)>([^<]*)</\1>")

# libcurl codes of transfers that brought no answer: no such host, no connection, timeout, TLS, nothing, send, receive.
_SILENT = frozenset({6, 7, TIMED_OUT, 35, 52, 55, 56})
# Codes of S3, Azure (also Data Lake and Files) and Oracle.
_NO_BUCKET = frozenset(
    {
        "AccountNotFound",
        "BucketNotFound",
        "ContainerBeingDeleted",
        "ContainerNotFound",
        "FilesystemBeingDeleted",
        "FilesystemNotFound",
        "NamespaceNotFound",
        "NoSuchAccessPoint",
        "NoSuchBucket",
        "NoSuchWebsiteConfiguration",
        "ShareBeingDeleted",
        "ShareNotFound",
    }
)
_ARCHIVED = frozenset({"InvalidObjectState", "BlobArchived"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_BAD_KEYS = _EXPIRED | {
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
# A refusal that speaks of something else than the read of this object.
_OTHER_REFUSAL = re.compile(
    r"quota|billing|payment|balance|arrears|overdue|exceeded|\bcaps?\b|rate.?limit|limit reached|throttl|too many"
    r"|captcha|just a moment|enable javascript|\bblock|\bbanned|suspended|disabled|deactivated|revoked|\blocked|frozen"
    r"|expired|signature|not signed|kms|ciphertext|\baccount\b|subscription|licen[cs]e|\btrial\b|\bmfa\b|\bwaf\b"
    r"|policy violation|\bcountry\b|your (region|location)|\bip\b|x-amz-date"
    r"|(invalid|bad|wrong|unknown|missing) (\w+ )?(token|credentials?|(api|access).?key)|has ended",
    re.IGNORECASE,
)
_ACTION = re.compile(r"\bperform:? ?([\w-]+:\w+)", re.IGNORECASE)  # as IAM names the right that is lacking
_LACKS = re.compile(r"\bdoes not have (\w+\.\w+\.\w+)", re.IGNORECASE)  # the same as Google names it
_READS = re.compile(r"s3:(GetObject\w*|ListBucket\w*|HeadObject)", re.IGNORECASE)
_GCS_READ_REFUSED = re.compile(r"\bstorage\.objects\.(get|list)\b")
_GCS_MISSING = re.compile(
    r"(not found|no such object\b.*|(the )?(requested |specified )?(object|key)\b.*(not found|does not exist))"
    r"\.?",
    re.IGNORECASE | re.DOTALL,
)
_GCS_NO_BUCKET = re.compile(r"no such bucket|the specified bucket does not exist|bucket\b.{0,300}\bnot found", re.I)
_CODES_IN_TEXT = re.compile(r'(?:\bCode: |"code": ?")(\w+)')  # a static website of S3, and services that answer in JSON
_GCS_BUCKET_GONE = "The specified bucket does not exist"
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # storage classes that are not read at once
_GCS_RATES = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


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
    outage: bool = False  # what gives the credentials is out, so not all that may ask have asked
    unservable: bool = False  # a store of this kind cannot serve such a bucket
    cut: int = 0  # the HTTP status of an answer whose body did not come to its end; 0: no head of an answer came
    cause: BaseException | None = field(default=None, repr=False)  # the exception behind it

    @property
    def unreachable(self) -> bool:
        """Whether it says nothing about this blob: see `StoreNotAvailable.unreachable`."""
        silent = isinstance(self.cause, TransferError) and self.cause.code in _SILENT
        return self.outage or self.status in OUTAGES or silent or self.code in _GCS_RATES

    @property
    def definite(self) -> bool:
        """Whether the same question would get the same answer: see `StoreNotAvailable.definite`."""
        return self.no_bucket or self.archived or self.unservable

    def __str__(self) -> str:
        head = " ".join(str(part) for part in (self.status, self.code) if part)
        return ": ".join(part for part in (head, self.message) if part)


def s3_problem(response: Response) -> Problem:
    """What an answer of S3 other than success means."""
    fields = _xml_error(response.body)
    if fields is None:
        return s3_meaning(response.status, "", _excerpt(response.body))
    blamed = f"{fields.get('Header', '')} {fields.get('ArgumentName', '')}".strip()
    return s3_meaning(response.status, fields.get("Code", ""), _told(fields), fields.get("Region"), header=blamed)


def s3_meaning(status: int, code: str, message: str, region: str | None = None, *, header: str = "") -> Problem:
    """What the parts of an S3 error mean, from its REST API or from a boto3 client."""
    archived = code in _ARCHIVED
    if code == "RequestTimeTooSkewed":
        message = f"the clock of this machine is off, so its signatures are refused ({message})"
    if archived:
        message = f"archived: restore it first ({message})"
    return Problem(
        status,
        code,
        _cut(message),
        region=region or None,
        header=header,
        missing=code == "NoSuchKey",
        no_bucket=code in _NO_BUCKET,
        archived=archived,
        forbidden=status == 403 and code == "AccessDenied" and _read_refused(message),
        refused=not archived
        and code not in _SKEWED
        and (status in (401, 403) or code in _BAD_KEYS)
        and code != "NoSuchKey",
        expired=code in _EXPIRED,
        elsewhere=status == 301 or code in _ELSEWHERE,
    )


def gcs_problem(response: Response) -> Problem:
    """What an answer of the JSON API of Google Cloud Storage other than success means.

    Media downloads answer with plain text instead of JSON.
    """
    reason, message = json_error(response.body) or ("", _excerpt(response.body))
    return gcs_meaning(response.status, reason, message)


def gcs_meaning(status: int, reason: str, message: str) -> Problem:
    """What the parts of a GCS error mean, from its JSON API or from a client of Google's."""
    no_object = status == 404 and _GCS_MISSING.fullmatch(message.strip()) is not None
    limited = reason in _GCS_RATES
    return Problem(
        status,
        reason,
        _cut(message),
        missing=no_object,
        no_bucket=status == 404 and not no_object and _GCS_NO_BUCKET.search(message) is not None,
        forbidden=status in (401, 403)
        and reason in ("", "forbidden", "required")
        and _GCS_READ_REFUSED.search(message) is not None,
        refused=status in (401, 403) and not limited,
        expired=status == 401,
    )


def plain_problem(response: Response) -> Problem:
    """What an answer of any web server other than success means.

    The status is all there is, but where the body is an error of S3, Azure or Google Cloud Storage.
    """
    status = response.status
    fields = _xml_error(response.body) or {}
    parsed = json_error(response.body)
    text = _excerpt(response.body)
    code = fields.get("Code", "")
    if parsed is not None:
        forbidden = gcs_meaning(status, *parsed).forbidden
    elif code:
        forbidden = s3_meaning(status, code, _told(fields)).forbidden
    else:
        forbidden = status == 403 and _read_refused(text)
    words = {code, *_CODES_IN_TEXT.findall(text)}
    no_bucket = bool(words & _NO_BUCKET) or (status == 404 and re.search(_GCS_BUCKET_GONE, text) is not None)
    archived = code in _ARCHIVED
    return Problem(
        status,
        code,
        f"archived: restore it first ({text})" if archived else text,
        missing=status in (404, 410) and not no_bucket,
        no_bucket=no_bucket,
        archived=archived,
        forbidden=forbidden,
        refused=status in (401, 403) and not archived,
    )


def archive_problem(headers: Mapping[str, str]) -> Problem | None:
    """The problem of an object whose head says that it lies in an archive, and was not restored; else None.

    Headers: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html.
    """
    place = headers.get("x-amz-archive-status", "")
    if not place and headers.get("x-amz-storage-class", "") in _ARCHIVES:
        place = headers["x-amz-storage-class"]
    if not place or 'ongoing-request="false"' in headers.get("x-amz-restore", ""):
        return None
    return s3_meaning(403, "InvalidObjectState", f"it lies in {place}")


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


def _read_refused(message: str) -> bool:
    """Whether a refusal may be of the read of this very object, as far as its text tells."""
    lacks = _LACKS.search(message)
    if lacks is not None:
        return _GCS_READ_REFUSED.fullmatch(lacks[1]) is not None
    action = _ACTION.search(message)
    if action is not None:
        return _READS.fullmatch(action[1]) is not None
    return _OTHER_REFUSAL.search(message) is None


def _xml_error(body: bytes) -> dict[str, str] | None:
    found = _XML_ERROR.search(body) if len(body) <= _LONGEST_BODY else None
    return None if found is None else {name.decode(): _text(value) for name, value in _XML_FIELD.findall(found[1])}


def _told(fields: Mapping[str, str]) -> str:
    # Google's XML API says in the details what is refused.
    return f"{fields.get('Message', '')} {fields.get('Details', '')}".strip()


def json_error(body: bytes) -> tuple[str, str] | None:
    """Reason and message in an error body of Google's JSON APIs; None: the body is something else."""
    if len(body) > _LONGEST_BODY or not body.lstrip().startswith(b"{"):
        return None
    try:
        error = json.loads(body)["error"]
        details = error.get("errors") or [{}]
        return str(details[0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # JSON of another service, perhaps nested without end


def _excerpt(body: bytes) -> str:
    return _cut(" ".join(body[: 4 * _LONGEST_TEXT].decode("utf-8", "replace").split()))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def _text(value: bytes) -> str:
    return " ".join(html.unescape(value.decode("utf-8", "replace")).split())
