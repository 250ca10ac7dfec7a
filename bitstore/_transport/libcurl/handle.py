"""One libcurl handle: what a request sets on it, how its answer is read, and how both are undone."""

from __future__ import annotations

from collections import deque
from urllib.parse import quote
from weakref import WeakSet

import pycurl

from bitstore._support.per_process import hold_after_fork
from bitstore._transport.libcurl.heads import fields, has_whole_head, last_status
from bitstore._transport.libcurl.options import configured, milliseconds, usual_limit, with_room
from bitstore._transport.progress import Progress
from bitstore._transport.proxies import Proxies
from bitstore.steps import (
    ERROR_BYTES,
    NO_HEADERS,
    PRINTABLE,
    TOO_LARGE,
    BodyReader,
    FileBody,
    Profile,
    Request,
    Response,
    TransferError,
)

__all__ = ["Handle"]

_URL, _HTTPHEADER, _RESPONSE_CODE = pycurl.URL, pycurl.HTTPHEADER, pycurl.RESPONSE_CODE  # used with each blob
_PROXY_REFUSES = 97  # CURLE_PROXY
_GOT_NOTHING = 52  # CURLE_GOT_NOTHING
_WRITE_ERROR = 23  # CURLE_WRITE_ERROR: a callback of ours did not take what came


class Handle:
    """One easy handle and the buffers of the transfer it carries.

    An idle handle refers to no profile: so a profile that nothing uses any more is freed at once, and with it its idle
    handles and their connections.
    """

    def __init__(self, profile: Profile, method: str) -> None:
        self.chunks: list[bytes] = []  # of the body, unless the request's sink takes it
        self.lines: list[bytes] = []  # of all heads, where they are collected
        self.request: Request | None = None  # None: idle
        self.home: deque[Handle] | None = None  # where it goes back to; None: it is there, or on its way
        self.hurried = False  # whether this request has a time limit of its own
        self.streams: bool | None = None  # whether the body goes to the request's sink; None: no byte of it has come
        self.reader: BodyReader | None = None  # of the body, where that is a file's
        self.progress: Progress | None = None  # of this request; None: no byte of a body has been seen to move
        # Choose the proxy of each request; None: it is the same for all.
        self.proxies = None if profile.proxy is not None else Proxies() or None
        self.curl = configured(profile, method)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.chunks.append)
        _made.add(self)

    def prepare(self, request: Request, timeout: float | None) -> None:
        """Set what differs from request to request; `timeout` in seconds bounds the whole exchange."""
        curl = self.curl
        profile = request.profile
        self.request = request
        curl.setopt(_URL, request.url)
        if self.proxies is not None:
            curl.setopt(pycurl.PROXY, self.proxies.of(request.url))
        if not request.plain:
            self._prepare_rest(request)
        elif profile.signer is not None:
            curl.setopt(_HTTPHEADER, profile.signer.lines("GET", request.url, ()))
        if timeout is not None:
            usual = profile.total_timeout
            curl.setopt(pycurl.TIMEOUT_MS, milliseconds(timeout if usual is None else min(timeout, usual)))
            self.hurried = True

    def _prepare_rest(self, request: Request) -> None:
        curl, profile = self.curl, request.profile
        headers = request.headers if request.sink is None else (*request.headers, *request.sink.headers())
        if profile.signer is not None:
            curl.setopt(pycurl.HTTPHEADER, profile.signer.lines(request.method, request.url, headers))
        elif headers:
            curl.setopt(pycurl.HTTPHEADER, [*profile.headers, *headers])
        if isinstance(request.body, FileBody):
            self.reader = request.body.open()
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, len(request.body))
            curl.setopt(pycurl.READFUNCTION, self._read)
            curl.setopt(pycurl.SEEKFUNCTION, self._seek)  # when a kept connection has died
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        elif request.body is not None:
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
            limit = request.max_bytes if request.sink is not None else with_room(request.max_bytes)
            curl.setopt(pycurl.MAXFILESIZE_LARGE, limit)

    def _read(self, most: int) -> bytes | int:
        try:
            return b"" if self.reader is None else self.reader.read(most)
        except OSError:  # in a callback of libcurl, which an exception would not leave
            return pycurl.READFUNC_ABORT  # type: ignore[no-any-return]

    def _seek(self, offset: int, origin: int) -> int:
        """Go back to the first byte of a body that is sent again. Another place cannot be had."""
        if self.reader is None or offset or origin:
            return pycurl.SEEKFUNC_CANTSEEK  # type: ignore[no-any-return]
        self.reader.rewind()
        return pycurl.SEEKFUNC_OK  # type: ignore[no-any-return]

    def _stream(self, chunk: bytes) -> int | None:
        """Pass the body on, unless it is that of an error. Returning a wrong length ends the transfer (code 23)."""
        assert self.request is not None and self.request.sink is not None
        sink = self.request.sink
        if self.streams is None:
            # libcurl cannot be asked for the status while it is at work.
            status = last_status(self.lines)
            self.streams = status in (200, 206)
            if self.streams and not sink.begin(status, fields(self.lines)):
                return 0
        if not self.streams:
            self.chunks.append(chunk)
            return None if sum(map(len, self.chunks)) <= ERROR_BYTES else 0
        return None if sink.write(chunk) else 0

    def stalled(self, now: float, moved: int) -> bool:
        """Whether too few bytes of bodies move. Before the first of them libcurl's own limits hold.

        Parameters
        ----------
        now
            Seconds on `time.monotonic()`.
        moved
            Bytes of bodies that have come or gone.
        """
        if self.progress is None:
            self.progress = Progress(now, moved) if moved else None
            return False
        assert self.request is not None
        return self.progress.stalled(now, moved, self.request.profile.stall_timeout)

    def finish(self, code: int, message: str) -> Response:
        """The answer, after libcurl has ended the transfer with `code`. Raises `TransferError` unless it is whole."""
        request, chunks, curl = self.request, self.chunks, self.curl
        assert request is not None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        status: int = curl.getinfo(_RESPONSE_CODE)
        headers = fields(self.lines) if self.lines else NO_HEADERS
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
            elif not body and curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) < 0 and not has_whole_head(self.lines):
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
        self.request = self.progress = None
        if self.hurried:
            self.hurried = False
            total = request.profile.total_timeout
            curl.setopt(pycurl.TIMEOUT_MS, 0 if total is None else milliseconds(total))
        if request.plain:
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
            curl.setopt(pycurl.MAXFILESIZE_LARGE, usual_limit(request.profile, request.method))
        if self.reader is not None:
            self.reader.close()
            self.reader = None
            curl.setopt(pycurl.UPLOAD, 0)
        elif request.body is not None:
            curl.setopt(pycurl.POSTFIELDS, b"")

    def peer(self) -> tuple[str, int] | None:
        """Address and port of the server, or of the proxy, that answered last."""
        address: str = self.curl.getinfo(pycurl.PRIMARY_IP)
        return (address, self.curl.getinfo(pycurl.PRIMARY_PORT)) if address else None


# A forked child never frees its parent's handles: that would send a TLS goodbye on connections that the parent uses.
_made: WeakSet[Handle] = WeakSet()
hold_after_fork(lambda: list(_made))
