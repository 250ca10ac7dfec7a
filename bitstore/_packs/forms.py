"""What bytes at a place may stand for: themselves, what they expand to, or the payload of a WARC record."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from bitstore._digests.codings import other_forms
from bitstore.references._warc import payloads

__all__ = ["forms"]


def forms(data: bytes, limit: int) -> Iterator[bytes]:
    """What `data` may stand for besides itself; nothing above `limit` bytes is expanded."""
    if data.startswith(b"WARC/"):
        yield from payloads(data)
        return
    for form in other_forms(data, data, limit):
        yield form
        yield from payloads(form)
    deflated = _inflated(data, limit)
    if deflated is not None:
        yield deflated


def _inflated(data: bytes, limit: int) -> bytes | None:
    """What a member of a zip expands to (RFC 1951, without a head); None: it is none."""
    expander = zlib.decompressobj(-15)
    try:
        expanded = expander.decompress(data, limit + 1)
    except zlib.error:
        return None
    return expanded if expander.eof and not expander.unused_data and len(expanded) <= limit else None
