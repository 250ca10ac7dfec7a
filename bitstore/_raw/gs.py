"""Google Cloud Storage by its JSON API (https://cloud.google.com/storage/docs/json_api/v1)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from bitstore._lookup.retry import Rate, Retry, send
from bitstore._raw.base import (
    CONNECT_TIMEOUT,
    DEFAULT_RETRY,
    RANGE_THRESHOLD,
    STALL_TIMEOUT,
    WireStore,
    blob_bytes,
    endpoint,
    in_header,
    options,
)
from bitstore._raw.gs_client import GSClient
from bitstore._raw.gs_credentials import ANONYMOUS, Token, Unusable, emulator, show
from bitstore._raw.parts import in_parts
from bitstore._raw.problems import Problem, gcs_problem, transfer_problem, unasked, without
from bitstore._support.compat import warn_of_unused
from bitstore.steps import Call, Found, Profile, Request, Response, Sink, Steps, TransferError, Write

__all__ = ["ANONYMOUS", "GSRaw"]

# Bucket names may hold dots and underscores; NUL, CR and LF are refused in keys, and half surrogates (no UTF-8).
_URL = re.compile(r"gs://([A-Za-z0-9][A-Za-z0-9._-]{0,221})/([^\x00\r\n\ud800-\udfff]+)").fullmatch
_ENDPOINT = "https://storage.googleapis.com"
_METADATA_BYTES = 64 * 1024
_ENCODE_INLINE = 1024 * 1024  # bytes; hashing and copying more than this holds up a transfer thread

_DEFAULTS: dict[str, Any] = {
    "endpoint_url": None,
    "forbidden_is_missing": False,
    "user_project": None,
    "max_blob_size": None,
    "range_threshold": RANGE_THRESHOLD,
    "connect_timeout": CONNECT_TIMEOUT,
    "stall_timeout": STALL_TIMEOUT,
    "total_timeout": None,
    "ca_bundle": None,
    "retry": DEFAULT_RETRY,
    "limit": None,
}

_OLD_HOOKS = {
    "_gs_client": "give the constructor a client (client=...), or an address (endpoint_url=...) and credentials"
}


class _State:
    """What one process has: where requests go, the token, and the profile that carries it (`signed`)."""

    __slots__ = ("anonymous", "endpoint", "signed", "token")

    def __init__(self, endpoint: str, credentials: Any, profile: Profile) -> None:
        self.endpoint = endpoint
        self.token = Token(credentials)
        self.anonymous = credentials == ANONYMOUS
        # One attribute for both, so that threads never see a token with another's profile.
        self.signed: tuple[str | None, Profile] = (None, profile)


class GSRaw(WireStore[_State]):
    """Objects of Google Cloud Storage buckets, by `gs://bucket/key`.

    Parameters
    ----------
    credentials
        None: what google-auth finds by itself; none at all where STORAGE_EMULATOR_HOST is set. `"anonymous"`:
        send no token. Otherwise a google-auth credentials object, or a dict with the fields of a service
        account's key file.
    client
        A google-cloud-storage client to use instead. Everything about credentials and connections is then
        its business.
    endpoint_url
        Address of the service; None: STORAGE_EMULATOR_HOST, or Google's.
    forbidden_is_missing
        Count 403 as missing: the service answers so for a missing object to those who may not list the bucket
        (and 401 to those who send no token).
    user_project
        The project that pays for requests to buckets of others.
    max_blob_size, range_threshold, connect_timeout, stall_timeout, total_timeout, ca_bundle, proxy, retry, limit
        As for `S3Raw`.
    """

    URI_HINT = "gs://bucket/key"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, _OLD_HOOKS)

    def __init__(
        self,
        credentials: Any = None,
        *,
        client: Any = None,
        endpoint_url: str | None = None,
        forbidden_is_missing: bool = False,
        user_project: str | None = None,
        max_blob_size: int | str | None = None,
        range_threshold: int | str | None = RANGE_THRESHOLD,
        connect_timeout: float = CONNECT_TIMEOUT,
        stall_timeout: float = STALL_TIMEOUT,
        total_timeout: float | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        retry: Retry | None = None,
        limit: Rate | None = None,
    ) -> None:
        super().__init__(
            forbidden_is_missing=forbidden_is_missing,
            max_blob_size=max_blob_size,
            range_threshold=range_threshold,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            total_timeout=total_timeout,
            ca_bundle=ca_bundle,
            proxy=proxy,
            retry=retry,
            limit=limit,
        )
        self._credentials = credentials
        if client is not None and limit is not None:
            raise ValueError("limit and client exclude each other: the requests of a client cannot be counted")
        self.client = client
        self.endpoint_url = endpoint(endpoint_url)
        self.user_project = in_header("user_project", user_project)

    @classmethod
    def anonymous(cls) -> GSRaw:
        """A store that sends no token, for public buckets."""
        return cls(ANONYMOUS)

    @property
    def credentials(self) -> Any:
        """Who asks. Setting it makes the store start anew with the new credentials."""
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Any) -> None:
        self._credentials = credentials
        self._forget()

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is `gs://bucket/key`."""
        return isinstance(uri, str) and _URL(uri) is not None

    # ------------------------------------------------------------------ lookups as steps

    def get_steps(self, uri: Any) -> Steps[Found]:
        bucket, key = self._split(uri)
        answer: Any
        if self.client is not None:
            answer = yield Call(self._caller().get, bucket, key, self._max_bytes)
        else:
            path = self._object(bucket, key, "alt=media")
            answer = yield from self._ask(path)
            if isinstance(answer, Response):
                return Found(answer.body, self.label)
            if answer.too_large and self._splits:
                answer = yield from in_parts(partial(self._ask_part, path), limit=self._max_bytes)
        if isinstance(answer, Problem):
            self._fail_or_missing(uri, answer)
        return Found(answer, self.label)

    def exists_steps(self, uri: Any) -> Steps[bool]:
        return (yield from self.version_steps(uri)) is not None

    def version_steps(self, uri: Any) -> Steps[str | None]:
        # The generation rather than the ETag: the service compares it on every kind of upload.
        bucket, key = self._split(uri)
        answer: Any
        if self.client is not None:
            answer = yield Call(self._caller().generation, bucket, key)
        else:
            # What limits blobs does not concern what is said about them.
            answer = yield from self._ask(self._object(bucket, key, "fields=generation"), limit=_METADATA_BYTES)
        if isinstance(answer, Problem):
            if self._missing(answer):
                return None
            self._fail(f"GET {uri}", answer)
        if not isinstance(answer, Response):
            return str(answer)
        try:
            return str(json.loads(answer.body)["generation"])
        except (ValueError, LookupError, TypeError, RecursionError):
            self._fail(f"GET {uri}", Problem(200, message="the metadata of the object holds no generation"))

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        bucket, key = self._split(uri)
        body = blob_bytes(data)
        generation = self._generation(write)
        answer: Any
        if self.client is not None:
            answer = yield Call(self._caller().put, bucket, key, body, generation)
        else:
            boundary = secrets.token_hex(16)
            if len(body) <= _ENCODE_INLINE:
                content = _multipart(key, body, boundary)
            else:
                content = yield Call(_multipart, key, body, boundary)
            query = "uploadType=multipart"
            if generation is not None:
                query += f"&ifGenerationMatch={generation}"
            answer = yield from self._ask(
                f"/upload/storage/v1/b/{quote(bucket, safe='')}/o?{query}{self._billing()}",
                method="POST",
                body=content,
                headers=(f"Content-Type: multipart/related; boundary={boundary}",),
            )
        if isinstance(answer, Problem):
            # 412: somebody else has written meanwhile, which is what was wanted.
            gone = write.replacing is not None and answer.missing
            if generation is None or not (answer.status == 412 or gone):
                self._fail(f"PUT {uri}", answer)

    # ------------------------------------------------------------------ one exchange

    def _streaming(self, uri: Any, sink: Sink) -> Callable[[], Steps[Response | Problem]] | None:
        path = self._object(*self._split(uri), "alt=media")
        return None if self.client is not None else lambda: self._ask(path, limit=self._max_bytes or 0, sink=sink)

    def _ask_part(self, path: str, headers: tuple[str, ...], limit: int) -> Steps[Response | Problem]:
        return self._ask(path, headers=headers, want_headers=True, limit=limit)

    def _ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: tuple[str, ...] = (),
        want_headers: bool = False,
        limit: int | None = None,
        sink: Sink | None = None,
    ) -> Steps[Response | Problem]:
        state = self._state()
        token = state.token
        url = state.endpoint + path
        partly = sink is not None or any(line.startswith("Range:") for line in headers)
        renewed = False
        while True:
            if token.fresh_until <= time.monotonic():
                try:
                    yield Call(token.refresh)
                except Unusable as error:
                    return Problem(message=str(error), cause=error, refused=not error.outage)
            used = token.value
            request = Request(
                self._signed(state, used),
                url,
                method=method,
                body=body,
                headers=headers,
                want_headers=want_headers,
                max_bytes=limit,
                sink=sink,
            )
            try:
                response: Response = yield from send(request, self.retry, self._tally)
            except TransferError as error:
                return transfer_problem(error, self._max_bytes)
            if 200 <= response.status < 300:
                whole = response.status == 200 or method != "GET"
                return response if whole or (response.status == 206 and partly) else unasked(response.status)
            problem = gcs_problem(response)
            problem.message = without(problem.message, (used,))
            if state.anonymous and problem.status == 401:
                problem.forbidden = True
            elif problem.expired and not renewed:
                renewed = True
                try:
                    if (yield Call(token.renew, used)):
                        continue
                except Unusable as error:
                    problem.message += f" ({error})"
            return problem

    def _signed(self, state: _State, token: str | None) -> Profile:
        of, profile = state.signed
        if of != token:
            profile = self._signed_profile(f"Authorization: Bearer {token}")
            state.signed = (token, profile)
        return profile

    def _signed_profile(self, *headers: str) -> Profile:
        return self._profile(headers=headers)

    # ------------------------------------------------------------------ configuration

    def _split(self, uri: Any) -> tuple[str, str]:
        match = _URL(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        return match[1], match[2]

    def _object(self, bucket: str, key: str, query: str) -> str:
        # quote() leaves dots alone, but an object may be called "..".
        quoted = quote(key, safe="") if key.strip(".") else key.replace(".", "%2E")
        return f"/storage/v1/b/{bucket}/o/{quoted}?{query}{self._billing()}"

    def _billing(self) -> str:
        return "" if self.user_project is None else f"&userProject={quote(self.user_project, safe='')}"

    def _generation(self, write: Write) -> int | None:
        if write.only_if_absent:
            return 0
        if write.replacing is None:
            return None
        if not write.replacing.isdecimal():
            raise ValueError(f"Write.replacing of a GSRaw is a generation number, not {write.replacing!r}")
        return int(write.replacing)

    def _new_state(self) -> _State:
        address = emulator()
        credentials = ANONYMOUS if self._credentials is None and address is not None else self._credentials
        return _State(self.endpoint_url or address or _ENDPOINT, credentials, self._signed_profile())

    def _caller(self) -> GSClient:
        return GSClient(self.client, user_project=self.user_project)

    def _told(self) -> list[str]:
        credentials = [] if self._credentials is None else [show(self._credentials)]
        client = [] if self.client is None else [f"client=<{type(self.client).__name__}>"]
        return [*credentials, *client, *options(self, _DEFAULTS)]


def _multipart(key: str, body: bytes, boundary: str) -> bytes:
    """An upload in one request whose hash the service checks.

    Of the upload kinds this is the one that takes preconditions everywhere, emulators included
    (https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object).
    """
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    metadata = json.dumps({"name": key, "md5Hash": digest})
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n"
    part = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    return b"".join((head.encode(), part.encode(), body, f"\r\n--{boundary}--\r\n".encode()))
