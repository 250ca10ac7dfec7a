"""The blobs that a node store seeks on other nodes, and those that other nodes fetch in its place.

Each digest is to be fetched by one node store. One that is asked for a blob that it lacks notes that the asking one
fetches it; when it needs the blob itself, it asks there first. Of two that ask each other at the same moment, exactly
one is told to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal

from bitstore._lookup.event import Event

__all__ = ["Question", "Questions"]

_MOST_NOTES = 65_536  # digests of which it is noted which node store fetches them
_SOONEST, _LATEST = 0.05, 1.0  # seconds until a lookup in progress is asked about again


class Question(Event):
    """A blob that is sought on the disks of other nodes. It lands with the blob, or without."""

    __slots__ = ("_pause", "asking", "background", "begun", "chain", "data", "digest", "spare", "way", "wrong", "yours")

    def __init__(self, digest: str, way: Sequence[str] = (), *, background: bool = False) -> None:
        super().__init__()
        self.digest = digest
        # From which node stores to take a hot blob, the nearest first; empty: previous owners are asked.
        self.way = tuple(way)
        # Node stores that are still to be asked, as far as they are known.
        self.chain = list(way)
        # Node stores to ask if the last of the chain does not answer.
        self.spare: list[str] = []
        # Node stores of which this one has noted that they fetch the blob.
        self.yours: set[str] = set()
        # The node store that is asked now.
        self.asking = ""
        # Whether another node waits for the blob to be on this disk, and no lookup here.
        self.background = background
        # When the node store was first asked, by the monotonic clock.
        self.begun = 0.0
        # The blob, which matches its digest. Whether a node store gave other bytes.
        self.data: bytes | None = None
        self.wrong = False
        self._pause = _SOONEST

    def pause(self) -> float:
        """Seconds until the node store is asked again about a lookup in progress: longer each time."""
        pause, self._pause = self._pause, min(_LATEST, 2 * self._pause)
        return pause

    def onward(self, peer: str) -> list[str]:
        """From which node stores `peer` takes a hot blob that it lacks; empty when it has been told so before."""
        is_first = self._pause == _SOONEST
        return list(self.way[self.way.index(peer) + 1 :]) if is_first and peer in self.way else []

    def ask_next(self, now: float) -> str | None:
        """The node store to ask; None: all have been asked."""
        if not self.chain:
            return None
        self.asking, self.begun, self._pause = self.chain.pop(0), now, _SOONEST
        return self.asking

    def land(self) -> None:
        """Let the lookup resume."""
        self.landed = True
        self._drain()


class Questions:
    """Those in progress in one node store. For any number of threads.

    Parameters
    ----------
    me
        Name of the node store.
    is_under_way
        Whether it has a lookup of a digest in progress.
    """

    def __init__(self, me: str, is_under_way: Callable[[str], bool]) -> None:
        self._me = me
        self._is_under_way = is_under_way
        self._lock = threading.Lock()
        self._open: dict[str, Question] = {}
        self._moved: dict[str, str] = {}  # digests that other node stores fetch, the oldest note first

    def begin(self, digest: str, way: Sequence[str], *, others: bool) -> tuple[Question | None, bool]:
        """The question of a lookup that has just begun, and whether it is a new one; None: there is none to ask.

        Parameters
        ----------
        way
            From which node stores to take it, if it is hot.
        others
            Whether there may be previous owners.
        """
        with self._lock:
            if (question := self._open.get(digest)) is not None:
                return question, False
            noted = self._moved.pop(digest, None)
            if noted is None and not way and not others:
                return None, False
            question = Question(digest, way)
            if noted is not None:
                question.chain.insert(0, noted)
                question.yours.add(noted)
            self._open[digest] = question
            return question, True

    def end(self, question: Question) -> bool:
        """End a question that has none left to ask, or its blob. False: there is another to ask."""
        with self._lock:
            if question.data is None and question.chain:
                return False
            self._open.pop(question.digest, None)
            return True

    def add(self, question: Question, names: Sequence[str]) -> None:
        """Ask these node stores too, after those that are to be asked already."""
        with self._lock:
            question.chain = [*question.chain, *names]

    def answer(self, digest: str, to: str, *, yours: bool, way: Sequence[str]) -> Literal["no", "wait"] | Question:
        """What to tell the node store `to`, which asks for a blob that is not on this disk.

        `"no"`: it fetches the blob, which is noted. `"wait"`: the blob will be here, or will not, when something has
        ended. A question: the same, and the question is to be asked.

        Parameters
        ----------
        yours
            Whether `to` has noted that this node store fetches the blob.
        way
            From which node stores this one takes the blob, if it is hot.
        """
        with self._lock:
            question = self._open.get(digest)
            if question is not None:
                if way or question.background or (question.asking == to and (yours or self._me > to)):
                    return "wait"
                question.chain = [*question.chain, to]
                question.yours.add(to)
                return "no"
            if self._is_under_way(digest):
                return "wait"
            if way:
                question = self._open[digest] = Question(digest, way, background=True)
                return question
            self._moved.pop(digest, None)
            self._moved[digest] = to
            if len(self._moved) > _MOST_NOTES:
                self._moved.pop(next(iter(self._moved)))
            return "no"

    def forget(self, digest: str) -> None:
        """The blob is on this disk: no other has to fetch it."""
        with self._lock:
            self._moved.pop(digest, None)
