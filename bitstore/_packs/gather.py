"""Reads of parts of objects: those that lie near each other come by one request, and what comes with them is kept."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any

from bitstore._lookup.asking import label_of, steps_of_range
from bitstore._lookup.event import Event
from bitstore._support.redact import redact_url
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Cancelled, Sleep, Steps, Together, Wait

__all__ = ["BLOCK", "Gather"]

BLOCK = 1 << 20  # bytes: what is read ahead at least, and kept, once several lookups have asked for parts of it
_MOST = 8 * BLOCK  # bytes of one request for several parts
_TOUCHED = 4096  # blocks of which it is remembered that a lookup has asked for a part of them

_Key = tuple[int, str]  # a store by its identity, and the URL of an object


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


class _Span:
    """What one request reads: from `start` up to `end`, for all of `wants`, which may grow until it has landed."""

    __slots__ = ("end", "start", "wants")

    def __init__(self, start: int, end: int, wants: list[_Want]) -> None:
        self.start = start
        self.end = end
        self.wants = wants


class _Run:
    """How far an object is read ahead, in blocks, while lookups go through it in order."""

    __slots__ = ("count", "following")

    def __init__(self, following: int) -> None:
        self.following = following  # the first block that was not asked for yet
        self.count = 2  # blocks of the next request, which doubles


class Gather:
    """The parts that lookups of one process wait for, by object, and the blocks of objects that were read last.

    The first lookup that wants a part of an object lets those that begin at the same time say theirs, and then reads
    for all of them. A block of `BLOCK` bytes is read as a whole once a second lookup wants a part of it, or where the
    block before it is there. Where lookups go through an object in order, one of them reads the blocks that follow,
    more each time, before the others come there.

    Parameters
    ----------
    gap
        The most bytes between two parts that are read along with them, to save a request.
    room
        Bytes of blocks that are kept; 0: nothing is read ahead or kept.
    """

    def __init__(self, gap: int, room: int) -> None:
        self._gap = gap
        self._room = room
        self._lock = threading.Lock()
        self._waiting: dict[_Key, list[_Want]] = {}
        self._coming: dict[tuple[_Key, int], _Span] = {}  # the read that is under way, by block
        self._blocks: OrderedDict[tuple[_Key, int], bytes] = OrderedDict()
        self.held = 0  # bytes of these
        self._runs: dict[_Key, _Run] = {}
        self._ends: dict[_Key, int] = {}  # the first block behind an object's end, where that was seen
        self._touched: OrderedDict[tuple[_Key, int], None] = OrderedDict()

    def forget(self, store: Any, url: str) -> None:
        """Drop what is kept of an object, such as because it does not match."""
        with self._lock:
            self._ends.pop((id(store), url), None)
            for place in [place for place in self._blocks if place[0] == (id(store), url)]:
                self.held -= len(self._blocks.pop(place))

    def read(self, store: Any, url: str, start: int, end: int) -> Steps[bytes]:
        """The bytes from `start` up to `end` of the object at `url`. Raises what the store raises.

        Raises
        ------
        StoreNotAvailable
            The object ends before `end`.
        """
        key = (id(store), url)
        while True:
            leads = False
            with self._lock:
                part = self._part(key, start, end)
                if part is not None:
                    ahead = self._ahead(key, start // BLOCK)
                    if ahead is None:
                        return part
                else:
                    want = _Want(start, end)
                    span = self._coming.get((key, start // BLOCK))
                    if span is not None and end <= span.end:
                        span.wants.append(want)
                    elif (group := self._waiting.get(key)) is not None:
                        group.append(want)
                    else:
                        self._waiting[key] = [want]
                        leads = True
            if part is not None:
                assert ahead is not None
                try:
                    yield from self._read(store, key, ahead)
                except Cancelled:
                    return part  # its own part is here in time
                finally:
                    self._end(key, [ahead], ahead.wants)
                return part
            if leads:
                yield from self._lead(store, key)
            else:
                yield Wait(want)
            if want.data is not None:
                return want.data
            if want.error is not None:
                raise _own(want.error)

    # What follows but `_lead`, `_end` and `_read` is called with the lock held.

    def _part(self, key: _Key, start: int, end: int) -> bytes | None:
        """A part of one or two blocks that are kept; None: they are not."""
        if not self._room:
            return None
        first, last = start // BLOCK, (end - 1) // BLOCK
        block = self._blocks.get((key, first))
        if block is None or last > first + 1:
            return None
        begin = start - first * BLOCK
        part = block[begin : begin + end - start]
        if last > first:
            following = self._blocks.get((key, last))
            if following is None:
                return None
            part += following[: end - last * BLOCK]
        if len(part) != end - start:  # the object ends before: what it is now, the store must say
            return None
        self._blocks.move_to_end((key, first))
        return part

    def _ahead(self, key: _Key, block: int) -> _Span | None:
        """What a lookup in `block` reads ahead; None: others are far enough from the end of what is there."""
        run = self._runs.get(key)
        if run is None or not 0 < run.following - block <= run.count:
            return None
        first = run.following
        last = min(first + run.count, self._ends.get(key, first + run.count))
        if first >= last or any(
            (key, each) in self._blocks or (key, each) in self._coming for each in (first, last - 1)
        ):
            return None
        span = _Span(first * BLOCK, last * BLOCK, [])
        for each in range(first, last):
            self._coming[key, each] = span
        run.following = last
        run.count = max(1, min(2 * run.count, _MOST // BLOCK, self._room // (4 * BLOCK)))
        return span

    def _lead(self, store: Any, key: _Key) -> Steps[None]:
        group: list[_Want] | None = None
        spans: list[_Span] = []
        try:
            yield Sleep(0.0)
            with self._lock:
                group = self._waiting.pop(key)
                spans = self._spans(key, group)
            if len(spans) == 1:
                yield from self._read(store, key, spans[0])
            elif spans:
                yield Together([self._read(store, key, span) for span in spans])
        finally:
            # Lookups that still wait, where this one was given up, read for themselves.
            if group is None:
                with self._lock:
                    group = self._waiting.pop(key)
            self._end(key, spans, [*group, *(want for span in spans for want in span.wants)])

    def _end(self, key: _Key, spans: list[_Span], wants: list[_Want]) -> None:
        with self._lock:
            for span in spans:
                self._came(key, span)
        for want in list(wants):
            if not want.landed:
                want.land()

    def _spans(self, key: _Key, wants: list[_Want]) -> list[_Span]:
        """The parts in order, in groups that one request reads each."""
        wants.sort(key=lambda want: want.start)
        spans: list[_Span] = []
        for want in list(wants):
            coming = self._coming.get((key, want.start // BLOCK))
            if coming is not None and want.end <= coming.end:  # another read has begun since it began to wait
                coming.wants.append(want)
                wants.remove(want)
                continue
            start, end = self._widened(key, want)
            last = spans[-1] if spans else None
            if (
                last is not None
                and start <= last.end + self._gap
                and max(last.end, end) - last.start <= max(_MOST, last.end - last.start)
            ):
                last.wants.append(want)
                last.end = max(last.end, end)
            else:
                spans.append(_Span(start, end, [want]))
        for span in spans:
            for block in range(-(-span.start // BLOCK), span.end // BLOCK):
                self._coming[key, block] = span
        return spans

    def _widened(self, key: _Key, want: _Want) -> tuple[int, int]:
        """What is read for a part: it, or the blocks in which it lies."""
        if not self._room or want.end - want.start >= BLOCK or want.end == want.start:
            return want.start, want.end
        first, last = want.start // BLOCK, (want.end - 1) // BLOCK
        dense = (key, first) in self._touched or (key, first - 1) in self._blocks or (key, first) in self._blocks
        for block in (first, last):
            self._touched[key, block] = None
            self._touched.move_to_end((key, block))
        while len(self._touched) > _TOUCHED:
            self._touched.popitem(last=False)
        if not dense:
            return want.start, want.end
        if (key, first - 1) in self._blocks:  # in order
            run = self._runs.get(key)
            if run is None or not first <= run.following <= last + 1:
                self._runs[key] = _Run(last + 1)
            else:
                run.following = last + 1
        # What is there, or on its way, is not read again.
        start = want.start if (key, first) in self._blocks or (key, first) in self._coming else first * BLOCK
        end = want.end if (key, last) in self._blocks or (key, last) in self._coming else (last + 1) * BLOCK
        return start, end

    def _came(self, key: _Key, span: _Span) -> None:
        for block in range(-(-span.start // BLOCK), span.end // BLOCK):
            if self._coming.get((key, block)) is span:
                del self._coming[key, block]

    def _keep(self, key: _Key, span: _Span, data: bytes) -> None:
        """Keep the blocks of what came, the last one of an object too."""
        if not self._room:
            return
        for block in range(-(-span.start // BLOCK), span.end // BLOCK):
            begin = block * BLOCK - span.start
            kept = data[begin : begin + BLOCK]
            if len(kept) < BLOCK:
                self._ends[key] = block + (len(kept) > 0)
            if kept:
                self.held += len(kept) - len(self._blocks.pop((key, block), b""))
                self._blocks[key, block] = kept
            if len(kept) < BLOCK:
                break
        for table in (self._runs, self._ends):
            while len(table) > _TOUCHED:
                table.pop(next(iter(table)))
        while self.held > self._room:
            self.held -= len(self._blocks.popitem(last=False)[1])

    def _read(self, store: Any, key: _Key, span: _Span) -> Steps[None]:
        start, end = span.start, span.end
        error: Exception | None = None
        data = b""
        try:
            if end > start:
                data = yield from steps_of_range(store, key[1], start, end)
        except Exception as raised:  # of any kind: it is the answer to each of the lookups that wait
            error = raised
        with self._lock:
            self._came(key, span)  # from now on no other lookup joins
            if error is None:
                self._keep(key, span, data)
        for want in span.wants:
            part = data[want.start - start : want.end - start]
            if error is not None:
                want.error = error
            elif len(part) == want.end - want.start:
                want.data = part
            else:
                want.error = _cut(store, key[1], start + len(data), want)
            want.land()


def _cut(store: Any, url: str, end: int, want: _Want) -> StoreNotAvailable:
    failure = StoreNotAvailable(label_of(store), f"{redact_url(url)} ends at byte {end}, before byte {want.end}")
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
