"""One kept connection that carries plain GETs, one after another, without ever blocking."""

from __future__ import annotations

from typing import Any

from bitstore._transport.progress import Progress, too_slow
from bitstore._transport.sockets.channel import Channel, Unreachable
from bitstore._transport.sockets.http1 import Answer, read_head
from bitstore._transport.transport import Exchange
from bitstore.steps import TIMED_OUT, Response, TransferError

__all__ = ["Connection", "Stale"]

_CUT = 18  # CURLE_PARTIAL_FILE
_NO_ANSWER = 52  # CURLE_GOT_NOTHING
_NOT_RECEIVED = 56  # CURLE_RECV_ERROR

_READINGS = 64  # one after another, of one connection

_CONNECTING, _ASKED, _IDLE, _CLOSED = range(4)


class Stale(Exception):
    """A kept connection turned out to be closed before its next answer began: the request is for another one."""


class Connection:
    """A connection to an origin that libcurl has reached before.

    An idle connection refers to nothing but its socket, so that a profile that nothing uses any more is freed, and
    closes its connections.
    """

    def __init__(self, channel: Channel) -> None:
        self.fd = channel.fd  # the socket's number, by which the kernel reports its events
        self.exchange: Exchange | None = None  # under way
        self.origin: Any = None  # where the connection goes back to after this exchange
        self.since = 0.0  # when it became idle, in seconds on the clock of its user
        self.more = False  # whether there may be more to hear that the kernel will not report again
        self._channel = channel
        self._state = _CONNECTING
        self._message = b""  # the request, until it is sent
        self._answer: Answer | None = None  # while it is incomplete
        self._last = False  # whether the connection is of no use after this answer
        self._used = False  # whether it has carried an exchange to its end
        self._received = 0  # bytes, for this request
        self._progress: Progress | None = None  # since the connection was made; None: `watch` has yet to be called
        self._dialled: float | None = None  # when `watch` was first called, while there is no connection
        self._read = channel.read
        self._not_yet = channel.not_yet

    @property
    def open(self) -> bool:
        """Whether it may carry anything."""
        return self._state != _CLOSED

    def quiet(self) -> bool:
        """Whether this idle connection can carry a request. Closes it if the server has closed it, or says anything.

        The kernel may not have reported that, and may never: what came together with the last answer (an end, or
        another record of TLS) was reported with that answer.
        """
        if self._state != _IDLE:
            return False
        try:
            self._read(bytearray(1))
        except self._not_yet:
            return True
        except OSError:
            pass
        self.close()  # the server has closed it, or sends what nothing asked for
        return False

    def begin(self, exchange: Exchange, origin: Any, message: bytes) -> None:
        """Send the text of a request, now or once there is a connection. Raises `Stale` if this one is closed."""
        self.exchange = exchange
        self.origin = origin
        self._message = message
        self._received = 0
        self._progress = None
        if self._state == _IDLE:
            self._ask()

    def _ask(self) -> None:
        message, self._message = self._message, b""
        self._state = _ASKED
        try:
            sent = self._channel.send(message)
        except OSError:
            raise Stale if self._used else Unreachable from None
        if sent != len(message):  # nothing was under way, so there is room for a few hundred bytes, or something is odd
            raise Unreachable

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
        Stale, Unreachable
            Nothing of an answer has come, and the request may succeed on another way.
        Unclear
            The answer is for libcurl.
        """
        if self._state != _ASKED:
            self._get_on()
            if self._state != _ASKED:
                return None
            # An answer, or an end, that came before the question was reported by the kernel just now.
        assert self.exchange is not None
        request = self.exchange.request
        self.more = False
        # Until there is nothing more: the kernel reports once what comes, be it bytes or the end of them.
        for _ in range(_READINGS):
            try:
                size = self._read(buffer)
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
                    head = read_head(bytes(view[: end + 2]), request)
                    start = end + 4
                    status, length, self._last, headers, retry_after = head
                    if size - start == length:  # by far the most: a small blob, in one piece
                        return Response(status, bytes(view[start:size]), headers, retry_after)
                answer = self._answer = Answer(request, head)
            assert answer is not None
            response = answer.take(bytes(view[start:size]))
            if response is not None:
                return self._done(answer, response)
        self.more = True  # other connections want to be heard as well, and time limits to be kept
        return None

    def _done(self, answer: Answer, response: Response) -> Response:
        self._last = answer.last
        self._answer = None
        return response

    def _get_on(self) -> None:
        """Get on with a connection that carries no request yet, or none any more."""
        if self._state == _CONNECTING:
            if self._channel.ready():
                self._read, self._not_yet = self._channel.read, self._channel.not_yet
                self._ask()
        else:
            self.quiet()  # the kernel may report the last answer once more

    def _broken(self, code: int, message: str) -> Exception:
        if self._used and not self._received:
            return Stale()
        if self._answer is None:
            return TransferError(code, message)
        return self._answer.cut(code, message)

    def watch(self, now: float) -> None:
        """Check the time limits of the exchange under way, about once a second.

        Raises
        ------
        Unreachable
            There is no connection within the profile's limit.
        TransferError
            Too few bytes have come.
        """
        assert self.exchange is not None
        profile = self.exchange.request.profile
        if self._state != _ASKED:
            self._dialled = now if self._dialled is None else self._dialled
            if now - self._dialled >= profile.connect_timeout:
                raise Unreachable
        elif self._progress is None:
            self._progress = Progress(now, 0)
        elif self._progress.stalled(now, self._received, profile.stall_timeout):
            message = too_slow(profile.stall_timeout)
            raise self._answer.cut(TIMED_OUT, message) if self._answer else TransferError(TIMED_OUT, message)

    def rest(self, now: float) -> bool:
        """Forget the exchange, which has ended well. False: the connection cannot carry another one."""
        self.exchange = self.origin = None
        self._used = True
        if self._last or (self._channel.secure and self._channel.pending()):
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
        self.exchange = self.origin = None
        self._channel.close()
