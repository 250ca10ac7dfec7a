"""URLs as they may be told: in a repr, an error, a log line, statistics."""

from __future__ import annotations

import re

__all__ = ["shown", "without_password"]

_USERINFO = re.compile(r"//[^/?#\s]*@")
_QUERY = re.compile(r"(\bhttps?://[^\s?]*)\?[^\s'\")\]}]+")


def without_password(text: str) -> str:
    """`text` with `***` for the user and password of each URL in it."""
    return _USERINFO.sub("//***@", text)


def shown(text: str) -> str:
    """The same, with `***` also for the query of each http(s) URL, which is where signed URLs have their secret."""
    return _QUERY.sub(r"\1?***", without_password(text))
