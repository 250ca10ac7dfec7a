"""Blobs of any web server (https://www.rfc-editor.org/rfc/rfc9110)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
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
    in_header,
    options,
)
from bitstore._raw.parts import in_parts
from bitstore._raw.problems import Problem, plain_problem, transfer_problem, unasked, without
from bitstore._support.redact import redact_url
from bitstore.steps import Found, Profile, Request, Response, Sink, Steps, TransferError, Write

__all__ = ["HTTPRaw"]

# No user:password@, no blanks or control characters (they must be percent-encoded), no fragment (it is never sent).
_URL = re.compile(
    r"(https?)://((?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)((?:[/?][^\x00-\x20\x7f#\ud800-\udfff]*)?)",
    re.IGNORECASE,
).fullmatch
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_SAFE = "/?:@!$&'()*+,;=%~[]|\"<>\\^`{}"
_SECRET_WORD = 8  # characters; shorter words of headers are names of schemes and the like
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

_DEFAULTS: dict[str, Any] = {
    "forbidden_is_missing": False,
    "follow_redirects": 5,
    "max_blob_size": None,
    "range_threshold": RANGE_THRESHOLD,
    "connect_timeout": CONNECT_TIMEOUT,
    "stall_timeout": STALL_TIMEOUT,
    "total_timeout": None,
    "ca_bundle": None,
    "retry": DEFAULT_RETRY,
    "limit": None,
}


class HTTPRaw(WireStore[tuple[Profile, Profile]]):
    """Blobs by `http://` and `https://` URLs: GET, HEAD and PUT. 404 and 410 mean missing.

    Parameters
    ----------
    headers
        Sent with every request, such as `{"Authorization": "..."}`; to no other host than the URL's own.
        They are configuration: they pickle with the store, and are never shown.
    forbidden_is_missing
        Count 403 as missing.
    follow_redirects
        How many redirects in a row are followed; 0: none. Never from https to http.
    max_blob_size, range_threshold, connect_timeout, stall_timeout, total_timeout, ca_bundle, proxy, retry, limit
        As for `S3Raw`.
    """

    URI_HINT = "https://host/path"

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        forbidden_is_missing: bool = False,
        follow_redirects: int = 5,
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
        if follow_redirects < 0:
            raise ValueError("follow_redirects is a number of redirects, 0 or more")
        self.follow_redirects = follow_redirects
        self.headers = dict(headers or {})
        for name, value in self.headers.items():
            if not _HEADER_NAME(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if in_header(f"the header {name}", value) is None:
                raise ValueError(f"the header {name} must be a text, not None")

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a http(s) URL without a user, blanks or a fragment."""
        return isinstance(uri, str) and _URL(uri) is not None

    def _shown(self, text: str) -> str:
        return redact_url(text)

    def get_steps(self, uri: Any) -> Steps[Found]:
        answer = yield from self._ask(uri, "GET")
        data: Any = answer
        if isinstance(answer, Response):
            data = answer.body
        elif answer.too_large and self._splits:
            data = yield from in_parts(partial(self._ask_part, uri), limit=self._max_bytes)
        if isinstance(data, Problem):
            self._fail_or_missing(uri, data)
        return Found(data, self.label)

    def exists_steps(self, uri: Any) -> Steps[bool]:
        answer = yield from self._ask(uri, "HEAD")
        if isinstance(answer, Response):
            return True
        if self._missing(answer):
            return False
        self._fail(f"HEAD {uri}", answer)

    def version_steps(self, uri: Any) -> Steps[str | None]:
        answer = yield from self._ask(uri, "HEAD", want_headers=True)
        if isinstance(answer, Response):
            return answer.headers.get("etag")
        if self._missing(answer):
            return None
        self._fail(f"HEAD {uri}", answer)

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        headers = [] if "content-type" in map(str.lower, self.headers) else ["Content-Type: application/octet-stream"]
        if write.only_if_absent:
            headers.append("If-None-Match: *")
        if write.replacing is not None:
            headers.append(f"If-Match: {write.replacing}")
        answer = yield from self._ask(uri, "PUT", body=blob_bytes(data), headers=tuple(headers))
        if isinstance(answer, Response):
            return
        conditional = write.only_if_absent or write.replacing is not None
        if conditional and answer.status == 412:
            return  # somebody else has written meanwhile, which is what was wanted
        if write.replacing is not None and answer.missing:
            return
        self._fail(f"PUT {uri}", answer)

    def _streaming(self, uri: Any, sink: Sink) -> Callable[[], Steps[Response | Problem]]:
        return lambda: self._ask(uri, "GET", limit=self._max_bytes or 0, sink=sink)

    def _ask_part(self, uri: str, headers: tuple[str, ...], limit: int) -> Steps[Response | Problem]:
        return self._ask(uri, "GET", headers=headers, want_headers=True, limit=limit)

    def _ask(
        self,
        uri: Any,
        method: str,
        *,
        body: bytes | None = None,
        headers: tuple[str, ...] = (),
        want_headers: bool = False,
        limit: int | None = None,
        sink: Sink | None = None,
    ) -> Steps[Response | Problem]:
        match = _URL(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        url = uri if uri.isascii() else f"{match[1]}://{match[2]}{quote(match[3], safe=_SAFE)}"
        profile, stranger = self._state()
        # A part that nobody asked for would be taken for the whole.
        partly = sink is not None or any(line.startswith("Range:") for line in headers)
        followed = 0
        seen = {url}
        while True:
            request = Request(
                profile,
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
            if response.status in _REDIRECTS and followed < self.follow_redirects:
                target = self._followed(url, response, method, seen)
                if isinstance(target, Problem):
                    return target
                if _origin(target) != _origin(url):
                    profile = stranger  # and it stays so, also if the way leads back
                followed += 1
                seen.add(target)
                url = target
                continue
            if response.status in _SUCCESS[method] or (partly and response.status == 206):
                return response
            if 200 <= response.status < 300:
                return unasked(response.status)
            problem = plain_problem(response)
            if response.status in _REDIRECTS:
                problem.message = f"more than {self.follow_redirects} redirects in a row"
            problem.message = without(problem.message, self._secrets())
            return problem

    def _followed(self, url: str, response: Response, method: str, seen: set[str]) -> str | Problem:
        target = response.headers.get("location", "").partition("#")[0]
        if method == "PUT" and response.status not in _KEEPS_METHOD:
            return Problem(response.status, message="a redirect that would turn the write into a read")
        if not _URL(target):
            return Problem(response.status, message="a redirect to no http(s) URL")
        if url.lower().startswith("https:") and target.lower().startswith("http:"):
            return Problem(response.status, message="a redirect from https to http is not followed")
        if target in seen:
            return Problem(response.status, message="a redirect loop")
        return target

    def _new_state(self) -> tuple[Profile, Profile]:
        lines = [f"{name}: {value}" for name, value in self.headers.items()]
        return self._profile(headers=lines), self._profile()

    def _secrets(self) -> list[str]:
        """Values of headers, and their words: a server may name the token without its "Bearer"."""
        words = [word for value in self.headers.values() for word in value.split() if len(word) >= _SECRET_WORD]
        return [*self.headers.values(), *words]

    def _told(self) -> list[str]:
        names = ", ".join(f"{name!r}: ..." for name in self.headers)
        return ([f"headers={{{names}}}"] if names else []) + options(self, _DEFAULTS)


_SUCCESS = {
    "GET": frozenset({200, 203}),  # a 206 nobody asked for would be a part of the blob
    "HEAD": frozenset({200, 203, 204}),
    "PUT": frozenset({200, 201, 204}),
}


def _origin(url: str) -> tuple[str, str]:
    match = _URL(url)
    assert match is not None
    scheme, host = match[1].lower(), match[2].lower()
    return scheme, host.removesuffix(_DEFAULT_PORTS[scheme])
