"""A line in which lookups wait for their turn without a thread: only the first of the line acts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Line", "Place"]


class Place:
    """The place of one lookup; as a `Landing` (`yield Wait(place)`) it lands when it is the first."""

    __slots__ = ("_callbacks", "_line")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._callbacks: list[Callable[[], object]] = []

    @property
    def first(self) -> bool:
        """Whether all places before this one have been left."""
        return self._line.is_first(self)

    def on_landing(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when this is the first (at once if it is, or has left)."""
        self._line.call_when_first(self, callback)

    def leave(self) -> None:
        """Make the next place the first. May be called again, and from any thread."""
        self._line.leave(self)


class Line:
    """Places in the order of arrival. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Ordered, and not a dict: the first of a dict is found by looking through all that have left.
        self._places: OrderedDict[Place, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def enter(self) -> Place:
        """A new place at the end of the line."""
        place = Place(self)
        with self._lock:
            self._places[place] = None
        return place

    def is_first(self, place: Place) -> bool:
        """Whether `place` is the first."""
        with self._lock:
            return next(iter(self._places), None) is place

    def call_when_first(self, place: Place, callback: Callable[[], object]) -> None:
        """See `Place.on_landing`."""
        with self._lock:
            if place in self._places and next(iter(self._places)) is not place:
                place._callbacks.append(callback)
                return
        callback()

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        with self._lock:
            self._places.pop(place, None)
            first = next(iter(self._places), None)
            callbacks: list[Callable[[], object]] = []
            if first is not None:
                callbacks, first._callbacks = first._callbacks, callbacks
        # Outside of the lock: a callback may leave the line itself.
        for callback in callbacks:
            callback()
