"""URLs as they may be told: in a repr, an error, a log line, statistics."""

from __future__ import annotations

import re

__all__ = ["shown", "told", "without_password"]

_USERINFO = re.compile(r"//[^/?#\s]*@")
_QUERY = re.compile(r"(\bhttps?://[^\s?]*)\?[^\s'\")\]}]+")
# Where the URL is cut, as other libraries' errors tell it, and what a header says.
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|signature|sig|passw\w*|credential|auth)[\w.-]*=)[^&\s'\")\]}]+", re.IGNORECASE
)
_HEADER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def without_password(text: str) -> str:
    """`text` with `***` for the user and password of each URL in it."""
    return _USERINFO.sub("//***@", text)


def shown(text: str) -> str:
    """The same, with `***` also for the query of each http(s) URL, which is where signed URLs have their secret."""
    return _QUERY.sub(r"\1?***", without_password(text))


def told(text: str) -> str:
    """The same for what others wrote, such as a user's store in its exceptions: what looks like a secret is `***`."""
    return _HEADER.sub(r"\1 ***", _PARAMETER.sub(r"\1***", shown(text)))
