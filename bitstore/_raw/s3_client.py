"""S3 through a client that the caller made with boto3: slower, for in-process mocks and odd options."""

from __future__ import annotations

from typing import Any

from bitstore._raw.asked import Asked
from bitstore._raw.meanings import s3_meaning
from bitstore._raw.problems import Problem, archive_problem, too_large, tried, unasked
from bitstore._raw.s3_credentials import is_outage
from bitstore.steps import FileBody, Response

__all__ = ["S3Client"]

_ARGUMENTS = {  # of `put_object`, by the header that they become
    "x-amz-acl": "ACL",
    "x-amz-storage-class": "StorageClass",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "if-none-match": "IfNoneMatch",
    "if-match": "IfMatch",
}

_HEADERS = {  # of the answer to a HEAD, by their names in botocore
    "ETag": "etag",
    "ContentLength": "content-length",
    "ContentEncoding": "content-encoding",
    "StorageClass": "x-amz-storage-class",
    "ArchiveStatus": "x-amz-archive-status",
    "Restore": "x-amz-restore",
}


class S3Client:
    """The operations of a raw store on a boto3 S3 client. Every method blocks."""

    __slots__ = ("_client", "_options")

    def __init__(self, client: Any, *, requester_pays: bool) -> None:
        self._client = client
        self._options = {"RequestPayer": "requester"} if requester_pays else {}

    def ask(self, asked: Asked, max_bytes: int | None) -> Response | Problem:
        """The answer to a question, as if it had come over the wire."""
        bucket, key = asked.place
        if asked.method == "GET":
            return tried(lambda: self._get(bucket, key, max_bytes), _problem)
        return tried(lambda: self._put(asked), _problem) if asked.method == "PUT" else self._head(bucket, key)

    def _get(self, bucket: str, key: str, max_bytes: int | None) -> Response | Problem:
        answer = self._client.get_object(Bucket=bucket, Key=key, **self._options)
        with answer["Body"] as body:
            size = answer.get("ContentLength")
            if max_bytes is not None and size is not None and size > max_bytes:
                return too_large(max_bytes)
            if (status := _status(answer)) != 200:
                return unasked(status)
            return Response(200, body.read(), {}, 0.0)

    def _head(self, bucket: str, key: str) -> Response | Problem:
        def head() -> Response | Problem:
            answer = self._client.head_object(Bucket=bucket, Key=key, **self._options)
            headers = {
                name: str(answer[field]) for field, name in _HEADERS.items() if answer.get(field) not in (None, "")
            }
            return archive_problem(headers) or Response(_status(answer), b"", headers, 0.0)

        def some(**part: str) -> Response | Problem:
            answer = self._client.get_object(Bucket=bucket, Key=key, **part, **self._options)
            answer["Body"].close()
            if (status := _status(answer)) not in ((200, 206) if part else (200,)):
                return unasked(status)
            return Response(200, b"", {"etag": answer["ETag"]} if answer.get("ETag") else {}, 0.0)

        found = tried(head, _problem)
        if found.status not in (0, 200) and not (isinstance(found, Problem) and found.archived):
            # The answer to a HEAD has no body, so botocore can only name the status, and not what is missing.
            found = tried(lambda: some(Range="bytes=0-0"), _problem)
            if found.status == 416:  # an empty object has no first byte
                found = tried(some, _problem)
        return found

    def _put(self, asked: Asked) -> Response:
        bucket, key = asked.place
        lines = (line.split(": ", 1) for line in asked.headers)
        options = {_ARGUMENTS[name.lower()]: value for name, value in lines if name.lower() in _ARGUMENTS}
        body = asked.body.whole() if isinstance(asked.body, FileBody) else asked.body
        self._client.put_object(Bucket=bucket, Key=key, Body=body, **options, **self._options)
        return Response(200, b"", {}, 0.0)


def _problem(error: Exception) -> Problem:
    answer = getattr(error, "response", None)
    told = answer.get("Error") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(told, dict):
        message = f"{type(error).__name__}: {str(error)[:300]}"
        return Problem(message=message, refused=_lacks_credentials(error), outage=_is_out(error))
    message, details = (str(told.get(name) or "") for name in ("Message", "Details"))
    return s3_meaning(_status(answer, 0), str(told.get("Code", "")), f"{message} {details}".strip())


def _is_out(error: Exception) -> bool:
    """Whether the client found no way to the service, or to what gives its credentials."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    try:
        return is_outage(error)
    except ImportError:
        return False  # a mock where boto3 is not installed


def _lacks_credentials(error: Exception) -> bool:
    """Whether the client has nothing to sign with, and asking again will not help."""
    try:
        from botocore import exceptions as known
    except ImportError:
        return False
    kinds = (
        known.NoCredentialsError,
        known.PartialCredentialsError,
        known.CredentialRetrievalError,
        known.NoAuthTokenError,
        known.TokenRetrievalError,
        known.SSOError,
        known.InvalidConfigError,
        known.ProfileNotFound,
    )
    return isinstance(error, kinds) and not is_outage(error)


def _status(answer: dict[str, Any], default: int = 200) -> int:
    """The HTTP status of an answer; `default` where a mock names none."""
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", default))
