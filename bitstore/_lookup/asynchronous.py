"""Lookups that asyncio awaits: the transfer thread performs them, without a thread for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

from bitstore._lookup.asking import Errors, canonical_of, steps_of_get
from bitstore._lookup.batch import check_errors, passes
from bitstore._lookup.download import steps_of_file
from bitstore._lookup.loops import loop
from bitstore._lookup.options import LookupOptions, check_timeout
from bitstore._lookup.task import Task
from bitstore._lookup.window import Window, error_for_caller
from bitstore.blob import Blob
from bitstore.steps import Found, Steps

__all__ = ["download", "get", "get_many"]


async def get(store: Any, uri: Any, *, timeout: float | None) -> Any:
    """The bytes of `uri`, as `Store.aget` returns them."""
    check_timeout(timeout)
    canonical_of(store)(uri)
    found: Found = await _performed(store, steps_of_get(store, uri), timeout)
    return found.data


async def download(store: Any, uri: Any, path: str | os.PathLike[str], *, timeout: float | None, verify: bool) -> str:
    """Write one blob to the file `path`, as `Store.adownload` does."""
    check_timeout(timeout)
    source: str = await _performed(store, steps_of_file(store, uri, path, verify), timeout)
    return source


def get_many(
    store: Any, uris: Iterable[Any], options: LookupOptions, *, ordered: bool, errors: Errors
) -> AsyncIterator[Blob]:
    """The answers of `Store.aget_many`. Options that make no sense raise at once, not at the first answer."""
    check_errors(errors)
    if hasattr(uris, "__aiter__"):
        raise TypeError("expected an iterable of URIs, got an asynchronous one: read it first, in parts if it is long")
    return _answers(Window(store, uris, options), ordered, errors)


async def _answers(window: Window, ordered: bool, errors: Errors) -> AsyncIterator[Blob]:
    events = asyncio.get_running_loop()
    arrival = asyncio.Event()
    window.on_arrival = lambda: _call_soon(events, arrival.set)
    try:
        for blob in window.answers(ordered):
            if blob is None:
                window.arrived = await _taken(window, arrival)
            elif passes(blob, errors):
                yield blob
    finally:  # also when the consumer stops early, or is cancelled
        window.close(wait=False)


async def _taken(window: Window, arrival: asyncio.Event) -> Any:
    while True:
        arrival.clear()  # before the look: an entry that comes after it sets the event again
        with contextlib.suppress(queue.Empty):
            return window.queue.get_nowait()
        await arrival.wait()


async def _performed(store: Any, steps: Steps[Any], timeout: float | None) -> Any:
    """What `steps` return, performed by the transfer thread. A cancelled task of asyncio gives them up."""
    landing = _landing()
    task = landing.begin(steps, timeout)
    try:
        await task.landed
    except BaseException:  # cancelled, or closed: nothing waits for the answer any longer
        landing.give_up(task)
        raise
    error, task.error = task.error, None
    if error is None:
        return task.result
    try:
        raise error_for_caller(error, store, timeout)
    finally:
        del error  # it refers to this frame, which must not refer to it: such a cycle would keep a blob in memory


class _Awaited(Task):
    """A lookup that a task of asyncio awaits."""

    __slots__ = ("landed",)

    landed: asyncio.Future[None]  # done when the lookup has ended, however it did


class _Landing:
    """The way of lookups out of one event loop to the transfer thread, and back.

    Either way those of one round go together: to wake a thread costs more than a small blob.
    """

    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self.events = events
        self._begun: dict[_Awaited, None] = {}  # to be submitted at the end of this round of the event loop

    def begin(self, steps: Steps[Any], timeout: float | None) -> _Awaited:
        task = _Awaited(steps, self._deliver, timeout)
        task.landed = self.events.create_future()
        if not self._begun:
            self.events.call_soon(self._submit)
        self._begun[task] = None
        return task

    def _submit(self) -> None:
        begun, self._begun = list(self._begun), {}
        try:
            loop().submit(begun)
        except RuntimeError as error:  # no thread can be had
            for task in begun:
                task.error = error
            self._land(begun)

    def give_up(self, task: _Awaited) -> None:
        self._begun.pop(task, None)
        loop().cancel([task], wait=False)

    def _deliver(self, tasks: list[Any]) -> None:
        """Called in the transfer thread with lookups that have ended."""
        _call_soon(self.events, self._land, tasks)

    def _land(self, tasks: list[_Awaited]) -> None:
        for task in tasks:
            if not task.landed.done():  # else cancelled
                task.landed.set_result(None)


class _Mine(threading.local):
    """The landing of the event loop that ran last in the calling thread."""

    landing: _Landing | None = None


_mine = _Mine()


def _landing() -> _Landing:
    events = asyncio.get_running_loop()
    landing = _mine.landing
    if landing is None or landing.events is not events:
        landing = _mine.landing = _Landing(events)
    return landing


def _call_soon(events: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the event loop is closed: nothing waits any longer
        events.call_soon_threadsafe(function, *args)
