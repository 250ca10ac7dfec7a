"""Which service a store asks, by a name that stays the same whichever of its addresses is taken."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["service_of"]

_AMAZON = "s3.amazonaws.com"

_PORTS = {"http": 80, "https": 443}
# What hosts of a service end in. Names of buckets are unique within each of them.
_ENDS = (
    (".amazonaws.com.cn", "s3.amazonaws.com.cn"),
    (".amazonaws.com", _AMAZON),
    (".googleapis.com", "storage.googleapis.com"),
)


def service_of(address: str) -> str:
    """The service at an address: its host and port, without user and password, and the path if it has one.

    Amazon and Google have many addresses each; these count as one service, and so does each partition of Amazon's.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    for end, service in _ENDS:
        if f".{host}".endswith(end):
            return "s3.us-gov.amazonaws.com" if service == _AMAZON and "us-gov-" in host else service
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}{port}{parts.path.rstrip('/')}"
