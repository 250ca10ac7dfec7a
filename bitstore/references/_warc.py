"""The payload of a WARC record.

WARC: https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/. A record is a head, an empty line
and a block; the block of a response is an HTTP answer with its own head.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["payloads"]

_TYPES = (b"response", b"resource", b"conversion", b"request")


def payloads(record: bytes) -> Iterator[bytes]:
    """What a WARC record holds: the body of its HTTP message, without transfer coding and as it is; or its block."""
    head, separator, block = record.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"WARC/"):
        return
    fields = _fields(head)
    length = fields.get(b"content-length", b"")
    if length.isdigit():
        block = block[: int(length)]
    if fields.get(b"warc-type", b"").lower() not in _TYPES:
        return
    if b"application/http" in fields.get(b"content-type", b"").lower() and block.startswith(b"HTTP/"):
        answer, separator, body = block.partition(b"\r\n\r\n")
        if not separator:
            return
        if b"chunked" in _fields(answer).get(b"transfer-encoding", b"").lower():
            whole = _without_chunks(body)
            if whole is not None:
                yield whole
        yield body
        return
    yield block


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _without_chunks(body: bytes) -> bytes | None:
    """The bytes of a chunked body (RFC 9112, 7.1); None: it is none, as where the crawler has put it together."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].partition(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            return None
        if size < 0:
            return None
        if size == 0:
            return b"".join(pieces)
        at = end + 2 + size
        if body[at : at + 2] != b"\r\n":
            return None
        pieces.append(body[end + 2 : at])
        at += 2
