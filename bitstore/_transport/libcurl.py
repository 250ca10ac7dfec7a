"""libcurl handles: configured once per profile and method, used again and again.

Everything that touches pycurl's options is here. A handle belongs to the process that made it:
a forked child never uses, nor closes, what its parent had open (closing would send a TLS
"goodbye" on a connection that the parent still uses).
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pycurl

from bitstore._transport.settings import Proxies, ca_bundle
from bitstore.steps import (
    ERROR_BYTES,
    NO_HEADERS,
    PRINTABLE,
    TOO_LARGE,
    Profile,
    Request,
    Response,
    TransferError,
)

__all__ = ["TRICKLE", "Handle", "Handles", "handles"]

# One write callback per 16 KB (libcurl's default) costs 2.5 times the CPU per MB of large blobs.
_BUFFER_BYTES = 512 * 1024
_URL, _HTTPHEADER, _RESPONSE_CODE = pycurl.URL, pycurl.HTTPHEADER, pycurl.RESPONSE_CODE  # asked for with each blob
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
# Below this it is no progress: else a server that sends a byte now and again would never be given up. 1,024 transfers
# over a line of 1 Mbit/s still have more.
TRICKLE = 100  # bytes a second
_LONGEST_SECONDS = 1_000_000  # as good as for ever; libcurl cannot count much farther
_PROXY_REFUSES = 97  # CURLE_PROXY
_GOT_NOTHING = 52  # CURLE_GOT_NOTHING
_WRITE_ERROR = 23  # CURLE_WRITE_ERROR: we did not take what came


class Handle:
    """One easy handle and the buffers of the transfer it carries."""

    # It refers to no profile while it is idle: then a profile that nobody uses any more is freed at once, and
    # with it its idle handles and their connections.
    __slots__ = ("__weakref__", "chunks", "curl", "hurried", "lines", "owner", "proxies", "request", "streams")

    def __init__(self, profile: Profile, method: str) -> None:
        self.chunks: list[bytes] = []
        self.lines: list[bytes] = []
        self.request: Request | None = None
        self.owner: Any = None
        self.hurried = False  # this request has a time limit of its own
        self.streams: bool | None = None  # whether the body goes to the request's sink; None: no byte of it has come
        # Choose the proxy of each request; None: it is the same for all.
        self.proxies = None if profile.proxy is not None else Proxies() or None
        self.curl = _configured(profile, method)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.chunks.append)

    def prepare(self, request: Request, timeout: float | None) -> None:
        """Set what differs from request to request; `timeout` in seconds bounds the whole exchange."""
        curl = self.curl
        profile = request.profile
        self.request = request
        curl.setopt(_URL, request.url)
        if self.proxies is not None:
            curl.setopt(pycurl.PROXY, self.proxies.of(request.url))
        if request.special:
            self._prepare_rest(request)
        elif profile.signer is not None:
            curl.setopt(_HTTPHEADER, profile.signer.lines("GET", request.url, ()))
        if timeout is not None:
            usual = profile.total_timeout
            curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(timeout if usual is None else min(timeout, usual)))
            self.hurried = True

    def _prepare_rest(self, request: Request) -> None:
        curl, profile = self.curl, request.profile
        headers = request.headers if request.sink is None else (*request.headers, *request.sink.headers())
        if profile.signer is not None:
            curl.setopt(pycurl.HTTPHEADER, profile.signer.lines(request.method, request.url, headers))
        elif headers:
            curl.setopt(pycurl.HTTPHEADER, [*profile.headers, *headers])
        if request.body is not None:
            # POSTFIELDS rather than a read callback: libcurl can send it again when a kept connection has died.
            curl.setopt(pycurl.POSTFIELDS, request.body)
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        if request.want_headers or request.sink is not None:
            curl.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        if request.sink is not None:
            self.streams = None
            curl.setopt(pycurl.WRITEFUNCTION, self._stream)
        if request.max_bytes is not None:
            # libcurl checks what goes to a sink; what goes into memory is looked at once more in `finish`.
            limit = request.max_bytes if request.sink is not None else _with_room(request.max_bytes)
            curl.setopt(pycurl.MAXFILESIZE_LARGE, limit)

    def _stream(self, chunk: bytes) -> int | None:
        """Pass the body on, unless it is that of an error. Returning a wrong length ends the transfer (code 23)."""
        assert self.request is not None and self.request.sink is not None
        sink = self.request.sink
        if self.streams is None:
            # libcurl cannot be asked for the status while it is at work.
            status = _status(self.lines)
            self.streams = status in (200, 206)
            if self.streams and not sink.begin(status, _parse(self.lines)):
                return 0
        if not self.streams:
            self.chunks.append(chunk)
            return None if sum(map(len, self.chunks)) <= ERROR_BYTES else 0
        return None if sink.write(chunk) else 0

    def finish(self, code: int, message: str) -> Response:
        """The answer, after libcurl has ended the transfer with `code`. Raises `TransferError` unless it is whole."""
        request, chunks, curl = self.request, self.chunks, self.curl
        assert request is not None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        status: int = curl.getinfo(_RESPONSE_CODE)
        headers = _parse(self.lines) if self.lines else NO_HEADERS
        retry_after = 0.0
        if status in (429, 503):
            retry_after = float(curl.getinfo(pycurl.RETRY_AFTER))
        elif 300 <= status < 400:
            # As bytes, for what a server sends need not be text.
            headers = {**headers, "location": quote(curl.getinfo_raw(pycurl.REDIRECT_URL) or b"", safe=PRINTABLE)}
        if code:
            stopped = code == TOO_LARGE or (code == _WRITE_ERROR and request.sink is not None and not self.streams)
            if stopped and status >= 300:
                code = 0  # an error is known by its status: that its text has no end does not matter
            elif 400 <= (refused := curl.getinfo(pycurl.HTTP_CONNECTCODE)) < 500 and refused not in (408, 429):
                code = _PROXY_REFUSES  # no transient failure, as libcurl's own code would have it
        elif request.method == "GET" and 200 <= status < 300:
            limit = request.profile.max_bytes if request.max_bytes is None else request.max_bytes
            if limit and len(body) > limit:
                code, message = TOO_LARGE, "the body is larger than was asked for"
            elif not body and curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) < 0 and not _whole_head(self.lines):
                # libcurl takes the end of the connection for the end of the head, and so for an empty blob.
                code, message = _GOT_NOTHING, "the connection was closed before the answer's head was whole"
        self.clear()
        if code:
            raise TransferError(code, message or "transfer failed", status, headers, body)
        return Response(status, body, headers, retry_after)

    def clear(self) -> None:
        """Forget the request, and set back what `prepare` may have changed."""
        request, curl = self.request, self.curl
        self.chunks.clear()
        if request is None:
            return
        self.request = None
        self.owner = None
        if self.hurried:
            self.hurried = False
            total = request.profile.total_timeout
            curl.setopt(pycurl.TIMEOUT_MS, 0 if total is None else _milliseconds(total))
        if not request.special:
            return
        if (request.headers or request.sink is not None) and request.profile.signer is None:
            # pycurl takes an empty list for "leave it as it is", and this request's headers would go on living.
            if request.profile.headers:
                curl.setopt(pycurl.HTTPHEADER, list(request.profile.headers))
            else:
                curl.unsetopt(pycurl.HTTPHEADER)
        if request.want_headers or request.sink is not None:
            self.lines.clear()
            curl.unsetopt(pycurl.HEADERFUNCTION)
        if request.sink is not None:
            curl.setopt(pycurl.WRITEFUNCTION, self.chunks.append)
        if request.max_bytes is not None:
            curl.setopt(pycurl.MAXFILESIZE_LARGE, _usual_limit(request.profile, request.method))
        if request.body is not None:
            curl.setopt(pycurl.POSTFIELDS, b"")


class Handles:
    """The handles of one process. Idle ones are kept by the profile and the method that they are configured for.

    Parameters
    ----------
    configure
        Called with each new libcurl handle.
    """

    MAX_IDLE = 64  # per profile and method; a handle of the blocking driver keeps its connection

    def __init__(self, configure: Callable[[Any], object] = lambda curl: None) -> None:
        self._configure = configure
        self._made: weakref.WeakSet[Handle] = weakref.WeakSet()

    def take(self, request: Request) -> Handle:
        """An idle handle fit for `request`, or a new one."""
        try:
            handle: Handle = request.profile.idle[self, request.method].pop()
        except (KeyError, IndexError):
            handle = Handle(request.profile, request.method)
            self._made.add(handle)
            self._configure(handle.curl)
        return handle

    def fit(self, request: Request, timeout: float | None) -> Handle:
        """A handle prepared for `request`. Raises `TransferError` where libcurl refuses one of its options."""
        try:
            handle = self.take(request)
            handle.prepare(request, timeout)
            return handle
        except Exception as error:  # pycurl raises all sorts of errors for what it cannot pass on
            refusal = f"libcurl refuses the request: {error}"
        # Outside of the handler: such an error may hold the header or the URL that was refused.
        raise TransferError(43, refusal)

    def give(self, handle: Handle, request: Request) -> None:
        """Take back the handle that carried `request`."""
        idle = request.profile.idle
        key = (self, request.method)
        kept = idle.get(key)
        if kept is None:
            kept = idle.setdefault(key, deque(maxlen=self.MAX_IDLE))
        kept.append(handle)

    def all(self) -> list[Handle]:
        """All handles that there are, idle and busy."""
        return list(self._made)

    def perform(self, request: Request, *, timeout: float | None = None) -> Response:
        """Send `request` and wait for the whole answer.

        Raises
        ------
        TransferError
            No whole answer came.
        """
        # Only the main thread sees Ctrl-C, and only where Python code runs: libcurl calls some now and then.
        interruptible = threading.get_ident() == threading.main_thread().ident
        handle = self.fit(request, timeout)
        try:
            if interruptible:
                handle.curl.setopt(pycurl.XFERINFOFUNCTION, _let_signals_in)
                handle.curl.setopt(pycurl.NOPROGRESS, 0)
            code, message = 0, ""
            try:
                handle.curl.perform()
            except pycurl.error as error:
                code, message = error.args[0], error.args[1] if len(error.args) > 1 else ""
            # Outside of the handler: libcurl's own text may hold a password, which a trace would show as the context.
            response = handle.finish(code, message)
        finally:
            if interruptible:
                handle.curl.setopt(pycurl.NOPROGRESS, 1)
            handle.clear()
            self.give(handle, request)
        return response


def _let_signals_in(*_: int) -> None:
    """Called by libcurl while it waits. What a signal handler raises here ends the transfer, and is raised there."""


def _configured(profile: Profile, method: str) -> Any:
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)  # libcurl must not use SIGALRM: we are in threads
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(profile.connect_timeout * 1000)))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, TRICKLE)
    curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(profile.stall_timeout)))
    if profile.total_timeout is not None:
        curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(profile.total_timeout))
    authorities = profile.ca_bundle or ca_bundle()
    if Path(authorities).is_dir():
        curl.unsetopt(pycurl.CAINFO)  # libcurl's own file would be believed besides
        curl.setopt(pycurl.CAPATH, authorities)
    else:
        curl.setopt(pycurl.CAINFO, authorities)
    # Empty rather than unset: libcurl would read the environment, by other rules than `Proxies`.
    curl.setopt(pycurl.PROXY, profile.proxy or "")
    curl.setopt(pycurl.NOPROXY, "")
    curl.setopt(pycurl.PATH_AS_IS, 1)  # keys are names: `..` in one means nothing
    if profile.headers:
        curl.setopt(pycurl.HTTPHEADER, list(profile.headers))
    curl.setopt(pycurl.MAXFILESIZE_LARGE, _usual_limit(profile, method))
    if method == "HEAD":
        curl.setopt(pycurl.NOBODY, 1)
    elif method != "GET":
        curl.setopt(pycurl.CUSTOMREQUEST, method)
    return curl


def _milliseconds(seconds: float) -> int:
    return max(1, int(min(seconds, _LONGEST_SECONDS) * 1000))


def _usual_limit(profile: Profile, method: str) -> int:
    # libcurl heeds the length that the answer to a HEAD names, too.
    return _with_room(profile.max_bytes or 0) if method == "GET" else 0


def _with_room(limit: int) -> int:
    """The limit for libcurl, which cannot be told a different one for errors; 0: none."""
    return max(limit, ERROR_BYTES) if limit else 0


def _status(lines: list[bytes]) -> int:
    first = next(line for line in reversed(lines) if line.startswith(b"HTTP/"))
    return int(first.split(None, 2)[1])


def _whole_head(lines: list[bytes]) -> bool:
    """Whether the last head has its empty line. Lines may follow: fields after a body in chunks."""
    for line in reversed(lines):
        if line in (b"\r\n", b"\n"):
            return True
        if line.startswith(b"HTTP/"):
            return False
    return False  # nobody has collected them


def _parse(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):  # a new answer (100 Continue, proxy): the last one counts
            headers.clear()
            continue
        name, colon, value = line.partition(b":")
        value = value.strip()
        if colon and not _CONTROL(value):  # what a value may come to stand in, as If-Match, it could break out of
            headers[name.strip().lower().decode("latin-1")] = value.decode("latin-1")
    return headers


class _Process:
    """The handles of this process, made anew in a forked child."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handles: Handles | None = None
        self.abandoned: list[Handle] = []  # never freed: freeing would close the parent's connections

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        if self.handles is not None:
            self.abandoned += self.handles.all()
            self.handles = None


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)


def handles() -> Handles:
    """The handles of this process."""
    found = _process.handles
    if found is None:
        with _process.lock:
            if _process.handles is None:
                _process.handles = Handles()
            found = _process.handles
    return found
