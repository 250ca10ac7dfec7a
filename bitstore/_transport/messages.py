"""How GETs are written, for transports that write them themselves."""

from __future__ import annotations

import re
import socket

import pycurl

from bitstore._transport.proxies import is_direct
from bitstore.steps import Profile, Request

__all__ = ["Messages"]

_PREFIX = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?").fullmatch
_NUMBERS = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?").fullmatch
_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~]([ -~]*[!-~])?").fullmatch
# Fields that only this module sets, or that change what comes back.
_RESERVED = {"host", "connection", "content-length", "transfer-encoding", "te", "expect", "upgrade", "range"}
# With libcurl's values.
_USUAL = (("User-Agent", pycurl.version), ("Accept", "*/*"))
# What a request may say beside its profile.
_OWN = {"range", "if-match"}


class Messages:
    """The texts of GETs of one profile to one scheme, host and port.

    Parameters
    ----------
    profile
        Of the requests.
    prefix
        Their URL up to its path.

    Attributes
    ----------
    usable
        Whether they can be written here at all: to the server itself, with headers that need no interpretation.
    server_name
        Name or address of the server, for its certificate; None: plain HTTP.
    start
        What follows the path, up to the fields that `Signer.lines` or the profile's `headers` are.
    """

    def __init__(self, profile: Profile, prefix: str) -> None:
        self.server_name: str | None = None
        self.start = ""
        self._path_at = len(prefix)
        self._signer = profile.signer
        parts = _PREFIX(prefix)
        lines = [*profile.headers] if profile.signer is None else profile.signer.lines("GET", f"{prefix}/", ())
        names = {line.partition(":")[0].lower() for line in lines}
        self.usable = (
            parts is not None
            and _is_usual(parts[2])
            and is_direct(profile, prefix)
            and profile.total_timeout is None
            and all(map(_LINE, lines))
            and not names & _RESERVED
        )
        self._fields = "\r\n".join(lines)
        if parts is None:
            return
        scheme, host, port = parts.groups()
        if port and int(port[1:]) == (443 if scheme == "https" else 80):
            port = None  # as libcurl and signatures have it
        usual = "".join(f"{name}: {value}\r\n" for name, value in _USUAL if name.lower() not in names)
        self.start = f" HTTP/1.1\r\nHost: {host}{port or ''}\r\n{usual}"
        if scheme == "https":
            self.server_name = host.strip("[]")

    def path(self, request: Request) -> str:
        """Path and query of a plain request."""
        return request.url[self._path_at :]

    def of(self, request: Request) -> str | None:
        """The text of a request; None: it cannot be written without interpretation."""
        path = self.path(request)
        if not (path.isascii() and path.isprintable()) or " " in path or "#" in path:
            return None
        own = request.headers
        if own and not all(_LINE(line) and line.partition(":")[0].lower() in _OWN for line in own):
            return None
        if self._signer is not None:
            fields = "\r\n".join(self._signer.lines("GET", request.url, own))
        else:
            fields = "\r\n".join([self._fields, *own] if self._fields else own) if own else self._fields
        text = f"GET {path}{self.start}{fields}\r\n\r\n" if fields else f"GET {path}{self.start}\r\n"
        return text if text.isascii() else None


def _is_usual(host: str) -> bool:
    """Whether a host is written as libcurl writes it in the `Host` field: it has one spelling for each address."""
    if host[0] != "[" and not _NUMBERS(host):
        return True
    family = socket.AF_INET6 if host[0] == "[" else socket.AF_INET
    address = host.strip("[]")
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address)) == address
    except OSError:
        return False
