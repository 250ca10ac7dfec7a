"""The heads of answers, in the lines in which libcurl passes them on."""

from __future__ import annotations

import re

__all__ = ["fields", "has_whole_head", "last_status"]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def fields(lines: list[bytes]) -> dict[str, str]:
    """The fields of the last head, lower-case names to values. Earlier heads are of proxies, or `100 Continue`."""
    headers: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            headers.clear()
            continue
        name, colon, value = line.partition(b":")
        value = value.strip()
        if colon and not _CONTROL(value):  # a value may become part of a request's header, such as If-Match
            headers[name.strip().lower().decode("latin-1")] = value.decode("latin-1")
    return headers


def last_status(lines: list[bytes]) -> int:
    """The status of the last head."""
    first = next(line for line in reversed(lines) if line.startswith(b"HTTP/"))
    return int(first.split(None, 2)[1])


def has_whole_head(lines: list[bytes]) -> bool:
    """Whether the last head has its empty line; False if no lines were collected.

    Lines may follow the empty line: fields after a body in chunks.
    """
    for line in reversed(lines):
        if line in (b"\r\n", b"\n"):
            return True
        if line.startswith(b"HTTP/"):
            return False
    return False
