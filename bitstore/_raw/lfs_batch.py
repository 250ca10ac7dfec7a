"""The batch API of Git LFS as data: the question about many objects, the links in its answer, and groups of lookups.

Protocol: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md and docs/api/basic-transfers.md beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from bitstore._lookup.event import Event
from bitstore._raw.options import in_header
from bitstore._raw.problems import Problem, cut
from bitstore._support import clock

__all__ = ["HEADERS", "LASTING", "Group", "Link", "links", "none_held", "question", "sent"]

_JSON = "application/vnd.git-lfs+json"
HEADERS = (f"Accept: {_JSON}", f"Content-Type: {_JSON}")
LASTING = frozenset({409, 422})  # codes that the same question would get again: the algorithm or the size is wrong
_LONGEST = 2147483647.0  # seconds: the most that `expires_in` may say
_MISSING = frozenset({404, 410})  # codes of an object that is not there, or was removed by its owner
_NONE_HELD = re.compile(r"\bcannot find any of the requested objects\b", re.IGNORECASE)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.\d+)?(?:[Zz]|([+-]\d\d):?(\d\d))").fullmatch
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
# What a link may not say of its request: where the request ends, and what becomes of its connection.
_NOT_OF_A_LINK = frozenset(
    {"connection", "content-length", "expect", "host", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Link(NamedTuple):
    """Where the server says that the bytes of one object are."""

    href: str
    headers: Mapping[str, str]  # for the link's own host alone; they may hold a token
    until: float  # seconds on `clock.monotonic()`, when it expires
    authenticated: bool  # whether the link needs no credentials of the caller
    size: int | None  # bytes of the object, where the server knows

    @property
    def over(self) -> bool:
        """Whether it has expired."""
        return clock.monotonic() >= self.until

    def __repr__(self) -> str:
        return "Link(...)"  # its address may be signed


class Group(Event):
    """Lookups whose objects one request asks about.

    Parameters
    ----------
    base
        URL of the LFS server, with a slash at its end.
    """

    __slots__ = ("alone", "answers", "base", "sizes")

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.sizes: dict[str, int] = {}  # bytes of each object, as the caller knows them; it grows until it is sent
        self.answers: Mapping[str, Link | Problem] | Problem | None = None  # None after landing: to be asked again
        self.alone = False  # whether each of its objects is to be asked about in a request of its own

    def land(self) -> None:
        """Resume the lookups that wait: `answers` is final."""
        self.landed = True
        self._drain()


def question(sizes: Mapping[str, int]) -> bytes:
    """The body of a request for the links of all objects in `sizes`."""
    objects = [{"oid": oid, "size": size} for oid, size in sizes.items()]
    asked = {"operation": "download", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
    return json.dumps(asked).encode()


def links(body: bytes, asked: Mapping[str, int]) -> dict[str, Link | Problem] | Problem:
    """What a successful answer says of each object in `asked`; a problem where it is no answer of a batch API."""
    answer = _parsed(body)
    objects = answer.get("objects") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(objects, list):
        return Problem(200, message="no answer of the batch API of Git LFS")
    if answer.get("transfer") not in (None, "", "basic"):
        return Problem(200, message=cut(f"the server wants the transfer {answer['transfer']!r}, only 'basic' is known"))
    if answer.get("hash_algo") not in (None, "", "sha256"):
        return Problem(200, message=cut(f"the server names objects by {answer['hash_algo']!r}, not by sha256"))
    silent = Problem(200, message="the answer of the batch API does not speak of this object")
    found: dict[str, Link | Problem] = dict.fromkeys(asked, silent)
    for each in objects:
        oid = each.get("oid") if isinstance(each, dict) else None
        if isinstance(oid, str) and oid.lower() in found:
            found[oid.lower()] = _one(each, asked[oid.lower()])
    return found


def sent(size: int) -> str:
    """What a refusal of an object may come from: the size that was sent."""
    if size:
        return f"; the size that was sent is {size}, as sizes= has it"
    return "; the size that was sent is 0, because sizes= does not name the object: LFSRaw(sizes={digest: bytes})"


def none_held(problem: Problem) -> bool:
    """Whether the answer to a whole request says that each of its objects is missing, as giftless says it.

    Else a 404 says that there is no such repository, or that the caller may not see it.
    """
    return problem.status == 404 and _NONE_HELD.search(problem.message) is not None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))  # a message in another encoding spoils no answer
    except (ValueError, RecursionError):  # of another service, perhaps nested without end
        return None


def _one(each: dict[str, Any], asked: int) -> Link | Problem:
    error = each.get("error")
    if error is not None:
        return _error(error, asked)
    actions = each.get("actions")
    action = actions.get("download") if isinstance(actions, dict) else None
    href = action.get("href") if isinstance(action, dict) else None
    if not isinstance(action, dict) or not isinstance(href, str):
        return Problem(200, message="the answer of the batch API has neither a link nor an error for this object")
    try:
        headers = _headers(action.get("header") or {})
    except (ValueError, AttributeError, TypeError):
        return Problem(200, message="the answer of the batch API names headers that cannot be sent")
    known = each.get("size")
    size = known if type(known) is int and known > 0 else None  # 0 may be no more than what was asked with
    return Link(href, headers, clock.monotonic() + _good_for(action), each.get("authenticated") is True, size)


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in given.items():
        if name.lower() not in _NOT_OF_A_LINK and value not in ("", None):
            if not _HEADER_NAME(name):
                raise ValueError(name)
            headers[name] = str(in_header(name, value))
    return headers


def _error(error: Any, size: int) -> Problem:
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) else 0
    text = _words(error.get("message", "") if isinstance(error, dict) else error)
    if status == 422:
        text += sent(size)
    return Problem(
        status,
        message=text,
        missing=status in _MISSING,
        refused=status in (401, 403),
        unservable=status in LASTING,
    )


def _words(value: Any) -> str:
    """A server's text on one line, without what no terminal can show."""
    return cut(" ".join(str(value).encode("utf-8", "replace").decode().split()))


def _good_for(action: Mapping[str, Any]) -> float:
    """Seconds until the link expires. The server's seconds are preferred, for the clocks of two machines differ."""
    seconds = action.get("expires_in")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds:
        return float(max(-_LONGEST, min(_LONGEST, seconds)))
    match = _TIME(str(action.get("expires_at", "")))
    if match is None or match[1].startswith("0001"):  # the zero of Go's time stands for none
        return _LONGEST
    day, hours, east_hours, east_minutes = match.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{hours}{east_hours or '+00'}:{east_minutes or '00'}")
        return (at - datetime.now(timezone.utc)).total_seconds()
    except ValueError:  # no such day
        return _LONGEST
