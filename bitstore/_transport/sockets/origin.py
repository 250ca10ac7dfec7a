"""Where plain GETs of one profile go: a server that another transport has reached, and the connections to it."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pycurl

from bitstore._transport.certificates import authorities, context
from bitstore._transport.proxies import is_direct
from bitstore._transport.sockets.channel import Channel, dial
from bitstore._transport.sockets.connection import Connection
from bitstore.steps import Profile, Request

if TYPE_CHECKING:
    import ssl

__all__ = ["Origin"]

_PREFIX = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?").fullmatch
_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~]([ -~]*[!-~])?").fullmatch
# Fields that only this module sets, or that change what comes back.
_RESERVED = {"host", "connection", "content-length", "transfer-encoding", "te", "expect", "upgrade", "range"}
# With libcurl's values.
_USUAL = (("User-Agent", pycurl.version), ("Accept", "*/*"))
_STALE_SECONDS = 60.0  # as libcurl keeps the addresses of a name
_LONGEST_IDLE = 60.0  # seconds: something on the way may have forgotten the connection, without a word


class Origin:
    """The way to one scheme, host and port (`prefix`: the URL up to its path), for the requests of one profile."""

    def __init__(self, profile: Profile, prefix: str) -> None:
        self.idle: list[Connection] = []  # connections that wait for a request, the last used last
        self._address: tuple[int, Any] = (0, None)  # family and address of the socket
        self._learned = 0.0  # when the address was learned, in seconds on the user's clock
        self._context: ssl.SSLContext | None = None  # of TLS; None: plain HTTP
        self._server_name: str | None = None
        self._prefix_length = len(prefix)
        self._signer = profile.signer
        parts = _PREFIX(prefix)
        lines = [*profile.headers] if profile.signer is None else profile.signer.lines("GET", f"{prefix}/", ())
        names = {line.partition(":")[0].lower() for line in lines}
        # Whether it can be reached so at all: without a proxy, by headers that need no interpretation.
        self.usable = (
            parts is not None
            and is_direct(profile, prefix)
            and profile.total_timeout is None
            and all(map(_LINE, lines))
            and not names & _RESERVED
        )
        if parts is None:
            return
        scheme, host, port = parts.groups()
        if port and int(port[1:]) == (443 if scheme == "https" else 80):
            port = None  # as libcurl and signatures have it
        usual = "".join(f"{name}: {value}\r\n" for name, value in _USUAL if name.lower() not in names)
        self._start = f" HTTP/1.1\r\nHost: {host}{port or ''}\r\n{usual}"
        self._fields = "\r\n".join(lines)
        if self.usable and scheme == "https":
            try:
                self._context = context(authorities(profile))
            except (OSError, ValueError):  # the file has gone: libcurl may remember what was in it
                self.usable = False
            self._server_name = host.strip("[]")

    def reached(self, address: str, port: int, now: float) -> None:
        """Learn where the server is."""
        if ":" in address:
            self._address = socket.AF_INET6, (address, port)
        else:
            self._address = socket.AF_INET, (address, port)
        self._learned = now

    def known(self, now: float) -> bool:
        """Whether a connection can be made."""
        return self._address[1] is not None and now - self._learned < _STALE_SECONDS

    def connect(self) -> Connection:
        """A new connection, which is not there yet. Raises OSError."""
        return Connection(Channel(dial(*self._address), self._context, self._server_name))

    def close(self) -> None:
        """Close the connections that wait for a request."""
        while self.idle:
            self.idle.pop().close()

    def message(self, request: Request) -> bytes | None:
        """The text of a request; None: it cannot be written without interpretation."""
        path = request.url[self._prefix_length :]
        signer = self._signer
        fields = self._fields if signer is None else "\r\n".join(signer.lines("GET", request.url, ()))
        text = f"GET {path}{self._start}{fields}\r\n\r\n" if fields else f"GET {path}{self._start}\r\n"
        if not path.isprintable() or " " in path or "#" in path or not text.isascii():
            return None
        return text.encode()

    def take(self, now: float) -> Connection | None:
        """The connection that was used last, if it can be used again."""
        while self.idle:
            connection = self.idle.pop()
            if now - connection.since < _LONGEST_IDLE and connection.quiet():
                return connection
            connection.close()
        return None

    def __del__(self) -> None:
        self.close()
