"""Reads of parts that lie near each other in one object, put together into one request."""

from __future__ import annotations

import copy
import threading
from typing import Any

from bitstore._lookup.asking import steps_of_range
from bitstore._lookup.event import Event
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Sleep, Steps, Together, Wait

__all__ = ["Gather"]

_MOST = 8 * 1024 * 1024  # bytes of one request for several parts


class _Want(Event):
    """A part that a lookup waits for; without data and error once it has landed: the read was given up."""

    __slots__ = ("data", "end", "error", "start")

    def __init__(self, start: int, end: int) -> None:
        super().__init__()
        self.start = start
        self.end = end
        self.data: bytes | None = None
        self.error: Exception | None = None

    def land(self) -> None:
        self.landed = True
        self._drain()


class Gather:
    """The parts that lookups of one process wait for, by object.

    The first lookup that wants a part of an object lets those that begin at the same time say theirs, and then reads
    for all of them.

    Parameters
    ----------
    gap
        The most bytes between two parts that are read along with them, to save a request.
    """

    def __init__(self, gap: int) -> None:
        self.gap = gap
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, str], list[_Want]] = {}

    def read(self, store: Any, url: str, start: int, end: int) -> Steps[bytes]:
        """The bytes from `start` up to `end` of the object at `url`. Raises what the store raises.

        Raises
        ------
        StoreNotAvailable
            The object ends before `end`.
        """
        key = (id(store), url)
        while True:
            want = _Want(start, end)
            with self._lock:
                group = self._waiting.get(key)
                leads = group is None
                if group is None:
                    self._waiting[key] = group = []
                group.append(want)
            if leads:
                yield from self._lead(store, key)
            else:
                yield Wait(want)
            if want.data is not None:
                return want.data
            if want.error is not None:
                raise _own(want.error)

    def _lead(self, store: Any, key: tuple[int, str]) -> Steps[None]:
        group: list[_Want] = []
        try:
            yield Sleep(0.0)
            with self._lock:
                group = self._waiting.pop(key)
            spans = self._spans(group)
            if len(spans) == 1:
                yield from _read_span(store, key[1], spans[0])
            else:
                yield Together([_read_span(store, key[1], span) for span in spans])
        finally:
            # Those that still wait, where this lookup was given up, read for themselves.
            if not group:
                with self._lock:
                    group = self._waiting.pop(key, [])
            for want in group:
                if not want.landed:
                    want.land()

    def _spans(self, wants: list[_Want]) -> list[list[_Want]]:
        """The parts in order, in groups that one request reads each."""
        wants.sort(key=lambda want: want.start)
        spans: list[list[_Want]] = []
        start = end = -1
        for want in wants:
            if spans and want.start <= end + self.gap and max(end, want.end) - start <= max(_MOST, end - start):
                spans[-1].append(want)
                end = max(end, want.end)
            else:
                spans.append([want])
                start, end = want.start, want.end
        return spans


def _read_span(store: Any, url: str, wants: list[_Want]) -> Steps[None]:
    start, end = wants[0].start, max(want.end for want in wants)
    try:
        data = (yield from steps_of_range(store, url, start, end)) if end > start else b""
    except Exception as error:  # of any kind: it is the answer to each of the lookups that wait
        for want in wants:
            want.error = error
            want.land()
        return
    whole = len(wants) == 1 and len(data) == end - start
    for want in wants:
        part = data if whole else data[want.start - start : want.end - start]
        if len(part) == want.end - want.start:
            want.data = part
        else:
            want.error = _cut(store, url, start + len(data), want)
        want.land()


def _cut(store: Any, url: str, end: int, want: _Want) -> StoreNotAvailable:
    from bitstore._support.redact import redact_url

    failure = StoreNotAvailable(store, f"{redact_url(url)} ends at byte {end}, before byte {want.end}")
    failure.definite = True
    return failure


def _own(error: Exception) -> Exception:
    """A copy of `error`, as raising one object in several lookups would mix up their tracebacks."""
    try:
        mine = copy.copy(error)
    except Exception:  # an exception of a user's store with an odd constructor: then the shared one must do
        return error
    mine.__cause__ = error.__cause__
    return mine
