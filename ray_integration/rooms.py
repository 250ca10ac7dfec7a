"""Memory for blobs that is used again and again."""

from __future__ import annotations

from collections import deque

__all__ = ["Rooms"]

_FIRST_BYTES = 1 << 20
_MOST = 10  # as many as a piece has chunks: all of it is in use until Ray has copied it


class Rooms:
    """Lends out byte arrays, those first that were used before and that nobody looks at any more.

    Memory that the kernel has to hand out anew costs more than to fill it, and Python's and Arrow's allocators give
    back what is as large as this. Threads may share it.
    """

    def __init__(self) -> None:
        self._used: deque[bytearray] = deque(maxlen=_MOST)

    def take(self) -> bytearray:
        """A room of some size, whose bytes may be anything. Nobody else has it."""
        for _ in range(len(self._used)):
            try:
                room = self._used.popleft()
            except IndexError:  # another thread took the last
                break
            try:
                # A byte array refuses to become shorter while any object shows its memory, however indirectly.
                room.append(room.pop())
            except BufferError:
                self._used.append(room)
            else:
                return room
        return bytearray(_FIRST_BYTES)

    def give(self, room: bytearray) -> None:
        """Take back a room. What shows its memory may live on: it is lent again only when that is gone."""
        self._used.append(room)
