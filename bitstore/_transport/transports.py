"""Which transports there are, in the order in which they are asked. Another one is another entry of the tuple."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bitstore._transport.budget import SocketBudget
from bitstore._transport.libcurl.transport import Libcurl
from bitstore._transport.native.choice import chosen
from bitstore._transport.poller import Poller
from bitstore._transport.sockets.transport import Sockets
from bitstore._transport.transport import Transport
from bitstore.steps import REFUSED, TIMED_OUT, Request, Response, TransferError

if TYPE_CHECKING:
    from bitstore._transport.native.transport import Native

__all__ = ["kinds", "new_transports", "perform"]

_KINDS: tuple[type[Native | Sockets | Libcurl], ...] = ()  # filled at the first request of this process


def kinds() -> tuple[type[Native | Sockets | Libcurl], ...]:
    """The classes of the transports, in the order in which they are asked.

    Raises
    ------
    ImportError
        The native transport is asked for, and cannot be used.
    """
    global _KINDS
    if not _KINDS:
        if chosen():
            from bitstore._transport.native.transport import Native

            _KINDS = (Native, Libcurl)
        else:
            _KINDS = (Sockets, Libcurl)
    return _KINDS


def new_transports(poller: Poller, budget: SocketBudget) -> list[Transport]:
    """The transports of one transfer thread."""
    return [kind(poller, budget) for kind in kinds()]


def perform(request: Request, timeout: float | None = None) -> Response:
    """Carry a request in the calling thread, by the first transport that takes it.

    Raises
    ------
    TransferError
        No whole answer came within `timeout` seconds, or within the limits of the request's profile.
    """
    until = None if timeout is None else time.monotonic() + timeout
    left = timeout
    for kind in _KINDS or kinds():
        performed = kind.perform(request, left)
        if performed is None:
            if until is not None and (left := until - time.monotonic()) <= 0:
                raise TransferError(TIMED_OUT, f"no answer within {timeout:g} seconds")
            continue
        if performed.peer is not None:
            for other in _KINDS:
                if other is not kind:
                    other.reached(request, *performed.peer)
        return performed.response
    raise TransferError(REFUSED, "no transport can carry this request")
