"""Idle libcurl handles, kept for the next request of the same profile and method."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from bitstore._support.per_process import PerProcess
from bitstore._transport.libcurl.handle import Handle
from bitstore.steps import REFUSED, Profile, Request, TransferError

__all__ = ["HandlePool", "process_pool"]


class HandlePool:
    """The handles of one user: all blocking calls of a process, or one transfer thread.

    Parameters
    ----------
    configure
        Called with each new libcurl handle.
    """

    MAX_IDLE = 64  # per profile and method; an idle handle of the blocking driver keeps its connection

    def __init__(self, configure: Callable[[Any], object] = lambda curl: None) -> None:
        self._configure = configure
        # By profile and method. A profile that nothing uses any more takes its handles, and their connections, along.
        self._idle: WeakKeyDictionary[Profile, dict[str, deque[Handle]]] = WeakKeyDictionary()

    def take(self, request: Request, timeout: float | None) -> Handle:
        """A handle prepared for `request`. Raises `TransferError` where libcurl refuses one of its options.

        Parameters
        ----------
        timeout
            Seconds for the whole exchange; None: the limits of the request's profile alone.
        """
        try:
            handle = self._kept(request) or self._new(request)
            handle.prepare(request, timeout)
            return handle
        except Exception as error:  # pycurl raises all sorts of errors for what it cannot pass on
            refusal = f"libcurl refuses the request: {error}"
        # Outside of the handler: such an error may hold the header or the URL that was refused.
        raise TransferError(REFUSED, refusal)

    def _kept(self, request: Request) -> Handle | None:
        idle = self._idle.get(request.profile)
        try:
            return None if idle is None else idle[request.method].pop()
        except (KeyError, IndexError):
            return None

    def _new(self, request: Request) -> Handle:
        handle = Handle(request.profile, request.method)
        self._configure(handle.curl)
        return handle

    def give(self, handle: Handle, request: Request) -> None:
        """Take back the handle that carried `request`."""
        idle = self._idle.get(request.profile)
        if idle is None:
            idle = self._idle.setdefault(request.profile, {})
        kept = idle.get(request.method)
        if kept is None:
            kept = idle.setdefault(request.method, deque(maxlen=self.MAX_IDLE))
        kept.append(handle)


_pools: PerProcess[HandlePool] = PerProcess()


def process_pool() -> HandlePool:
    """The handles of this process's blocking calls."""
    pool = _pools.get()
    return _pools.set_once(HandlePool()) if pool is None else pool
