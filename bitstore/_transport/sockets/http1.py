"""The answer to a GET as it arrives on a connection, by the framing of HTTP/1.1.

The rules are those of https://www.rfc-editor.org/rfc/rfc9112 (sections 5 to 7). An answer that is not plainly within
them is not interpreted: it is `Unclear`, and libcurl asks again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from bitstore.steps import (
    ERROR_BYTES,
    NO_HEADERS,
    TOO_LARGE,
    Request,
    Response,
    TransferError,
)

__all__ = ["Answer", "Head", "Unclear", "read_head"]

# HTTP status; bytes of the body, or one of the two below; whether the connection is of no use after it; headers for
# the response; seconds of Retry-After. A plain tuple, because there is one for each blob.
Head: TypeAlias = tuple[int, int, bool, Mapping[str, str], float]
_IN_CHUNKS = -1
_UNTIL_CLOSE = -2

_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_LONGEST_HEAD = 64 * 1024
_LONGEST_LINE = 8 * 1024  # of a chunk's size, or of what follows the last chunk
# A line of any text, and then fields, each on one line.
_LINES = re.compile(rb"[^\r\n\0]*\r\n(?:[!-9;-~]+:[^\r\n\0]*\r\n)*").fullmatch
_ABSOLUTE = re.compile(rb"[a-z][a-z0-9]*://[a-z0-9._-]+(:[1-9][0-9]{0,4})?/[!-~]*").fullmatch
_PATH = re.compile(rb"/(?!/)[!-~]*").fullmatch
_NUMBER = re.compile(rb"[0-9]+").match
_LONGEST_PAUSE = 21600.0  # seconds; as libcurl reads Retry-After


class Unclear(Exception):
    """HTTP/1.1 alone does not say where the answer ends: requests to this server are for libcurl."""


def read_head(text: bytes, request: Request) -> Head:
    """Read the head of the answer to `request`.

    Parameters
    ----------
    text
        Status line and fields, each with its line end, without the empty line.

    Raises
    ------
    Unclear
        The head is not plainly within the rules, or another head follows.
    TransferError
        The body is larger than the request's profile allows.
    """
    version, code = text[:9], text[9:12]
    if version not in _VERSIONS or not code.isdigit() or text[12:13] not in b" \r":
        raise Unclear
    if not _LINES(text):
        raise Unclear  # for libcurl a line may end so, and with it the head, long before where we took it to end
    status = int(code)
    if status < 200:
        raise Unclear  # there is another head to come
    lower = text.lower()
    last = version == b"HTTP/1.0 " or (
        b"\r\nconnection: keep-alive\r\n" not in lower and _field(text, lower, b"\r\nconnection:") != b""
    )
    length = _field(text, lower, b"\r\ncontent-length:")
    if b"\r\ntransfer-encoding:" in lower:
        if (
            b"\r\ncontent-length:" in lower
            or version == b"HTTP/1.0 "
            or _field(text, lower, b"\r\ntransfer-encoding:").lower() != b"chunked"
        ):
            raise Unclear
        size = _IN_CHUNKS
    elif length.isdigit() and len(length) <= 18:
        size = int(length)
    elif b"\r\ncontent-length" in lower:
        raise Unclear
    else:
        size = _UNTIL_CLOSE
    if status in (204, 304):
        size = 0
    if status < 300:
        _check_size(status, size, request)
        return status, size, last, NO_HEADERS, 0.0
    if size > ERROR_BYTES:
        size, last = ERROR_BYTES, True  # the rest is never read
    headers: Mapping[str, str] = NO_HEADERS
    if status < 400:
        headers = {"location": _resolved(request.url, _field(text, lower, b"\r\nlocation:"))}
    retry_after = _seconds(_field(text, lower, b"\r\nretry-after:")) if status in (429, 503) else 0.0
    return status, size, last, headers, retry_after


class Answer:
    """An answer to `request` that comes in several pieces; with its `head`, `take` begins with the body."""

    __slots__ = ("_head", "_left", "_parts", "_request", "_size", "_text", "last")

    def __init__(self, request: Request, head: Head | None = None) -> None:
        self._request = request
        self._text = b""  # of the head or of a chunk's frame, while it is incomplete
        self._parts: list[bytes] = []
        self._left = 0  # bytes of the body, or of this chunk with its line end, that are still to come
        self._size = 0  # of the chunks so far
        self.last = False  # whether the connection is of no use after this answer
        self._head: Head | None = None  # None: it is incomplete
        if head is not None:
            self._begin(head)

    def _begin(self, head: Head) -> None:
        self._head = head
        self._left = max(0, head[1])
        self.last = head[2]

    def take(self, data: bytes) -> Response | None:
        """Take the next bytes; returns the answer if it is whole. Raises what `read_head` raises."""
        if self._head is None:
            data = self._text + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if (
                    len(data) > _LONGEST_HEAD
                    or data.count(b"\n") != data.count(b"\r\n")
                    or not data.startswith(b"HTTP/1."[: len(data)])
                ):
                    raise Unclear
                self._text = data
                return None
            self._text = b""
            self._begin(read_head(data[: end + 2], self._request))
            data = data[end + 4 :]
        assert self._head is not None
        if self._head[1] == _IN_CHUNKS:
            return self._take_chunks(self._head, data)
        if self._head[1] == _UNTIL_CLOSE:
            self._parts.append(data)
            self._size += len(data)
            return self._grown(self._head)
        if len(data) > self._left:
            self.last = True  # nothing asked for what follows, so the connection cannot be trusted any more
            data = data[: self._left]
        self._parts.append(data)
        self._left -= len(data)
        return None if self._left else self._whole(self._head)

    def closed(self) -> Response | None:
        """The answer, if it is whole by the end of the connection."""
        if self._head is None or self._head[1] != _UNTIL_CLOSE:
            return None
        self.last = True
        return self._whole(self._head)

    def cut(self, code: int, message: str) -> TransferError:
        """The error for an answer of which no more will come."""
        status, size = (0, 0) if self._head is None else self._head[:2]
        return TransferError(code, message, status, None, b"".join(self._parts) if size != _IN_CHUNKS else b"")

    def _whole(self, head: Head) -> Response:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return Response(head[0], body, head[3], head[4])

    def _take_chunks(self, head: Head, data: bytes) -> Response | None:
        text = self._text + data
        at = 0
        while True:
            if self._left:
                part = text[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                if part:
                    self._parts.append(part)
                if self._left:
                    self._text = b""
                    return None
                self._strip_line_end()
            end = text.find(b"\r\n", at)
            if end < 0:
                self._wait_for_line(text[at:])
                return None
            digits = text[at:end].partition(b";")[0].rstrip(b" \t")
            if b"\n" in text[at:end]:
                raise Unclear
            if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
                raise Unclear
            size = int(digits, 16)
            if not size:
                # Fields may follow, which are not used here, and an empty line.
                end = text.find(b"\r\n\r\n", at)
                if end < 0:
                    if text.count(b"\n", at) != text.count(b"\r\n", at):
                        raise Unclear
                    self._wait_for_line(text[at:])
                    return None
                if not _LINES(text[at : end + 2]):
                    raise Unclear
                self.last = self.last or end + 4 < len(text)
                return self._whole(head)
            self._size += size
            if (response := self._grown(head)) is not None:
                return response
            self._left = size + 2
            at = end + 2

    def _grown(self, head: Head) -> Response | None:
        """Look at the size of a body that has no length: an error that is longer than is taken ends here."""
        if head[0] < 300:
            _check_size(head[0], self._size, self._request)
            return None
        if self._size <= ERROR_BYTES:
            return None
        self.last = True
        self._parts = [b"".join(self._parts)[:ERROR_BYTES]]
        return self._whole(head)

    def _strip_line_end(self) -> None:
        """Take the line end off the chunk that has come."""
        parts = self._parts
        if len(parts[-1]) < 2:  # it came in two pieces
            parts[-2:] = [parts[-2] + parts[-1]]
        if not parts[-1].endswith(b"\r\n"):
            raise Unclear
        parts[-1] = parts[-1][:-2]

    def _wait_for_line(self, text: bytes) -> None:
        if len(text) > _LONGEST_LINE:
            raise Unclear
        self._text = text


def _check_size(status: int, size: int, request: Request) -> None:
    """Raise `TransferError` for a blob above the limit, of which `size` bytes are known."""
    limit = request.profile.max_bytes if request.max_bytes is None else request.max_bytes
    if limit and size > limit:
        raise TransferError(TOO_LARGE, "the body is larger than was asked for", status)


def _field(head: bytes, lower: bytes, name: bytes) -> bytes:
    """The value of a field, empty if there is none. `name` from line end to colon, in lower case as `lower`."""
    at = lower.find(name)
    if at < 0:
        return b""
    at += len(name)
    if lower.find(name, at) >= 0:
        raise Unclear  # twice: a proxy on the way may have believed the other value
    return head[at : head.index(b"\r\n", at)].strip(b" \t")


def _resolved(url: str, location: bytes) -> str:
    """The absolute URL of a redirect. The plain cases alone: `urljoin`, say, takes the `//` out of a key."""
    if not location:
        return ""
    if b"/." in location:
        raise Unclear
    if _ABSOLUTE(location):
        return location.decode()
    if _PATH(location):
        return url[: url.index("/", 8)] + location.decode()
    raise Unclear


def _seconds(value: bytes) -> float:
    if number := _NUMBER(value):  # whatever follows it, as for libcurl, for which one above 63 bits is none
        return min(float(number[0]), _LONGEST_PAUSE) if len(number[0]) <= 18 else 0.0
    try:
        moment = parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, moment - time.time()), _LONGEST_PAUSE)
