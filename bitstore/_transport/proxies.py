"""The proxies that the environment names.

They are found by the rules of Python's clients (`urllib.request`, requests), which libcurl's own rules differ from:
`HTTP_PROXY` in capitals alone serves plain requests, and `no_proxy` may name ports and networks.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from bitstore.steps import Profile

__all__ = ["Proxies", "is_direct"]

_ITEMS = re.compile(r"[,\s]+")


class Proxies:
    """The proxies that the environment names at this moment.

    An object per connection handle reads the environment once, so that a request costs a look into a table.
    """

    __slots__ = ("_by_prefix", "_named")

    def __init__(self) -> None:
        self._named = _named_proxies()
        self._by_prefix: dict[str, str] = {}  # scheme, host and port of a URL -> its proxy

    def __bool__(self) -> bool:
        """Whether any URL may go through a proxy."""
        return bool(self._named.keys() - {"no"})

    def of(self, url: str) -> str:
        """The URL of the proxy for `url`; empty: the server itself is to be connected to."""
        prefix = url[: end if (end := url.find("/", 8)) > 0 else len(url)]
        found = self._by_prefix.get(prefix)
        if found is None:
            found = self._by_prefix[prefix] = self._look_up(prefix)
        return found

    def _look_up(self, prefix: str) -> str:
        parts = urlsplit(prefix)
        proxy = self._named.get(parts.scheme.lower()) or self._named.get("all") or ""
        if not proxy or _bypassed(parts.hostname or "", parts.port, self._named.get("no", "")):
            return ""
        return proxy


def is_direct(profile: Profile, url: str) -> bool:
    """Whether requests of `profile` to `url` go to the server itself."""
    return not (Proxies().of(url) if profile.proxy is None else profile.proxy)


def _named_proxies() -> dict[str, str]:
    """Scheme (or `all`, `no`) to value of each `<scheme>_proxy`, as `urllib.request.getproxies_environment` has them.

    A variable in small letters is stronger than one in capitals, also when it is empty.
    """
    named: dict[str, str] = {}
    small: dict[str, str] = {}
    for name, value in os.environ.items():
        scheme, _, end = name.rpartition("_")
        if scheme and end.lower() == "proxy":
            named.setdefault(scheme.lower(), value)
            if end == "proxy":
                small[scheme.lower()] = value
    if "REQUEST_METHOD" in os.environ:
        named.pop("http", None)  # in a CGI program HTTP_PROXY is a header of its client (CVE-2016-1000110)
    return {scheme: value for scheme, value in {**named, **small}.items() if value}


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether `no_proxy` names this server: by host or domain, with or without its port, by address or by network."""
    if no_proxy.strip() == "*":
        return True
    address = _address(host)
    for item in _ITEMS.split(no_proxy.lower()):
        if address is not None and "/" in item and _within(address, item):
            return True
        name = item.lstrip(".")
        bracketed = f"[{host}]" if ":" in host else host
        for spelling in (host, bracketed, f"{bracketed}:{port}"):
            if name and (spelling == name or spelling.endswith(f".{name}")):
                return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False  # not a network
