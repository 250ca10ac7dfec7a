"""Secrets out of texts: what a repr, an error, a log line or statistics may show of URLs and of others' messages."""

from __future__ import annotations

import re

__all__ = ["redact", "redact_password", "redact_url", "text_of"]

_USERINFO = re.compile(r"//[^/?#\s]*@")
_QUERY = re.compile(r"(\bhttps?://[^\s?]*)\?[^\s'\")\]}]+")
# Secrets in URLs that another library's error shows cut, and in header lines.
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|signature|sig|passw\w*|credential|auth)[\w.-]*=)[^&\s'\")\]}]+", re.IGNORECASE
)
_HEADER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def redact_password(text: str) -> str:
    """`text` with `***` for the user and password of each URL in it."""
    return _USERINFO.sub("//***@", text)


def redact_url(text: str) -> str:
    """`text` with `***` for passwords, and for the query of each http(s) URL: signed URLs have their secret there."""
    return _QUERY.sub(r"\1?***", redact_password(text))


def redact(text: str) -> str:
    """Another program's text, such as the exception of a user's store, with `***` for all that looks like a secret."""
    return _HEADER.sub(r"\1 ***", _PARAMETER.sub(r"\1***", redact_url(text)))


def text_of(value: object) -> str:
    """`str(value)`; for an object of a user whose text fails, the name of its class."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} object without a text>"
