"""The HTTP exchanges of one transfer thread: over connections of our own, or by libcurl."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import pycurl

from bitstore._transport.libcurl import Handle, Handles
from bitstore._transport.pace import Pace
from bitstore._transport.poller import Poller
from bitstore._transport.sockets.connection import Again, Connection, Elsewhere
from bitstore._transport.sockets.http1 import Unclear
from bitstore._transport.sockets.pool import WATCH_SECONDS, Direct
from bitstore.steps import Request, Response, TransferError

__all__ = ["FEW", "Exchanges"]

# Up to so many under way libcurl costs as much CPU as connections of our own, or less. But a bare libcurl loop that
# needs 36 us a blob with 32 under way needs 62 with 512 (benchmarks/results/data-plane.md, `headline`, `latency`).
FEW = 64


class Owner(Protocol):
    """Whoever asked for an exchange. `ticket` has changed when it no longer waits for it."""

    carrier: Any
    finished: bool
    ticket: int
    until: float | None


class Exchanges:
    """As many exchanges at once as the pace allows; more wait in order. Only the transfer thread calls this.

    Parameters
    ----------
    pace
        Says how many may be under way.
    poller
        Told of all sockets.
    answered
        Called with an owner and the `Response` to what it asked for.
    failed
        Called with an owner and the error that it got instead.
    """

    def __init__(
        self,
        pace: Pace,
        poller: Poller,
        answered: Callable[[Any, Response], None],
        failed: Callable[[Any, Exception], None],
    ) -> None:
        self._pace = pace
        self._poller = poller
        self._answered = answered
        self._failed = failed
        self._waiting: deque[tuple[Owner, int, Request]] = deque()
        self._carried: dict[Any, Handle] = {}  # by the curl object that is on the multi handle
        self.handles = Handles(poller.configure)
        self._multi = self._new_multi()
        self._direct = Direct(poller) if poller.tells else None

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._carried) + (0 if self._direct is None else self._direct.active)

    def begin(self, task: Owner, request: Request) -> None:
        """Carry `request` for `task`, now or when there is room."""
        if len(self) < self._pace.limit:
            self._begin(task, request)
        else:
            self._waiting.append((task, task.ticket, request))

    def clear(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()

    def abandon(self, task: Owner) -> None:
        """End the exchange of `task`, if it has one under way, and its connection."""
        carrier, task.carrier = task.carrier, None
        if isinstance(carrier, Connection):
            assert self._direct is not None
            self._direct.drop(carrier)
            self._begin_waiting()
        elif carrier is not None:
            del self._carried[carrier.curl]
            self._multi.remove_handle(carrier.curl)
            request = carrier.request
            assert request is not None
            carrier.clear()
            self._release(carrier, request)

    def perform(self) -> None:
        """Let libcurl work, and look after the connections of our own that may hang."""
        if self._carried:
            self._multi.perform()
            self._collect()
        if self._direct is not None:
            # Also of those that have become idle since libcurl opened its own.
            self._direct.trim(self._pace.most - self._poller.opened)
            for connection in self._direct.due():
                try:
                    connection.watch(self._direct.now)
                except (Elsewhere, TransferError) as error:
                    self._end_badly(self._direct, connection, error)

    def listen(self, seconds: float) -> None:
        """Sleep until there is something to hear, and hear what connections of our own say."""
        direct = self._direct
        if direct is None:
            self._poller.wait(self._multi, seconds)
            return
        unheard, direct.unheard = direct.unheard, []
        if unheard:
            seconds = 0.0
        elif direct.active:
            seconds = min(seconds, WATCH_SECONDS)
        connections = direct.connections
        events = self._poller.wait(self._multi, seconds)
        direct.now = time.monotonic()
        for fd, _ in events:
            if fd in connections:
                self._hear(direct, connections[fd])
        for connection in unheard:
            if connection.more and connection not in direct.unheard:  # else it has just been heard
                self._hear(direct, connection)

    def _begin(self, task: Owner, request: Request, *, anew: bool = False) -> None:
        if self._direct is not None and not request.special and self._pace.limit > FEW:
            if not self._carried and self._poller.opened > self._pace.most // 2:
                self._multi.close()  # and with it the connections that libcurl has kept
                self._multi = self._new_multi()
            task.carrier = self._direct.begin(request, task, self._pace.most - self._poller.opened, anew=anew)
        if task.carrier is None:
            self._begin_with_libcurl(task, request)

    def _begin_waiting(self) -> None:
        if not self._waiting:
            return
        while self._waiting and len(self) < self._pace.limit:
            task, ticket, request = self._waiting.popleft()
            if not task.finished and task.ticket == ticket:
                self._begin(task, request)

    def _succeeded(self, response: Response) -> None:
        self._pace.ended(len(response.body), bool(self._waiting))
        if response.status in (429, 503):
            self._pace.slow_down()

    # By libcurl

    def _new_multi(self) -> Any:
        self._poller.opened = 0
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_MAXCONNECTS, self._pace.most)  # kept open, under way or idle
        return multi

    def _begin_with_libcurl(self, task: Owner, request: Request) -> None:
        left = None if task.until is None else max(0.001, task.until - time.monotonic())
        try:
            handle = self.handles.fit(request, left)
            self._multi.add_handle(handle.curl)
        except (TransferError, pycurl.error) as error:  # this task's trouble, nobody else's
            self._failed(task, error)
            return
        handle.owner = task
        task.carrier = handle
        self._carried[handle.curl] = handle

    def _collect(self) -> None:
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._end(curl, 0, "")
            for curl, code, message in failed:
                self._end(curl, code, message)

    def _end(self, curl: Any, code: int, message: str) -> None:
        handle = self._carried.pop(curl)
        self._multi.remove_handle(curl)
        task: Owner = handle.owner
        task.carrier = None
        request = handle.request
        assert request is not None
        try:
            response = handle.finish(code, message)
        except TransferError as error:
            self._release(handle, request)
            self._failed(task, error)
        else:
            if self._direct is not None and not request.special:
                self._direct.reached(request, curl.getinfo(pycurl.PRIMARY_IP), curl.getinfo(pycurl.PRIMARY_PORT))
            self._succeeded(response)
            self._release(handle, request)
            self._answered(task, response)

    def _release(self, handle: Handle, request: Request) -> None:
        self.handles.give(handle, request)
        self._begin_waiting()

    # Over connections of our own

    def _hear(self, direct: Direct, connection: Connection) -> None:
        try:
            response = connection.hear(direct.buffer, direct.view)
        except (Again, Elsewhere, Unclear, TransferError) as error:
            self._end_badly(direct, connection, error)
            return
        if response is None:
            if connection.more:
                direct.unheard.append(connection)
            elif not connection.open:
                direct.forget(connection)
            return
        task: Owner = connection.owner
        task.carrier = None
        direct.rest(connection)
        self._succeeded(response)
        self._begin_waiting()
        self._answered(task, response)

    def _end_badly(self, direct: Direct, connection: Connection, error: Exception) -> None:
        task, request = connection.owner, connection.request
        assert request is not None
        task.carrier = None
        direct.drop(connection, error)
        if isinstance(error, TransferError):
            self._begin_waiting()
            self._failed(task, error)
        else:
            # After `Again` by a new connection: if it is this request that the server hangs up at, it would do so at
            # all kept ones, and be asked as often. For anything else the origin is barred now.
            self._begin(task, request, anew=True)
