"""Google Cloud Storage through a client that the caller made: slower, for in-process mocks and odd options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitstore._raw.gs_credentials import is_outage
from bitstore._raw.problems import Problem

__all__ = ["GSClient"]


class GSClient:
    """The operations of a raw store on a google-cloud-storage client. Every method blocks.

    Each returns what was asked for, or a `Problem`.
    """

    __slots__ = ("_client", "_project")

    def __init__(self, client: Any, *, user_project: str | None) -> None:
        self._client = client
        self._project = user_project

    def get(self, bucket: str, key: str, max_bytes: int | None) -> bytes | Problem:
        """The whole object."""

        def read() -> bytes | Problem:
            blob = self._blob(bucket, key)
            if max_bytes is not None:
                blob.reload()
                if blob.size is not None and blob.size > max_bytes:
                    return Problem(message=f"the blob is larger than max_blob_size ({max_bytes} bytes)")
            data: bytes = blob.download_as_bytes()
            return data

        found: bytes | Problem = _tried(read)
        return found

    def generation(self, bucket: str, key: str) -> str | Problem:
        """The generation of the object."""

        def look() -> str:
            blob = self._blob(bucket, key)
            blob.reload()
            return str(blob.generation)

        found: str | Problem = _tried(look)
        return found

    def put(self, bucket: str, key: str, data: bytes, generation: int | None) -> Problem | None:
        """Write the object; with `generation`, only over that one (0: over none)."""

        def write() -> None:
            self._blob(bucket, key).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=generation
            )

        problem: Problem | None = _tried(write)
        return problem

    def _blob(self, bucket: str, key: str) -> Any:
        return self._client.bucket(bucket, user_project=self._project).blob(key)


def _tried(operation: Callable[[], Any]) -> Any:
    try:
        return operation()
    except Exception as error:  # a caller's client may be a mock: whatever it raises is the answer
        status = getattr(error, "code", 0)
        status = int(status) if isinstance(status, int) else 0
        message = str(error)[:300]
        return Problem(
            status,
            "" if status else type(error).__name__,
            message,
            missing=status == 404,
            forbidden=status == 403,
            refused=status in (401, 403) or _without_credentials(error),
            cause=error,
        )


def _without_credentials(error: Exception) -> bool:
    """Whether the client found that nobody gives it a token, and not that it could not ask."""
    try:
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        return False  # a mock where google-auth is not installed
    return isinstance(error, GoogleAuthError) and not is_outage(error)
