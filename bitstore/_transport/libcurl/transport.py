"""libcurl as a transport: it takes every exchange, in the transfer thread or in the caller's."""

from __future__ import annotations

import logging
import math
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

import pycurl

from bitstore._support import clock
from bitstore._support.once import warn_once
from bitstore._transport.budget import SocketBudget
from bitstore._transport.libcurl.handle import Handle
from bitstore._transport.libcurl.pool import HandlePool, process_pool
from bitstore._transport.poller import Poller
from bitstore._transport.progress import too_slow
from bitstore._transport.transport import Ended, Exchange, Performed
from bitstore.steps import REFUSED, TIMED_OUT, Request, Response, TransferError

__all__ = ["Libcurl"]

logger = logging.getLogger("bitstore")

_WATCH_SECONDS = 0.5


class Libcurl:
    """The transfers of one thread on one multi handle."""

    least: float = 0
    ahead = 0

    def __init__(self, poller: Poller, budget: SocketBudget) -> None:
        self._poller = poller
        self._budget = budget
        # libcurl does not tell when it closes a socket: all that were opened by the present multi handle count.
        self._sockets = budget.share(self._spare)
        self._carried: dict[Any, Exchange] = {}  # by the curl object that is on the multi handle
        self._handles = HandlePool(self._configure)
        self._multi = self._new_multi()
        self._watch_at = 0.0  # when it is next looked for transfers that have stalled
        if not poller.tells:
            poller.sleep = lambda seconds: self._multi.select(seconds)

    def begin(self, exchange: Exchange) -> bool:
        """Take any exchange. Raises `TransferError` where libcurl refuses an option."""
        left = None if exchange.until is None else max(0.001, exchange.until - clock.monotonic())
        handle = self._handles.take(exchange.request, left)
        try:
            self._multi.add_handle(handle.curl)
        except pycurl.error as error:
            raise TransferError(REFUSED, f"libcurl refuses the request: {error}") from None
        exchange.carrier = handle
        self._carried[handle.curl] = exchange
        return True

    def begin_together(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Take none: together they cost as much as one by one."""
        return exchanges

    def abandon(self, exchange: Exchange) -> None:
        """End a transfer, which closes its connection."""
        handle: Handle = exchange.carrier
        del self._carried[handle.curl]
        self._multi.remove_handle(handle.curl)
        handle.clear()
        self._handles.give(handle)

    def patience(self, room: int) -> float:
        """Seconds until libcurl wants to look at its own clocks."""
        wanted: int = self._multi.timeout()  # milliseconds; -1: libcurl has no wish
        return wanted / 1000 if wanted >= 0 else math.inf

    def turn(self, heard: Collection[int], now: float, room: int) -> Iterator[Ended]:
        """Let libcurl look at all its transfers, which it does by itself; the events need no bookkeeping."""
        if not self._carried:
            return
        self._multi.perform()
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            for curl, code, message in [*((curl, 0, "") for curl in succeeded), *failed]:
                exchange = self._carried.pop(curl, None)
                if exchange is not None:  # else it was abandoned just now
                    yield exchange, self._outcome(exchange, code, message)

        if now >= self._watch_at:
            self._watch_at = now + _WATCH_SECONDS
            yield from self._watch(now)

    def _watch(self, now: float) -> Iterator[Ended]:
        """End the transfers that have stalled. libcurl wakes the thread once a second while it carries any."""
        for curl, exchange in list(self._carried.items()):
            moved = int(curl.getinfo(pycurl.SIZE_DOWNLOAD_T) + curl.getinfo(pycurl.SIZE_UPLOAD_T))
            if exchange.carrier.stalled(now, moved) and self._carried.pop(curl, None) is not None:
                yield exchange, self._outcome(exchange, TIMED_OUT, too_slow(exchange.request.profile.stall_timeout))

    def _outcome(self, exchange: Exchange, code: int, message: str) -> Response | TransferError:
        handle: Handle = exchange.carrier
        self._multi.remove_handle(handle.curl)
        try:
            response = handle.finish(code, message)
            if exchange.request.into_memory:
                exchange.peer = handle.peer()
            return response
        except TransferError as error:
            return error
        finally:
            self._handles.give(handle)

    def learn(self, request: Request, address: str, port: int) -> None:
        """Learn nothing: libcurl finds addresses by itself."""

    def _new_multi(self) -> Any:
        self._sockets.taken = 0
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_MAXCONNECTS, self._budget.most)  # connections kept open, in use or idle
        return multi

    def _spare(self) -> None:
        """Close idle connections for the sake of other transports: all of them go with the multi handle."""
        if not self._carried:
            self._multi.close()
            self._multi = self._new_multi()

    def _configure(self, curl: Any) -> None:
        """Have the poller watch the handle's sockets."""
        if self._poller.tells:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)

    def _open_socket(self, purpose: int, address: Any) -> Any:
        family, kind, protocol, _ = address
        try:
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            # pycurl works on a duplicate of the descriptor: the kernel watches what both refer to, and forgets
            # it when libcurl closes its own.
            self._poller.add(made.fileno())
        except OSError as error:  # too many open files: libcurl reports that it cannot connect, and there is a retry
            warn_once(logger, ("no socket", error.errno), "a connection cannot be made: %s", error)
            return pycurl.SOCKET_BAD
        self._sockets.taken += 1
        return made

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed:
        """Send `request` by a handle of this process and wait for the whole answer."""
        # Only the main thread sees Ctrl-C, and only where Python code runs: libcurl calls some now and then. In other
        # threads such calls would cost more than a small blob does, so plain GETs have libcurl's own limits there.
        watched = not request.plain or threading.get_ident() == threading.main_thread().ident
        pool = process_pool()
        handle = pool.take(request, timeout)
        stalled = False

        def watch(_: int, came: int, __: int, went: int) -> bool:
            nonlocal stalled
            stalled = handle.stalled(time.monotonic(), came + went)
            return stalled

        try:
            if watched:
                handle.curl.setopt(pycurl.XFERINFOFUNCTION, watch)
                handle.curl.setopt(pycurl.NOPROGRESS, 0)
            code, message = 0, ""
            try:
                # Python runs signal handlers in `watch`. What one of them raises ends the transfer.
                handle.curl.perform()
            except pycurl.error as error:
                code, message = error.args[0], error.args[1] if len(error.args) > 1 else ""
            raised: BaseException | None = getattr(sys, "last_value", None)
            if code == pycurl.E_ABORTED_BY_CALLBACK and not stalled and raised is not None:
                raise raised  # pycurl passes on KeyboardInterrupt alone: it prints others, which sets `last_value`
            if stalled:
                code, message = TIMED_OUT, too_slow(request.profile.stall_timeout)
            # Outside of the handler: libcurl's own text may hold a password, which a trace would show as the context.
            response = handle.finish(code, message)
            peer = handle.peer() if request.into_memory else None
        finally:
            if watched:
                handle.curl.setopt(pycurl.NOPROGRESS, 1)
                handle.curl.unsetopt(pycurl.XFERINFOFUNCTION)
            handle.clear()
            pool.give(handle)
        return Performed(response, peer)

    @staticmethod
    def reached(request: Request, address: str, port: int) -> None:
        """Learn nothing: libcurl finds addresses by itself."""
