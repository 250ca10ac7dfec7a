"""HTTP/1.1 messages as bytes: just enough to pass them on unchanged, and to do harm to them exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

__all__ = ["LIMIT", "Request", "Response", "make_response", "read_request", "read_response"]

LIMIT = 1 << 20
_PIECE = 1 << 16


@dataclass
class Request:
    """One request as it came in.

    Attributes
    ----------
    headers
        Names in lower case.
    head, body
        The bytes as sent; `body` with its chunk frames where it came in chunks.
    """

    method: str
    target: str
    headers: dict[str, str]
    head: bytes = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query, quoted as sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition("?")[2]


@dataclass
class Response:
    """The head of an answer, and its body as it arrives (with its chunk frames where it comes in chunks)."""

    status: int
    head: bytes
    body: AsyncIterator[bytes]
    keep_alive: bool


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next whole request on a connection, None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, headers = _parse(head)
    method, target, _ = line.split(" ", 2)
    if headers.get("expect", "").lower() == "100-continue":
        # The permission comes from here, and the server's own one is dropped: a server that gives none would leave both
        # sides waiting.
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces = [piece async for piece in _body(reader, headers, until_close=False)]
    return Request(method, target, headers, head, b"".join(pieces))


async def read_response(reader: asyncio.StreamReader, method: str) -> Response:
    """The next answer to a request with `method`. Raises `IncompleteReadError` when there is none."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        line, headers = _parse(head)
        status = int(line.split(" ", 2)[1])
        if status >= 200:
            break
    bare = method == "HEAD" or status in (204, 304)
    delimited = bare or "content-length" in headers or "transfer-encoding" in headers
    keep_alive = delimited and headers.get("connection", "").lower() != "close" and line.startswith("HTTP/1.1")
    return Response(status, head, _whole(b"") if bare else _body(reader, headers, until_close=True), keep_alive)


def make_response(status: int, body: bytes, headers: Mapping[str, str], *, method: str) -> Response:
    """An answer of our own."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    if not any(name.lower() == "content-length" for name in headers):
        lines.append(f"Content-Length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return Response(status, head, _whole(b"") if method == "HEAD" else _whole(body), keep_alive=True)


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    first, *rest = head[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return first, headers


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str], *, until_close: bool) -> AsyncIterator[bytes]:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line
            if size:
                yield await reader.readexactly(size + 2)
        while True:
            trailer = await reader.readuntil(b"\r\n")
            yield trailer
            if trailer == b"\r\n":
                return
    elif "content-length" in headers:
        left = int(headers["content-length"])
        while left:
            piece = await reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
    elif until_close:
        while piece := await reader.read(_PIECE):
            yield piece
