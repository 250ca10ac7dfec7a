"""The window of a batch: the lookups that are under way, or answered and not yet taken."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bitstore._lookup.asking import canonical_of, label_of, size_of, steps_of_get, steps_of_key
from bitstore._lookup.loops import loop, useful_threads
from bitstore._lookup.options import LookupOptions
from bitstore._lookup.task import Task
from bitstore._lookup.workers import taken
from bitstore._support import clock
from bitstore.blob import Blob
from bitstore.errors import LookupFailed, LookupTimedOut, StoreNotAvailable
from bitstore.steps import Cancelled, Found, Sleep, Steps

__all__ = ["Window", "error_for_caller"]

_LOOKUPS = 128  # lookups in the window at least, unless the caller says otherwise
_PER_TRANSFER = 2  # lookups in the window for each transfer that may be under way
_SPARE = 64  # further lookups in the window: answers that the consumer has yet to take must not hold up transfers
_TRIES = 2  # further tries of a lookup that failed although others were answered
_TRIES_OVERRUN = 5  # the same where the service refuses a part of all requests, which says nothing about the blob
_FIRST_LOOKUPS = 16  # lookups in the window before anything is known of the blobs' sizes
_LARGE = 1024 * 1024  # bytes of a blob, from which on several threads help whatever else there is
_NEVER = float("-inf")  # before all times


class _Lookup(Task):
    """One lookup of the window, for all inputs of the window that ask for the same."""

    __slots__ = ("failed_at", "inputs", "key", "loop", "shared", "size", "tries")

    def __init__(self, key: Any, first: tuple[int, Any], window: Window, steps: Steps[Found]) -> None:
        super().__init__(steps, window.deliver, window.timeout)
        self.key = key  # what the store's `canonical` made of the first input
        self.shared: Any = None  # what the window finds it by, when another input asks for the same
        self.loop = window.loop  # the one that performs it
        self.inputs = [first]  # position and text of each input that asks for it
        self.size = 0  # bytes of the blob, when it is here
        self.tries = 0  # tries that failed although others were answered
        self.failed_at = _NEVER  # when the last try failed, on the clock of this process


class _Key:
    """A key that is no text, to be found again whatever its comparison does: keys that do not compare are different."""

    __slots__ = ("_hash", "_key")

    def __init__(self, key: Any) -> None:
        self._key = key
        self._hash = hash(key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, _Key) and bool(self._key == other._key)
        except Exception:  # an object of the caller
            return False


def _known_by(key: Any) -> object:
    try:
        return _Key(key)
    except Exception:  # not hashable, or its hash fails: nothing can be found to be the same
        return object()


class Window:
    """The lookups that are under way, or answered and not yet taken.

    The consumer's thread reads the inputs, submits lookups and takes answers; the transfer threads only call
    `deliver`. Each counter is written by one side alone, so only the transfer threads need a lock among themselves.
    """

    def __init__(self, store: Any, uris: Iterable[Any], options: LookupOptions) -> None:
        if isinstance(uris, (str, bytes)):
            raise TypeError(
                f"expected an iterable of URIs, got one {type(uris).__name__}; for a single blob call get()"
            )
        self._store = store
        self._canonical = canonical_of(store)
        self._of_key = steps_of_key(store)
        self._uris = iter(uris)
        self.timeout = options.timeout
        self._most = options.in_flight
        self._max_bytes = options.bytes_held
        self._patience = options.patience
        self.loop = self._first_loop = loop()  # for the next lookup
        self._delivery = threading.Lock()
        self.queue: queue.SimpleQueue[list[_Lookup]] = queue.SimpleQueue()  # lookups that have ended
        self.arrived: list[_Lookup] = []  # what the consumer has taken from the queue, and `answers` has yet to see
        self.on_arrival: Callable[[], object] | None = None  # called in a transfer thread after each entry of the queue
        self._lookups: dict[Any, _Lookup] = {}
        self._read = 0  # inputs read
        self._yielded = 0  # inputs whose answer the consumer has
        self._exhausted = False
        self._closed = False
        self._broken: Exception | None = None  # what the caller's iterable raised
        self._answered = 0  # lookups that have ended; written by the transfer threads
        self._bytes_in = 0  # bytes of the blobs of those lookups; written by the transfer threads
        self._bytes_out = 0  # bytes of the blobs yielded
        self._threads = options.threads
        self._useful = useful_threads(large=False), useful_threads(large=True)
        self._spread = options.threads or 1  # transfer threads that have lookups of this window
        self._portion = 1  # inputs that are read at a time, once the window has been full

    def answers(self, ordered: bool) -> Iterator[Blob | None]:
        """One answer per input. None: the consumer waits for the queue, and puts what it takes there into `arrived`."""
        return self._in_order() if ordered else self._as_they_come()

    def _as_they_come(self) -> Iterator[Blob | None]:
        self._fill()
        while self._yielded < self._read:
            full_for = self._portion
            while not self.arrived:
                yield None
            for lookup in self._take():
                for index, uri in lookup.inputs:
                    self._yielded += 1
                    yield self.answer(lookup, index, uri)
                self._bytes_out += lookup.size
                full_for -= 1
                if full_for <= 0:
                    self._fill()
                    full_for = self._portion
            self._fill()
        if self._broken is not None:
            raise self._broken

    def _in_order(self) -> Iterator[Blob | None]:
        # Early answers wait, within the window.
        early: dict[int, tuple[_Lookup, Any]] = {}
        self._fill()
        full_for = self._portion
        while self._yielded < self._read:
            while self._yielded not in early:
                while not self.arrived:
                    yield None
                for lookup in self._take():
                    for index, uri in lookup.inputs:
                        early[index] = lookup, uri
                self._fill()  # the first in line may be slow: the others go on
            lookup, uri = early.pop(self._yielded)
            self._bytes_out += lookup.size if lookup.inputs[-1][0] == self._yielded else 0
            self._yielded += 1
            yield self.answer(lookup, self._yielded - 1, uri)
            del lookup
            full_for -= 1
            if full_for <= 0 or self._yielded == self._read:
                self._fill()
                full_for = self._portion
        if self._broken is not None:
            raise self._broken

    def close(self, *, wait: bool = True) -> None:
        """Give up what is under way; with `wait`, return when that is done."""
        self._closed = True
        self._uris = iter(())  # the caller's iterable may hold files; the last lookup keeps the window for a while
        pending = [lookup for lookup in self._lookups.values() if not lookup.finished]
        for each in {lookup.loop for lookup in pending}:
            each.cancel([lookup for lookup in pending if lookup.loop is each], wait=wait)

    def deliver(self, tasks: list[Task]) -> None:
        """Called in a transfer thread with lookups that are done."""
        lookups: list[_Lookup] = []
        size = 0
        lookup: Any
        for lookup in tasks:
            if lookup.error is None and not isinstance(lookup.result, Found):
                result = type(lookup.result).__name__
                lookup.error = TypeError(f"the steps of {label_of(self._store)} ended in a {result} instead of Found")
            if lookup.error is None:
                data = lookup.result.data
                lookup.size = size_of(data)
                size += lookup.size
            elif self._try_again(lookup):
                continue
            lookups.append(lookup)
        with self._delivery:
            self._answered += len(lookups)
            self._bytes_in += size
        if lookups:
            self.queue.put(lookups)
            if self.on_arrival is not None:
                self.on_arrival()

    def _try_again(self, lookup: _Lookup) -> bool:
        """Submit a lookup once more that failed because of a tier which may answer soon.

        An outage (a tier is unreachable, or left alone after repeated failures) is waited for once, not by each
        input again: `patience` counts from its beginning. A blob that fails while others are answered gets a few
        more tries.
        """
        error = lookup.error
        if not isinstance(error, LookupFailed) or isinstance(error, LookupTimedOut):
            return False
        now = clock.monotonic()
        # An outage that began after the last failure says that the tier has answered in between.
        lookup.tries += error.down_for == 0 or now - error.down_for > lookup.failed_at
        lookup.failed_at = now
        most = _TRIES_OVERRUN if error.overrun else _TRIES
        if error.retry_in is None or lookup.tries > most or error.down_for + error.retry_in > self._patience:
            return False
        # A little later than the probe, whose answer then holds for all lookups after it.
        pause = error.retry_in * max(1, lookup.tries) + random.uniform(0.05, 0.25)
        lookup.again(self._later(lookup, pause, error.paid_for))
        # `close` sets the flag before it looks for what is unfinished: so it finds this lookup, or we see the flag.
        if not self._closed:
            lookup.loop.submit([lookup])
        return True

    def _later(self, lookup: _Lookup, pause: float, paid_for: frozenset[str]) -> Steps[Found]:
        yield Sleep(pause)
        if self._of_key is None:
            return (yield from steps_of_get(self._store, lookup.inputs[0][1]))
        return (yield from self._of_key(lookup.key, paid_for))

    def wait(self) -> None:
        """Wait in the consumer's thread for lookups that have ended."""
        self.arrived = taken(self.queue)

    def _take(self) -> list[_Lookup]:
        lookups, self.arrived = self.arrived, []
        for lookup in lookups:
            if self._lookups.get(lookup.shared) is lookup:
                del self._lookups[lookup.shared]  # from now on the same key is a lookup of its own
        return lookups

    def _fill(self) -> None:
        """Read inputs and submit their lookups, as far as the window allows."""
        if self._exhausted:
            return
        limit = self._limit()
        room = limit - (self._read - self._yielded)
        self._portion = max(1, limit // 8)
        if room < self._portion and self._read > self._yielded:
            return  # in portions: one wake-up of the transfer thread for many lookups
        begun: list[_Lookup] = []
        try:
            while room > 0:
                room -= 1
                lookup = self._enter(next(self._uris))
                if lookup is not None:
                    begun.append(lookup)
        except StopIteration:
            self._exhausted = True
        except Exception as error:  # raised when all answers to what came before are taken: nothing is lost
            self._exhausted = True
            self._broken = error
        finally:
            for each in {lookup.loop for lookup in begun}:
                each.submit([lookup for lookup in begun if lookup.loop is each])

    def _limit(self) -> int:
        """How many inputs may be read and not yet answered to the consumer."""
        # Enough that no transfer waits for a lookup, and not more: lookups in waiting cost memory, and time of
        # the garbage collector.
        most = self._most or max(_LOOKUPS, _PER_TRANSFER * self.loop.pace.limit + _SPARE)
        if not self._answered:
            return min(most, _FIRST_LOOKUPS)
        # Blobs that are here count by their size, those to come by the mean of what has come so far.
        mean = self._bytes_in / self._answered
        if self._threads is None:
            self._spread = self._useful[mean >= _LARGE]
            if self._spread == 1:
                self.loop = self._first_loop
        held = self._bytes_in - self._bytes_out
        to_come = int((self._max_bytes - held) / mean) if mean >= 1 else most
        here = self._answered - self._yielded
        return max(1, min(most, 2 * self._answered + _FIRST_LOOKUPS, max(0, here) + to_come))

    def _enter(self, uri: Any) -> _Lookup | None:
        """Take in one input; returns the lookup to submit, if it needs one of its own."""
        position = (self._read, uri)
        self._read += 1  # from here on the input has an answer, whatever it does
        try:
            key = self._canonical(uri)
            shared: Any = key if type(key) is str else _known_by(key)
            same = self._lookups.get(shared)
            if same is not None:
                same.inputs.append(position)
                return None
            steps = steps_of_get(self._store, uri) if self._of_key is None else self._of_key(key)
            if self._spread > 1:
                self.loop = loop(self._read % self._spread)
        except Exception as error:  # a bad input is an answer of its own, not the end of the batch
            lookup = _Lookup(None, position, self, _nothing())
            lookup.error = error
            lookup.finished = True
            self.queue.put([lookup])
            return None
        lookup = _Lookup(key, position, self, steps)
        lookup.shared = shared
        self._lookups[shared] = lookup
        return lookup

    def answer(self, lookup: _Lookup, index: int, uri: Any) -> Blob:
        """The answer of `lookup` to one of its inputs."""
        error = lookup.error
        if error is None:
            return Blob(index, uri, lookup.result.data, lookup.result.source)
        return Blob(index, uri, None, None, error_for_caller(error, self._store, self.timeout))


def error_for_caller(error: BaseException, store: Any, timeout: float | None) -> Exception:
    """What the caller of a lookup is given for `error`, which ended it."""
    if isinstance(error, Cancelled):
        return StoreNotAvailable(store, f"no answer within {timeout} s")
    if isinstance(error, Exception):
        return error
    return StoreNotAvailable(store, repr(error))  # SystemExit and the like, out of a user's store


def _nothing() -> Steps[Found]:
    yield from ()
    raise AssertionError("a lookup of nothing was begun")
