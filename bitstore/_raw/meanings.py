"""What an answer of an object store means, read from its body: the status alone does not tell.

A 404 may be a missing key or a proxy's own page, a 403 may be an archived object or a wrong key, a 400
may be an expired token. Error codes of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
of Google Cloud Storage: https://cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping

from bitstore._lookup.retry import ASK_FOR_LESS
from bitstore._raw.problems import GCS_RATES, LONGEST_TEXT, Problem, cut
from bitstore.steps import Response

__all__ = ["asks_for_less", "gcs_meaning", "gcs_problem", "json_error", "plain_problem", "s3_meaning", "s3_problem"]

_LONGEST_BODY = 64 * 1024  # an error body longer than this is no error body

_XML_ERROR = re.compile(rb"<Error(?:\s[^>]*)?>(.*)</Error>", re.DOTALL)
_XML_FIELD = re.compile(rb"<(Code|Message|Region|Header|ArgumentName|Details)>([^<]*)</\1>")

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
# All that a refusal may say for `forbidden_is_missing`: that access is denied, in the words of known services. A text
# with any other word in it may speak of a quota, an account, a key or a place, and is a failure. AWS, MinIO, R2,
# Google and others say "Access Denied"; Ceph says nothing; Alibaba names the list of rights of the bucket or object.
_SAYS_NO = re.compile(
    r"access(?: is| to (?:this|the requested) (?:resource|object|file|page)(?: is)?)? ?(?:denied|forbidden)"
    r"|you have no right to access this object(?: because of (?:bucket|object) acl)?"
    r"|you (?:don't|do not) have permission to (?:access|read|view) "
    r"(?:(?:this|the requested) (?:resource|object|file|page)|/\S*)(?: on this server)?"
    r"|permission denied|request forbidden -- authorization will not help|forbidden"
    # What web servers put around it: their names, and the names of fields.
    r"|apache\S*(?: \([\w ]+\))?(?: \S+/\S+)* server at \S+ port \d+"
    r"|(?:apache|caddy|envoy|jetty|lighttpd|litespeed|nginx|openresty|tengine)(?:/[\w.]+)?"
    r"|\b(?:request|host)[ _-]?id: \S+"
    r"|\b(?:403|code|detail|errors?|explanation|false|http|message|msg|null|response|status|statuscode|success|title)\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LONGEST_REFUSAL = 4096  # bytes; a longer page has more to say than no
_ACTION = re.compile(r"\bperform:? ?([\w-]+:\w+)", re.IGNORECASE)  # as IAM names the right that is lacking
_LACKS = re.compile(r"\b(?:does not have |permission ')(\w+\.\w+\.\w+)", re.IGNORECASE)  # the same as Google names it
_READS = re.compile(r"s3:(GetObject\w*|ListBucket\w*|HeadObject)", re.IGNORECASE)
_GCS_READ_REFUSED = re.compile(r"\bstorage\.objects\.(get|list)\b")
_GCS_MISSING = re.compile(
    r"(not found|no such object\b.*|(the )?(requested |specified )?(object|key)\b.*(not found|does not exist))"
    r"\.?",
    re.IGNORECASE | re.DOTALL,
)
_GCS_NO_BUCKET = re.compile(r"no such bucket|the specified bucket does not exist|bucket\b.{0,300}\bnot found", re.I)
_CODES_IN_TEXT = re.compile(r'(?:\bCode: |"code": ?")(\w+)')  # a static website of S3, and services that answer in JSON
# In any service's words, unless they speak of what is looked for in the bucket.
_BUCKET_GONE = re.compile(
    r"(?<!in )(?<!in the )(?<!from )\b(?:bucket|container)(?: [^\s.,;]+)? (?:was |is )?"
    r"(?:not found|does(?: not|n't) exist)",
    re.IGNORECASE,
)


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
        cut(message),
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


def asks_for_less(response: Response) -> bool:
    """Whether an answer of a server that may be Google's asks for fewer requests."""
    # Where refusals stand for absences, most answers are such: only those with the word are parsed.
    return response.status in ASK_FOR_LESS or (
        b"ateLimitExceeded" in response.body and gcs_problem(response).asks_for_less
    )


def gcs_meaning(status: int, reason: str, message: str) -> Problem:
    """What the parts of a GCS error mean, from its JSON API or from a client of Google's."""
    no_object = status == 404 and _GCS_MISSING.fullmatch(message.strip()) is not None
    limited = reason in GCS_RATES
    return Problem(
        status,
        reason,
        cut(message),
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
    limited = parsed[0] if parsed is not None and parsed[0] in GCS_RATES else ""
    code = fields.get("Code", "") or limited
    if parsed is not None:
        forbidden = gcs_meaning(status, *parsed).forbidden
    elif code:
        forbidden = s3_meaning(status, code, _told(fields)).forbidden
    else:
        whole = len(response.body) <= _LONGEST_REFUSAL
        forbidden = status == 403 and whole and _read_refused(_MARKUP.sub(" ", _text(response.body)))
    words = {code, *_CODES_IN_TEXT.findall(text)}
    no_bucket = bool(words & _NO_BUCKET) or (status == 404 and _BUCKET_GONE.search(text) is not None)
    archived = code in _ARCHIVED
    return Problem(
        status,
        code,
        f"archived: restore it first ({text})" if archived else text,
        missing=status in (404, 410) and not no_bucket,
        no_bucket=no_bucket,
        archived=archived,
        forbidden=forbidden,
        refused=status in (401, 403) and not archived and not limited,
    )


def _read_refused(message: str) -> bool:
    """Whether a refusal is known to be of the read of this very object, by its text."""
    lacks = _LACKS.search(message)
    if lacks is not None:
        return _GCS_READ_REFUSED.fullmatch(lacks[1]) is not None
    action = _ACTION.search(message)
    if action is not None:
        return _READS.fullmatch(action[1]) is not None
    return re.search(r"\w", _SAYS_NO.sub(" ", message)) is None


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
    return cut(" ".join(body[: 4 * LONGEST_TEXT].decode("utf-8", "replace").split()))


def _text(value: bytes) -> str:
    return " ".join(html.unescape(value.decode("utf-8", "replace")).split())
