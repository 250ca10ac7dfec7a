"""The options that all stores behind HTTP have: their types, and what checks their values."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import unquote

from bitstore._lookup.retry import Rate, Retry
from bitstore._support.checks import check_seconds
from bitstore._support.sizes import parse_size

if TYPE_CHECKING:
    from bitstore._money.price import Price

__all__ = [
    "RETRY",
    "WireOptions",
    "bundle",
    "price",
    "proxy_secrets",
    "proxy_url",
    "rate",
    "retries",
    "seconds",
    "seconds_or_none",
    "size",
    "threshold",
]

RETRY = Retry()  # where the constructor is given none
_PROXY_USER = re.compile(r"(?:^|//)([^/?#:@]*):([^/?#]*)@")
_PRINTABLE = re.compile(r"[\x21-\x7e]*").fullmatch


class WireOptions(TypedDict, total=False):
    """The options that all stores behind HTTP have. `S3Raw` explains them."""

    forbidden_is_missing: bool
    missing_bucket: Literal["failure", "missing"]
    max_blob_size: int | str | None
    range_threshold: int | str | None
    connect_timeout: float
    stall_timeout: float
    total_timeout: float | None
    ca_bundle: str | os.PathLike[str] | None
    proxy: str | None
    retry: Retry | None
    limit: Rate | None
    price: Price | str | None


def size(name: str, value: Any) -> Any:
    if value is not None:
        parse_size(value, name=name)
    return value


def threshold(name: str, value: Any) -> Any:
    if value is not None and parse_size(value, name=name) == 0:
        raise ValueError(f"{name} is a size of at least 1 byte, or None: fetch no blob in parts")
    return value


def seconds(name: str, value: Any) -> Any:
    check_seconds(name, value)
    return value


def seconds_or_none(name: str, value: Any) -> Any:
    return None if value is None else seconds(name, value)


def bundle(name: str, path: Any) -> str | None:
    if path is None:
        return None
    file: str = os.fspath(path)
    if not Path(file).exists():
        raise ValueError(f"{name}: there is no file or folder {file!r}")
    return file


def proxy_url(name: str, proxy: Any) -> str | None:
    if proxy is not None and (not isinstance(proxy, str) or not _PRINTABLE(proxy)):
        raise ValueError(f"{name} must look like 'http://host:port', without blanks and control characters")
    return proxy


def retries(name: str, retry: Any) -> Retry:
    if retry is None:
        return RETRY
    if not isinstance(retry, Retry):
        raise TypeError(f"{name} is a Retry, such as Retry(attempts=2), not {type(retry).__name__}")
    return retry


def rate(name: str, limit: Any) -> Rate | None:
    if limit is not None and not hasattr(limit, "turn_steps"):
        raise TypeError(f"{name}={limit!r}: expected a RateLimit or a ClusterRate")
    found: Rate | None = limit
    return found


def price(name: str, value: Any) -> Price | None:
    if value is None:
        return None
    from bitstore._money.price import Price

    return Price.of(value, name)


def proxy_secrets(proxy: str | None) -> list[str]:
    """The password in the URL of a proxy, and the form in which it is sent (Basic, RFC 7617)."""
    match = _PROXY_USER.search(proxy or "")
    if match is None:
        return []
    user, password = unquote(match[1]), unquote(match[2])
    return [b64encode(f"{user}:{password}".encode()).decode(), match[2], password]
