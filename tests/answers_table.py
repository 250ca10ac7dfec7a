"""The table of answers as data: what a service says, and what a raw store makes of it.

`tests/test_answers.py` holds the library to it, and `python -m tests.answers_table` writes it out for people as
`docs/answers.md`.
"""

# ruff: noqa: E501  (one row of the table a line)
from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tests.scripted_server import Reply, gcs_refusal, s3_refusal

__all__ = ["DOCUMENT", "FILES", "ROWS", "FileRow", "Row", "document"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "answers.md"

Kind: TypeAlias = Literal["S3", "GCS", "HTTP"]
# `out`: a failure that says nothing about the blob and that a batch waits for. `refused`: an `AccessDenied`.
Verdict: TypeAlias = Literal["found", "missing", "failed", "refused", "out"]


class Row(NamedTuple):
    """One answer of one kind of service to a GET; a HEAD is answered alike, without its body."""

    kind: Kind
    words: str  # for people
    reply: Reply
    verdict: Verdict
    lenient: Verdict | None = None  # with both options; None: the same
    says: str = ""  # what the error's text has
    head: Reply | None = None  # the answer to HEAD, where it is another


_XML = {"Content-Type": "application/xml"}
_GET = "Permission 'storage.objects.get' denied on resource (or it may not exist)."
_NGINX = b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n<hr><center>nginx/1.24.0</center>\r\n</body>\r\n</html>\r\n<!-- a padding to disable MSIE and Chrome friendly error page -->"
_APACHE = b"<!DOCTYPE HTML><html><head><title>403 Forbidden</title></head><body><h1>Forbidden</h1><p>You don't have permission to access this resource.</p><hr><address>Apache/2.4.41 (Ubuntu) Server at h Port 80</address></body></html>"
_PYTHON = b'<!DOCTYPE HTML><html><head><style type="text/css">:root { color-scheme: light dark; }</style><title>Error response</title></head><body><h1>Error response</h1><p>Error code: 403</p><p>Message: Forbidden.</p><p>Error code explanation: 403 - Request forbidden -- authorization will not help.</p></body></html>'
_WEBSITE = b"<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1><ul><li>Code: AccessDenied</li><li>Message: Access Denied</li><li>RequestId: ABC</li><li>HostId: d/e=</li></ul><hr/></body></html>"
_AKAMAI = b"<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY><H1>Access Denied</H1>You don't have permission to access /k on this server.<P>Reference #18.1</BODY></HTML>"
_HTML: Reply = (404, {"Content-Type": "text/html"}, b"<html>The page was not found</html>")


def _s3() -> list[Row]:
    def denied(message: str, code: str = "AccessDenied", status: int = 403) -> Reply:
        return s3_refusal(status, code, message)

    lists = "User: arn:aws:iam::1:user/x is not authorized to perform: s3:ListBucket on resource: arn:aws:s3:::b"
    return [
        Row("S3", "200", (200, {}, b"blob"), "found"),
        Row("S3", "206 to a plain GET", (206, {}, b"bl"), "failed", says="not with the whole blob", head=(200, {}, b"")),
        Row("S3", "204", (204, {}, b""), "failed", says="not with the whole blob"),
        Row("S3", "404 NoSuchKey", s3_refusal(404, "NoSuchKey"), "missing"),
        Row("S3", "404 NoSuchBucket", s3_refusal(404, "NoSuchBucket"), "failed", "missing", "there is no bucket s3://b"),
        Row("S3", "404 in HTML (a proxy)", _HTML, "failed"),
        Row("S3", "404 without a body", (404, {}, b""), "failed"),
        Row("S3", "404 with another code", s3_refusal(404, "NoSuchUpload"), "failed"),
        Row("S3", "403 InvalidObjectState (archived)", denied("storage class", "InvalidObjectState"), "failed", says="archived: restore it first"),
        Row("S3", "403 AccessDenied", denied("Access Denied"), "refused", "missing", "s3:ListBucket"),
        Row("S3", "403 AccessDenied: s3:ListBucket", denied(lists), "refused", "missing", "s3:ListBucket"),
        Row("S3", "403 AccessDenied: s3:GetObject", denied(lists.replace("ListBucket", "GetObject")), "refused", "missing"),
        Row("S3", "403 AccessDenied: kms:Decrypt", denied(lists.replace("s3:ListBucket", "kms:Decrypt")), "refused"),
        Row("S3", "403 AccessDenied: a KMS key", denied("The ciphertext refers to a customer master key that does not exist"), "refused"),
        Row("S3", "403 AccessDenied: a provider's cap", denied("Transaction cap exceeded, see the Caps & Alerts page"), "refused"),
        Row("S3", "403 AccessDenied without a text (Ceph)", denied(""), "refused", "missing"),
        Row("S3", "403 AccessDenied: no right to access this object (Alibaba)", denied("You have no right to access this object because of bucket acl."), "refused", "missing"),
        Row("S3", "403 AccessDenied: sts:AssumeRole and all other rights", denied(lists.replace("s3:ListBucket", "sts:AssumeRole")), "refused"),
        Row("S3", "403 AccessDenied with any other text", denied("not entitled"), "refused"),
        Row("S3", "403 AccessDenied of Google: storage.objects.get", denied(f"Access denied.</Message><Details>x@y does not have storage.objects.get access. {_GET}</Details><Message>"), "refused", "missing"),
        Row("S3", "403 AccessDenied of Google: a bill", denied("Access denied.</Message><Details>The billing account is disabled in state absent</Details><Message>"), "refused"),
        Row("S3", "403 AccessDenied of Google: another right", denied("Access denied.</Message><Details>x@y does not have serviceusage.services.use access</Details><Message>"), "refused"),
        Row("S3", "403 AllAccessDisabled", denied("All access to this object has been disabled", "AllAccessDisabled"), "refused"),
        Row("S3", "403 AccountProblem", denied("There is a problem with your account", "AccountProblem"), "refused"),
        Row("S3", "403 InvalidAccessKeyId, SignatureDoesNotMatch", denied("no such key", "InvalidAccessKeyId"), "refused"),
        Row("S3", "403 in HTML (a proxy)", (403, {}, b"<html>no</html>"), "refused"),
        Row("S3", "401", denied("who are you", "Unauthorized", 401), "refused"),
        Row("S3", "416, to every request", denied("no such range", "InvalidRange", 416), "failed"),
        Row("S3", "400", denied("bad", "InvalidRequest", 400), "failed"),
        Row("S3", "500 InternalError", denied("oops", "InternalError", 500), "failed"),
        Row("S3", "503 SlowDown", denied("slow down", "SlowDown", 503), "out"),
        Row("S3", "429, 502, 504, 509, 52x, 529, 530, 598, 599", (522, {}, b"<html>522</html>"), "out"),
    ]  # fmt: skip


def _gcs() -> list[Row]:
    def forbidden(reason: str, message: str) -> Reply:
        return gcs_refusal(403, reason, message)

    return [
        Row("GCS", "200", (200, {}, b'{"generation": "1"}'), "found"),
        Row("GCS", "404 No such object", gcs_refusal(404, "notFound", "No such object: my_project/k"), "missing"),
        Row("GCS", "404 Not Found", gcs_refusal(404, "notFound", "Not Found"), "missing"),
        Row("GCS", "404 No such object, in plain text", (404, {}, b"No such object: b/k"), "missing"),
        Row("GCS", "404 The specified bucket does not exist", gcs_refusal(404, "notFound", "The specified bucket does not exist."), "failed", "missing", "there is no bucket gs://b"),
        Row("GCS", "404 The specified bucket does not exist, in plain text", (404, {}, b"The specified bucket does not exist."), "failed", "missing", "there is no bucket gs://b"),
        Row("GCS", "404 about an entity", gcs_refusal(404, "notFound", "Requested entity was not found."), "failed"),
        Row("GCS", "404 about a project", gcs_refusal(404, "notFound", "The requested project was not found."), "failed"),
        Row("GCS", "404 in HTML (a proxy)", _HTML, "failed"),
        Row("GCS", "404 without a body", (404, {}, b""), "failed"),
        Row("GCS", "403 forbidden: storage.objects.get", forbidden("forbidden", f"x@y does not have storage.objects.get access. {_GET}"), "refused", "missing", "storage.objects.list"),
        Row("GCS", "403 storage.objects.get, in plain text", (403, {}, f"x@y does not have access. {_GET}".encode()), "refused", "missing", "storage.objects.list"),
        Row("GCS", "401 without a token: storage.objects.get", gcs_refusal(401, "required", f"Anonymous caller does not have access. {_GET}"), "refused", "missing"),
        Row("GCS", "401 authError", gcs_refusal(401, "authError", "Invalid Credentials"), "refused"),
        Row("GCS", "403 forbidden: storage.buckets.get", forbidden("forbidden", "x@y does not have storage.buckets.get access."), "refused"),
        Row("GCS", "403 accountDisabled", forbidden("accountDisabled", "The billing account is disabled"), "refused"),
        Row("GCS", "403 accountDisabled, in plain text", (403, {}, b"The billing account for the owning project is disabled in state absent"), "refused"),
        Row("GCS", "403 quotaExceeded, dailyLimitExceeded", forbidden("quotaExceeded", "Quota exceeded"), "refused"),
        Row("GCS", "403 insufficientPermissions", forbidden("insufficientPermissions", "insufficient authentication scopes"), "refused"),
        Row("GCS", "403 accessNotConfigured", forbidden("accessNotConfigured", "Cloud Storage JSON API has not been used"), "refused"),
        Row("GCS", "403 userProjectAccessDenied", forbidden("userProjectAccessDenied", "caller does not have serviceusage.services.use"), "refused"),
        Row("GCS", "403 rateLimitExceeded", forbidden("rateLimitExceeded", "slow down"), "out"),
        Row("GCS", "400", gcs_refusal(400, "invalid", "bad"), "failed"),
        Row("GCS", "500", gcs_refusal(500, "backendError", "oops"), "failed"),
        Row("GCS", "429, 502, 503, 504, 509, 52x, 529, 530, 598, 599", gcs_refusal(503, "backendError", "out"), "out"),
    ]  # fmt: skip


def _http() -> list[Row]:
    def xml(status: int, code: str, message: str = "in words") -> Reply:
        return s3_refusal(status, code, message)

    return [
        Row("HTTP", "200, 203", (200, {}, b"blob"), "found"),
        Row("HTTP", "206 to a plain GET", (206, {}, b"bl"), "failed", says="not with the whole blob", head=(200, {}, b"")),
        Row("HTTP", "204", (204, {}, b""), "failed", says="not with the whole blob"),
        Row("HTTP", "404, 410", (404, {}, b"<html>not here</html>"), "missing"),
        Row("HTTP", "410", (410, {}, b""), "missing"),
        Row("HTTP", "404 NoSuchKey or BlobNotFound of a bucket's public address", xml(404, "NoSuchKey"), "missing"),
        Row("HTTP", "404 NoSuchBucket of a bucket's public address", xml(404, "NoSuchBucket"), "failed", "missing", "there is no bucket"),
        Row("HTTP", "404 ContainerNotFound (Azure)", xml(404, "ContainerNotFound"), "failed", "missing", "there is no bucket"),
        Row("HTTP", "404 FilesystemNotFound, ShareNotFound, AccountNotFound (Azure)", xml(404, "FilesystemNotFound"), "failed", "missing", "there is no bucket"),
        Row("HTTP", "404 BucketNotFound, NamespaceNotFound (Oracle)", (404, {"Content-Type": "application/json"}, b'{"code":"BucketNotFound","message":"no"}'), "failed", "missing", "there is no bucket"),
        Row("HTTP", "404 Bucket not found (Supabase), Bucket b does not exist (B2)", (404, {"Content-Type": "application/json"}, b'{"statusCode":"404","error":"Bucket not found"}'), "failed", "missing", "there is no bucket"),
        Row("HTTP", "404: a key in a bucket", (404, {}, b"the key k in bucket b does not exist"), "missing"),
        Row("HTTP", "404 NoSuchBucket of a static website", (404, {"x-amz-error-code": "NoSuchBucket"}, b"<html><li>Code: NoSuchBucket</li></html>"), "failed", "missing", "there is no bucket"),
        Row("HTTP", "403 InvalidObjectState, 409 BlobArchived", xml(403, "InvalidObjectState"), "failed", says="archived: restore it first"),
        Row("HTTP", "403", (403, {}, b"Forbidden"), "refused", "missing", "forbidden_is_missing=True"),
        Row("HTTP", "403 AccessDenied of a bucket's public address", xml(403, "AccessDenied", "Access Denied"), "refused", "missing"),
        Row("HTTP", "403 AllAccessDisabled, SignatureDoesNotMatch, ExpiredToken", xml(403, "AllAccessDisabled"), "refused"),
        Row("HTTP", "403 of GCS: storage.objects.get", gcs_refusal(403, "forbidden", _GET), "refused", "missing"),
        Row("HTTP", "403 of GCS for another reason", gcs_refusal(403, "accountDisabled", "billing"), "refused"),
        Row("HTTP", "403 of GCS: rateLimitExceeded", gcs_refusal(403, "rateLimitExceeded", "slow down"), "out"),
        Row("HTTP", "403 without a text", (403, {}, b""), "refused", "missing"),
        Row("HTTP", "403 of nginx", (403, {}, _NGINX), "refused", "missing"),
        Row("HTTP", "403 of Apache", (403, {}, _APACHE), "refused", "missing"),
        Row("HTTP", "403 of Python's web server", (403, {}, _PYTHON), "refused", "missing"),
        Row("HTTP", "403 of a static website of S3", (403, {}, _WEBSITE), "refused", "missing"),
        Row("HTTP", "403 in JSON: Forbidden", (403, {}, b'{"errors": [{"status": 403, "message": "Forbidden"}]}'), "refused", "missing"),
        Row("HTTP", "403 of Akamai (a rule of the edge)", (403, {}, _AKAMAI), "refused"),
        Row("HTTP", "403 with any other text: a country, a token, a check of the browser", (403, {}, b"Access from your country is not allowed"), "refused"),
        Row("HTTP", "403 with a page of more than 4 kB", (403, {}, b"Forbidden" + b" " * 4096), "refused"),
        Row("HTTP", "416, to every request", (416, {}, b""), "failed"),
        Row("HTTP", "401", (401, {}, b""), "refused"),
        Row("HTTP", "400, 405, 451 and others", (451, {}, b""), "failed"),
        Row("HTTP", "a redirect that cannot be followed", (302, {"Location": "ftp://x/"}, b""), "failed"),
        Row("HTTP", "500", (500, {}, b""), "failed"),
        Row("HTTP", "429, 502, 503, 504, 509, 52x, 529, 530, 598, 599", (530, {}, b"<html>530</html>"), "out"),
    ]  # fmt: skip


ROWS: list[Row] = [*_s3(), *_gcs(), *_http()]


class FileRow(NamedTuple):
    """One state of a file system."""

    words: str
    state: str  # which one `tests/test_answers.py` makes
    verdict: Verdict
    lenient: Verdict | None = None  # with missing_folder="missing"


FILES = [
    FileRow("the file", "file", "found"),
    FileRow("no such file in the folder (ENOENT)", "absent", "missing"),
    FileRow("no folder that fans out, such as `ab/` (ENOENT)", "fan-out", "missing"),
    FileRow(
        "no folder of the digest store's prefix, or no `root` (an unmounted disk)", "no folder", "failed", "missing"
    ),
    FileRow("a file in place of that folder (ENOTDIR)", "not a folder", "failed", "missing"),
    FileRow("a file in place of a folder that fans out (ENOTDIR)", "fan-out is a file", "failed", "missing"),
    FileRow("a link to what is not there", "dangling", "failed"),
    FileRow("a folder that is a link to what is not there", "dangling folder", "failed"),
    FileRow("a folder or a pipe of that name", "folder", "failed"),
    FileRow("no right to read it (EACCES)", "no right", "refused"),
]

_HEAD = """# What an answer comes to

Written by `python -m tests.answers_table`; `tests/test_answers.py` tests it row by row.

A blob is *missing* only where the answer speaks of this very blob. All else is a failure: the lookup goes on to the
next tier, and no paid source is asked on its word.

- **found**: the bytes are returned.
- **missing**: `NotFoundInStore`; the next tier is asked, paid ones as well.
- **failed**: `StoreNotAvailable`. Whether the blob is there is not known.
- **refused**: `AccessDenied`, a failure that never makes a composite leave the store alone.
- **out**: a failure that says nothing about the blob: it is tried again, then waited for within a batch's `patience`.

The last column is the same with `forbidden_is_missing=True` and `missing_bucket="missing"` (files:
`missing_folder="missing"`). A 403 counts as missing only where its text is known to say no more than that access to
this object is denied. Any other text is a refusal.

`exists` comes to the same as `get`. A 404 to HEAD has no body to tell whether the bucket is still there, so one byte is
asked for before a blob is missing: `exists` never takes a bucket that is gone for a missing blob. Only a plain web
server is believed at once. A 416 counts as an empty blob where a request without a range brings one.

An object that HEAD says lies in an archive (`x-amz-storage-class: GLACIER`, not restored) is a failure.

A write with `If-None-Match: *` that finds its name taken (412) is a success where the object can be read. Otherwise it
is an error, which composites count under `write_failures` and warn of.
"""


def document() -> str:
    """The table, for people."""
    lines = [_HEAD]
    names = {"S3": "S3 (`S3Raw`)", "GCS": "Google Cloud Storage (`GSRaw`)", "HTTP": "Web servers (`HTTPRaw`)"}
    for kind, name in names.items():
        lines += [f"## {name}\n", "| answer | comes to | with the options |", "|---|---|---|"]
        lines += [f"| {row.words} | {row.verdict} | {row.lenient or row.verdict} |" for row in ROWS if row.kind == kind]
        lines.append("")
    lines += ["## Files (`FileRaw`)\n", "| state | comes to | with the option |", "|---|---|---|"]
    lines += [f"| {row.words} | {row.verdict} | {row.lenient or row.verdict} |" for row in FILES]
    lines += ["\n## Git LFS servers (`LFSRaw`)\n", "See [their page](git-lfs.md#what-its-answers-mean)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
