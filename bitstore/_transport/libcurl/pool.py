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
            idle = self._idle_of(request)
            try:
                handle = idle.pop()
            except IndexError:  # no look before: another thread may take the last one in between
                handle = self._new(request)
            handle.prepare(request, timeout)
        except Exception as error:  # pycurl raises all sorts of errors for what it cannot pass on
            refusal = f"libcurl refuses the request: {error}"
        else:
            handle.home = idle
            return handle
        # Outside of the handler: such an error may hold the header or the URL that was refused.
        raise TransferError(REFUSED, refusal)

    def _idle_of(self, request: Request) -> deque[Handle]:
        by_method = self._idle.get(request.profile)
        if by_method is None:
            by_method = self._idle.setdefault(request.profile, {})
        idle = by_method.get(request.method)
        return by_method.setdefault(request.method, deque(maxlen=self.MAX_IDLE)) if idle is None else idle

    def _new(self, request: Request) -> Handle:
        handle = Handle(request.profile, request.method)
        self._configure(handle.curl)
        return handle

    @staticmethod
    def give(handle: Handle) -> None:
        """Take back a handle whose transfer has ended."""
        home, handle.home = handle.home, None
        if home is not None:
            home.append(handle)


_pools: PerProcess[HandlePool] = PerProcess()


def process_pool() -> HandlePool:
    """The handles of this process's blocking calls."""
    pool = _pools.get()
    return _pools.set_once(HandlePool()) if pool is None else pool
