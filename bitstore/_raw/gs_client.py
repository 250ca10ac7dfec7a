"""Google Cloud Storage through a client that the caller made: slower, for in-process mocks and odd options."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from bitstore._raw.asked import Asked
from bitstore._raw.gs_credentials import is_outage
from bitstore._raw.meanings import gcs_meaning, json_error
from bitstore._raw.problems import Problem, too_large, tried, unasked
from bitstore.steps import Response

__all__ = ["GSClient"]

_AFTERTHOUGHT = re.compile(r"\s*: \('Request failed.*", re.DOTALL)  # which the client puts behind them


class GSClient:
    """The operations of a raw store on a google-cloud-storage client. Every method blocks."""

    __slots__ = ("_client", "_project")

    def __init__(self, client: Any, *, user_project: str | None) -> None:
        self._client = client
        self._project = user_project

    def ask(self, asked: Asked, max_bytes: int | None) -> Response | Problem:
        """The object, or with a query for its `fields` what is said about it."""
        bucket, key = asked.place

        def head() -> Response:
            blob = self._blob(bucket, key)
            blob.reload()
            said = {"generation": blob.generation, "size": blob.size, "etag": blob.etag}
            said["contentEncoding"] = blob.content_encoding
            known = {name: value for name, value in said.items() if isinstance(value, (int, str))}
            return Response(200, json.dumps(known).encode(), {}, 0.0)

        def read() -> Response | Problem:
            blob = self._blob(bucket, key)
            if max_bytes is not None:
                blob.reload()
                if blob.size is not None and blob.size > max_bytes:
                    return too_large(max_bytes)
            data = blob.download_as_bytes()
            if blob.size is None and not (blob.crc32c or blob.md5_hash):
                blob.reload()  # the client has checked no hash, and takes a part that was not asked for as the whole
            if isinstance(blob.size, int) and len(data) < blob.size and not blob.content_encoding:
                return unasked(206)
            return Response(200, data, {}, 0.0)

        return tried(head if asked.query else read, _problem)

    def put(self, bucket: str, key: str, data: bytes, generation: int | None) -> Response | Problem:
        """Write the object; with `generation`, only over that one (0: over none)."""

        def write() -> Response:
            self._blob(bucket, key).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=generation
            )
            return Response(200, b"", {}, 0.0)

        return tried(write, _problem)

    def _blob(self, bucket: str, key: str) -> Any:
        return self._client.bucket(bucket, user_project=self._project).blob(key)


def _problem(error: BaseException) -> Problem:
    status = getattr(error, "code", 0)
    message = str(error)[:300]
    if isinstance(status, int) and status:
        return replace(gcs_meaning(int(status), *_words(error)), message=message)
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):  # of a RetryError: what the last try met
        return replace(_problem(cause), message=message)
    refused, outage = _of_credentials(error)
    return Problem(0, type(error).__name__, message, refused=refused, outage=outage or _is_out(error))


def _words(error: BaseException) -> tuple[str, str]:
    """Reason and message of the service, in an exception of `google.api_core.exceptions`."""
    message = str(getattr(error, "message", error))
    details = getattr(error, "errors", None)
    first = details[0] if isinstance(details, (list, tuple)) and details and isinstance(details[0], dict) else {}
    # Google's client puts the request before the service's own words: "GET https://...: No such object: b/k".
    text = first.get("message") or _AFTERTHOUGHT.sub("", message.partition(": ")[2] or message)
    # A media download that is refused puts the whole body there, of services that answer with JSON.
    return json_error(str(text).encode("utf-8", "replace")) or (str(first.get("reason", "")), str(text))


def _of_credentials(error: BaseException) -> tuple[bool, bool]:
    """Whether the client found that there is no token for it, and whether it could not ask for one."""
    try:
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        return False, False  # a mock where google-auth is not installed
    if not isinstance(error, GoogleAuthError):
        return False, False
    outage = is_outage(error)
    return not outage, outage


def _is_out(error: BaseException) -> bool:
    """Whether the client found no way to the service."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    try:
        from requests import exceptions as known
    except ImportError:
        return False  # a mock where requests is not installed
    return isinstance(error, (known.ConnectionError, known.Timeout, known.ChunkedEncodingError))
