"""Signature Version 4, for the requests that libcurl cannot sign as they must be.

Those are paths with `.` or `..` segments, and machines whose clock is off (libcurl signs with the local time).
Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timezone
from urllib.parse import urlsplit

__all__ = ["signed"]

_ALGORITHM = "AWS4-HMAC-SHA256"


def signed(
    method: str, url: str, headers: Sequence[str], *, access_key: str, secret_key: str, region: str, now: float
) -> tuple[str, ...]:
    """`headers` and those that sign them.

    Parameters
    ----------
    method, url
        The request, its path percent-encoded as it goes out. A query is not supported.
    headers
        Lines `"Name: value"`; all of them are signed. One is `x-amz-content-sha256`.
    access_key, secret_key, region
        Who signs, for where.
    now
        The time that the service believes it is, in seconds since 1970.
    """
    moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    lines = (*headers, f"x-amz-date: {moment}")
    pairs = sorted([("host", parts.netloc), *map(_pair, lines)])
    names = ";".join(name for name, _ in pairs)
    payload = next(value for name, value in pairs if name == "x-amz-content-sha256")
    request = "\n".join(
        [method, parts.path, parts.query, *(f"{name}:{value}" for name, value in pairs), "", names, payload]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    told = f"{_ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return (*lines, f"Authorization: {told}")


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), " ".join(value.split())
