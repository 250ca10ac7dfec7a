"""One kept connection that carries plain GETs, one after another, without ever blocking."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from bitstore._transport.libcurl import TRICKLE
from bitstore._transport.sockets.http1 import Answer, read_head
from bitstore.steps import TIMED_OUT, Request, Response, TransferError

if TYPE_CHECKING:
    import ssl


__all__ = ["Again", "Connection", "Elsewhere", "dial"]

_CUT = 18  # CURLE_PARTIAL_FILE
_NO_ANSWER = 52  # CURLE_GOT_NOTHING
_NOT_RECEIVED = 56  # CURLE_RECV_ERROR

_READINGS = 64  # one after another, of one connection

_CONNECTING, _SECURING, _ASKED, _IDLE, _CLOSED = range(5)


class Again(Exception):
    """A kept connection turned out to be closed before its next answer began: the request is for another one."""


class Elsewhere(Exception):
    """No connection can be made as it was made before: the request is for libcurl, which finds out why."""


def dial(family: int, address: Any) -> socket.socket:
    """A socket that is being connected. Raises OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        refused = made.connect_ex(address)
        if refused not in (0, errno.EINPROGRESS):
            raise OSError(refused, os.strerror(refused))
    except BaseException:
        made.close()
        raise
    return made


class Connection:
    """A connection to an origin that libcurl has reached before.

    Parameters
    ----------
    made
        A socket without blocking that is being connected (`dial`).
    context, server_name
        For TLS on top of it; None: without.

    Attributes
    ----------
    fd
        The socket's number, as the kernel tells its events.
    request, owner
        Of the exchange under way. An idle connection refers to nothing but its socket, so that a profile that
        nobody uses any more is freed, and closes its connections.
    origin
        Where it goes back to after this exchange.
    since
        When it became idle, in seconds on the clock of its user.
    more
        Whether there may be more to hear of which the kernel will not tell again.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_context",
        "_last",
        "_message",
        "_not_yet",
        "_read",
        "_received",
        "_send",
        "_server_name",
        "_socket",
        "_state",
        "_used",
        "_watched",
        "fd",
        "more",
        "origin",
        "owner",
        "request",
        "since",
    )

    def __init__(self, made: socket.socket, context: ssl.SSLContext | None, server_name: str | None) -> None:
        self._take_over(made)
        self._state = _CONNECTING
        self._context = context
        self._server_name = server_name
        self._not_yet: tuple[type[OSError], ...] = (BlockingIOError, InterruptedError)
        self.fd: int = made.fileno()
        self._message = b""
        self._answer: Answer | None = None
        self._last = False
        self._used = False  # it has carried an exchange to its end
        self._received = 0  # bytes, for this request
        self._watched: tuple[float, int] | None = None  # when all was well last, and the bytes by then
        self.origin: Any = None
        self.owner: Any = None
        self.request: Request | None = None
        self.since = 0.0
        self.more = False

    def _take_over(self, made: Any) -> None:
        self._socket = made
        self._read = made.recv_into
        self._send = made.send

    @property
    def open(self) -> bool:
        """Whether it may carry anything."""
        return self._state != _CLOSED

    @property
    def active(self) -> bool:
        """Whether an exchange is under way."""
        return self.owner is not None

    @property
    def idle(self) -> bool:
        """Whether it waits for its next request."""
        return self._state == _IDLE

    def quiet(self) -> bool:
        """Whether this idle connection can carry a request. Closes it if the server has closed it, or says anything.

        The kernel need not have told of that yet, nor tell of it at all: what came together with the last answer
        (an end, or another record of TLS) was told of with that answer.
        """
        self._get_on()
        return self._state == _IDLE

    def begin(self, request: Request, owner: Any, origin: Any, message: bytes) -> None:
        """Send the text of a request, now or once there is a connection. Raises `Again` if this one is closed."""
        self.request = request
        self.owner = owner
        self.origin = origin
        self._message = message
        self._received = 0
        self._watched = None
        if self._state == _IDLE:
            self._ask()

    def _ask(self) -> None:
        message, self._message = self._message, b""
        self._state = _ASKED
        self._watched = None  # the time it took to connect has a limit of its own
        try:
            sent = self._send(message)
        except OSError:
            raise Again if self._used else Elsewhere from None
        if sent != len(message):  # nothing was under way, so there is room for a few hundred bytes, or something is odd
            raise Elsewhere

    def hear(self, buffer: bytearray, view: memoryview) -> Response | None:
        """Take what the kernel has for this socket; returns the answer once it is whole.

        Parameters
        ----------
        buffer, view
            Room for what comes, twice the same memory. Nothing of it is kept.

        Raises
        ------
        TransferError
            There will be no whole answer.
        Again, Elsewhere
            Nothing of an answer has come, and the request may succeed on another way.
        Unclear
            The answer is for libcurl.
        """
        if self._state != _ASKED:
            self._get_on()
            if self._state != _ASKED:
                return None
            # Who answers, or hangs up, before it is asked has been told of by the kernel just now.
        assert self.request is not None
        self.more = False
        # Until there is nothing more: the kernel tells once of what comes, be it bytes or the end of them.
        for _ in range(_READINGS):
            try:
                size: int = self._read(buffer)
            except self._not_yet:
                return None
            except OSError as error:
                raise self._broken(_NOT_RECEIVED, f"receiving failed: {error.strerror or error}") from None
            if not size:
                if self._answer is not None and (response := self._answer.closed()) is not None:
                    return self._done(self._answer, response)
                raise self._broken(_NO_ANSWER if not self._received else _CUT, "the connection was closed too early")
            first = not self._received
            self._received += size
            answer = self._answer
            start = 0
            if first:
                head = None
                end = buffer.find(b"\r\n\r\n", 0, size)
                if end >= 0:
                    head = read_head(bytes(view[: end + 2]), self.request)
                    start = end + 4
                    status, length, self._last, headers, retry_after = head
                    if size - start == length:  # by far the most: a small blob, in one piece
                        return Response(status, bytes(view[start:size]), headers, retry_after)
                answer = self._answer = Answer(self.request, head)
            assert answer is not None
            response = answer.take(bytes(view[start:size]))
            if response is not None:
                return self._done(answer, response)
        self.more = True  # others want to be heard as well, and time limits to be kept
        return None

    def _done(self, answer: Answer, response: Response) -> Response:
        self._last = answer.last
        self._answer = None
        return response

    def _get_on(self) -> None:
        """Go on with a connection that carries no request yet, or none any more."""
        if self._state == _CONNECTING:
            refused = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if refused:
                raise Elsewhere
            try:
                self._socket.getpeername()
            except OSError:
                return  # not yet
            if self._context is None:
                self._ask()
                return
            self._secure(self._context)
        if self._state == _SECURING:
            try:
                self._socket.do_handshake()
            except self._not_yet:
                return
            except (OSError, ValueError):
                raise Elsewhere from None
            self._ask()
        elif self._state == _IDLE:
            try:
                self._read(bytearray(1))
            except self._not_yet:
                return  # the kernel tells of the last answer once more
            except OSError:
                pass
            self.close()  # the server has closed it, or sends what nobody asked for

    def _secure(self, context: ssl.SSLContext) -> None:
        import ssl

        self._not_yet = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        try:
            self._take_over(
                context.wrap_socket(
                    self._socket,
                    server_hostname=self._server_name,
                    do_handshake_on_connect=False,
                    # Without a goodbye anybody on the way may have cut what goes until the end of the connection.
                    suppress_ragged_eofs=False,
                )
            )
        except (OSError, ValueError):
            raise Elsewhere from None
        self._state = _SECURING

    def _broken(self, code: int, message: str) -> Exception:
        if self._used and not self._received:
            return Again()
        if self._answer is None:
            return TransferError(code, message)
        return self._answer.cut(code, message)

    def watch(self, now: float) -> None:
        """Look after the exchange under way, about once a second. Raises `Elsewhere` or `TransferError`."""
        if self._watched is None:
            self._watched = now, 0
            return
        assert self.request is not None
        since, received = self._watched
        profile = self.request.profile
        if self._state == _ASKED:
            if self._received - received >= TRICKLE * max(1.0, now - since):
                self._watched = now, self._received
            elif now - since >= profile.stall_timeout:
                message = f"too slow: less than {TRICKLE} bytes a second for {profile.stall_timeout:g} seconds"
                raise self._answer.cut(TIMED_OUT, message) if self._answer else TransferError(TIMED_OUT, message)
        elif now - since >= profile.connect_timeout:
            raise Elsewhere

    def rest(self, now: float) -> bool:
        """Forget the exchange, which has ended well. False: the connection cannot carry another one."""
        self.request = self.owner = self.origin = None
        self._used = True
        if self._last or (self._context is not None and self._socket.pending()):
            self.close()
            return False
        self._state = _IDLE
        self.since = now
        return True

    def close(self) -> None:
        """Close the socket, whatever is under way."""
        self._state = _CLOSED
        self.more = False
        self._answer = None
        self.request = self.owner = self.origin = None
        self._socket.close()

    def __del__(self) -> None:
        self._socket.close()
