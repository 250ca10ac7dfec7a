"""S3 through a client that the caller made with boto3: slower, for in-process mocks and odd options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitstore._raw.problems import Problem, s3_meaning

__all__ = ["S3Client"]


class S3Client:
    """The operations of a raw store on a boto3 S3 client. Every method blocks.

    Each returns what was asked for, or a `Problem`.
    """

    __slots__ = ("_client", "_options")

    def __init__(self, client: Any, *, requester_pays: bool) -> None:
        self._client = client
        self._options = {"RequestPayer": "requester"} if requester_pays else {}

    def get(self, bucket: str, key: str, max_bytes: int | None) -> bytes | Problem:
        """The whole object."""

        def read() -> bytes | Problem:
            answer = self._client.get_object(Bucket=bucket, Key=key, **self._options)
            with answer["Body"] as body:
                size = answer.get("ContentLength")
                if max_bytes is not None and size is not None and size > max_bytes:
                    return Problem(message=f"the blob is larger than max_blob_size ({max_bytes} bytes)")
                data: bytes = body.read()
            return data

        found: bytes | Problem = _tried(read)
        return found

    def etag(self, bucket: str, key: str) -> str | Problem | None:
        """The ETag of the object; None if it has none."""

        def head() -> str | None:
            tag: str | None = self._client.head_object(Bucket=bucket, Key=key, **self._options).get("ETag")
            return tag

        found: str | Problem | None = _tried(head)
        # The answer to a HEAD has no body, so botocore can only name the status.
        if isinstance(found, Problem) and found.status == 404:
            found.missing = True
        if isinstance(found, Problem) and found.status == 403 and found.code == "403":
            found.forbidden = True
        return found

    def put(self, bucket: str, key: str, data: bytes, options: dict[str, str]) -> Problem | None:
        """Write the object; `options` are further arguments of `put_object`."""

        def write() -> None:
            self._client.put_object(Bucket=bucket, Key=key, Body=data, **options, **self._options)

        problem: Problem | None = _tried(write)
        return problem


def _tried(operation: Callable[[], Any]) -> Any:
    try:
        return operation()
    except Exception as error:  # a caller's client may be a mock so whatever it raises is the answer
        problem = _problem(error)
        problem.cause = error
        return problem


def _problem(error: Exception) -> Problem:
    answer = getattr(error, "response", None)
    told = answer.get("Error") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(told, dict):
        return Problem(message=f"{type(error).__name__}: {str(error)[:300]}")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return s3_meaning(int(status), str(told.get("Code", "")), str(told.get("Message", "")))
