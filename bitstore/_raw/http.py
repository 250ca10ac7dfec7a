"""Blobs of any web server (https://www.rfc-editor.org/rfc/rfc9110)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bitstore._raw.asked import Asked
from bitstore._raw.features import WriteFeatures
from bitstore._raw.meanings import asks_for_less, plain_problem
from bitstore._raw.options import Option, in_header
from bitstore._raw.problems import Problem, unasked, without
from bitstore._raw.wire import WireStore
from bitstore._raw.wire_options import WireOptions
from bitstore._support.redact import redact_url
from bitstore.steps import FileBody, Profile, Request, Response, Steps, Write

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["HTTPOptions", "HTTPRaw", "State", "is_web_url", "origin", "percent_encoded"]

# No user:password@, no blanks or control characters (they must be percent-encoded), no fragment (it is never sent).
_URLS = re.compile(
    r"(https?)://((?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)((?:[/?][^\x00-\x20\x7f#\ud800-\udfff]*)?)",
    re.IGNORECASE,
)
is_web_url = _URLS.fullmatch
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_SAFE = "/?:@!$&'()*+,;=%~[]|\"<>\\^`{}"
_BUCKET_SERVICE = re.compile(r"x-amz-|x-goog-|x-guploader-|x-ms-")  # headers of S3, Google Cloud Storage and Azure
_SECRET_WORD = 8  # characters; shorter words of headers are names of schemes and the like
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class HTTPOptions(WireOptions, total=False):
    """The options of `HTTPRaw`."""

    headers: Mapping[str, str] | None
    follow_redirects: int


def _headers(name: str, headers: Any) -> dict[str, str]:
    lines = dict(headers or {})
    for line, value in lines.items():
        if not _HEADER_NAME(line):
            raise ValueError(f"{line!r} is not the name of a header")
        if in_header(f"the header {line}", value) is None:
            raise ValueError(f"the header {line} must be a text, not None")
    return lines


def _number_of_redirects(name: str, number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{name} is a number of redirects, 0 or more")
    return number


class State:
    """What one process has: the headers, and the profiles that carry them and that do not."""

    __slots__ = ("features", "headers", "own", "stranger")

    def __init__(self, headers: dict[str, str], own: Profile, stranger: Profile) -> None:
        self.headers = headers
        self.features = WriteFeatures()
        self.own = own  # for the host of the URL
        self.stranger = stranger  # for hosts that a redirect leads to


class HTTPRaw(WireStore[State]):
    """Blobs by `http://` and `https://` URLs: GET, HEAD and PUT. 404 and 410 mean missing.

    Parameters
    ----------
    headers
        Sent with every request, such as `{"Authorization": "..."}`; to no other host than the URL's own.
        They are configuration: they pickle with the store, and are never shown.
    forbidden_is_missing
        Count 403 as missing, unless its text speaks of something else than this object (a quota, an account, a key).
    follow_redirects
        How many redirects in a row are followed; 0: none. Never from https to http.
    missing_bucket, max_blob_size, range_threshold, connect_timeout, stall_timeout, total_timeout, ca_bundle, proxy,
    retry, limit, price
        As for `S3Raw`.
    """

    URI_HINT = "https://host/path"
    _URLS = _URLS

    _hidden = WireStore._hidden | {"headers"}

    headers = Option["dict[str, str]"](None, _headers)
    follow_redirects = Option[int](5, _number_of_redirects)

    def __init__(self, **options: Unpack[HTTPOptions]) -> None:
        super().__init__(**options)

    def _redacted(self, text: str) -> str:
        return redact_url(text)

    # ------------------------------------------------------------------ lookups as steps

    def _place(self, uri: Any) -> str:
        match = self._match(uri)
        return match[0] if match[0].isascii() else percent_encoded(match)

    def first_requests(self, start: str, hash_with: str | None) -> Callable[[str], Request] | None:
        begins = _in_ascii(start)
        if begins is None or not self._has_express:
            return None
        profile = self._state().own
        return lambda rest: Request(profile, begins + rest, hash_with=hash_with)

    @staticmethod
    def _is_refusal(answer: Response) -> bool:
        return asks_for_less(answer)

    def plainly_missing(self, answer: Response) -> bool:
        return _of_no_bucket_service(answer) and plain_problem(answer).missing

    def _write(self, place: str, body: bytes | FileBody, write: Write) -> Steps[Response | Problem]:
        own_type = "content-type" in map(str.lower, self.headers)
        headers = {
            "Content-Type": None if own_type else "application/octet-stream",
            "If-None-Match": "*" if write.only_if_absent else None,
            "If-Match": write.replacing,
        }
        return self._state().features.ask(self._ask, Asked(place, "PUT", body), "//".join(origin(place)), headers)

    def _ask(self, asked: Asked) -> Steps[Response | Problem]:
        url = asked.place
        state = self._state()
        profile = state.own if asked.private is None else state.stranger
        followed = 0
        seen = {url}
        while True:
            response = yield from self._send(asked, asked.request(profile, url))
            if isinstance(response, Problem):
                return response
            if response.status in _REDIRECTS and followed < self.follow_redirects:
                target = self._followed(url, response, asked.method, seen)
                if isinstance(target, Problem):
                    return target
                if origin(target) != origin(url):
                    profile = state.stranger  # and it stays so, also if the way leads back
                    if asked.private:
                        asked = asked._replace(private=())
                followed += 1
                seen.add(target)
                url = target
                continue
            if response.status in _SUCCESS[asked.method] or (asked.partly and response.status == 206):
                return response
            if 200 <= response.status < 300 and asked.method != "HEAD":
                return unasked(response.status)
            absent = response.status in (404, 410) and _of_no_bucket_service(response)
            if asked.method == "HEAD" and response.status not in _REDIRECTS and not absent:
                # Refused for its method, or with no body to tell what is wrong: one byte of the blob tells.
                asked = asked.one_byte()
                continue
            problem = plain_problem(response)
            if response.status in _REDIRECTS:
                problem.message = f"more than {self.follow_redirects} redirects in a row"
            problem.message = without(problem.message, self._secrets())
            return problem

    def _followed(self, url: str, response: Response, method: str, seen: set[str]) -> str | Problem:
        target = response.headers.get("location", "").partition("#")[0]
        if method not in ("GET", "HEAD") and response.status not in _KEEPS_METHOD:
            return Problem(response.status, message=f"a redirect that would turn the {method} into a read")
        if not is_web_url(target):
            return Problem(response.status, message="a redirect to no http(s) URL")
        if url.lower().startswith("https:") and target.lower().startswith("http:"):
            return Problem(response.status, message="a redirect from https to http is not followed")
        if target in seen:
            return Problem(response.status, message="a redirect loop")
        return target

    def _state(self) -> State:
        state = super()._state()
        if state.headers != self.headers:  # changed in place
            self.headers = self.headers
            state = super()._state()
        return state

    def _new_state(self) -> State:
        lines = [f"{name}: {value}" for name, value in self.headers.items()]
        return State(dict(self.headers), self._profile(headers=lines), self._profile())

    def _secrets(self) -> list[str]:
        """Values of headers, and their words: a server may name the token without its "Bearer"."""
        words = [word for value in self.headers.values() for word in value.split() if len(word) >= _SECRET_WORD]
        return [*self.headers.values(), *words]

    def _shown_facts(self) -> dict[str, Any]:
        headers = {"headers": ", ".join(self.headers)} if self.headers else {}
        return {**headers, **super()._shown_facts()}

    def _shown_arguments(self) -> list[str]:
        names = ", ".join(f"{name!r}: ..." for name in self.headers)
        return ([f"headers={{{names}}}"] if names else []) + super()._shown_arguments()


_SUCCESS = {
    "GET": frozenset({200, 203}),  # an unasked 206 would be a part of the blob
    "HEAD": frozenset({200, 203}),
    "PUT": frozenset({200, 201, 204}),
    "POST": frozenset({200}),
    "DELETE": frozenset({200, 202, 204}),
}


def _of_no_bucket_service(response: Response) -> bool:
    """Whether it is a plain web server that answers, where a blob is missing because it is missing."""
    headers = response.headers
    kind = headers.get("content-type", "")
    return "xml" not in kind and "json" not in kind and not any(map(_BUCKET_SERVICE.match, headers))


@lru_cache(maxsize=256)
def _in_ascii(start: str) -> str | None:
    """What URLs that begin so begin with, as they are asked for; None: the host may go on behind the start."""
    match = is_web_url(start)
    return None if match is None or not match[3] else start if start.isascii() else percent_encoded(match)


def percent_encoded(match: re.Match[str]) -> str:
    """The URL that `is_web_url` has matched, in ASCII."""
    return f"{match[1]}://{match[2]}{quote(match[3], safe=_SAFE)}"


def origin(url: str) -> tuple[str, str]:
    match = is_web_url(url)
    assert match is not None
    scheme, host = match[1].lower(), match[2].lower()
    return scheme, host.removesuffix(_DEFAULT_PORTS[scheme])
