"""The options of a libcurl handle that hold for all requests of one profile and method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycurl

from bitstore._transport.certificates import authorities
from bitstore.steps import ERROR_BYTES, TRICKLE, Profile

__all__ = ["configured", "milliseconds", "usual_limit", "with_room"]

# One write callback per 16 KB (libcurl's default) costs 2.5 times the CPU per MB of large blobs.
_BUFFER_BYTES = 512 * 1024
_LONGEST_SECONDS = 1_000_000  # as good as for ever; libcurl cannot count much farther


def configured(profile: Profile, method: str) -> Any:
    """A new libcurl handle for requests of this profile and method."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)  # libcurl must not use SIGALRM in threads
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, milliseconds(profile.connect_timeout))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, TRICKLE)
    curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(min(profile.stall_timeout, _LONGEST_SECONDS))))
    if profile.total_timeout is not None:
        curl.setopt(pycurl.TIMEOUT_MS, milliseconds(profile.total_timeout))
    trusted = authorities(profile)
    if Path(trusted).is_dir():
        curl.unsetopt(pycurl.CAINFO)  # libcurl's own file would be believed besides
        curl.setopt(pycurl.CAPATH, trusted)
    else:
        curl.setopt(pycurl.CAINFO, trusted)
    # Empty rather than unset: libcurl would read the environment, by other rules than `Proxies`.
    curl.setopt(pycurl.PROXY, profile.proxy or "")
    curl.setopt(pycurl.NOPROXY, "")
    curl.setopt(pycurl.PATH_AS_IS, 1)  # keys are names: `..` in one means nothing
    if profile.headers:
        curl.setopt(pycurl.HTTPHEADER, list(profile.headers))
    curl.setopt(pycurl.MAXFILESIZE_LARGE, usual_limit(profile, method))
    if method == "HEAD":
        curl.setopt(pycurl.NOBODY, 1)
    elif method != "GET":
        curl.setopt(pycurl.CUSTOMREQUEST, method)
    return curl


def milliseconds(seconds: float) -> int:
    """A time limit as libcurl takes it: at least 1, because 0 means no limit."""
    return max(1, int(min(seconds, _LONGEST_SECONDS) * 1000))


def usual_limit(profile: Profile, method: str) -> int:
    """The limit of a body's bytes; 0: none. libcurl applies it to the length that an answer to HEAD names, too."""
    return with_room(profile.max_bytes or 0) if method == "GET" else 0


def with_room(limit: int) -> int:
    """The limit for libcurl, which has one limit for blobs and for the bodies of errors; 0: none."""
    return max(limit, ERROR_BYTES) if limit else 0
