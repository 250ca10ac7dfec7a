"""Memory for blobs that is used again and again."""

from __future__ import annotations

from collections import deque

__all__ = ["BufferPool"]

_FIRST_BYTES = 1 << 20  # size of a new buffer
_MOST = 10  # buffers kept: a piece has as many chunks, and Ray uses all of them until it has copied the piece


class BufferPool:
    """Lends byte arrays, and prefers those that were used before and that nothing refers to any more.

    A fresh page of memory costs more than filling it, and the allocators of Python and Arrow return blocks of this
    size to the kernel. Threads may share a pool.
    """

    def __init__(self) -> None:
        self._used: deque[bytearray] = deque(maxlen=_MOST)

    def take(self) -> bytearray:
        """A buffer of some size with arbitrary content, lent to the caller alone."""
        for _ in range(len(self._used)):
            try:
                buffer = self._used.popleft()
            except IndexError:  # another thread took the last
                break
            try:
                # A byte array refuses to become shorter while any object shows its memory, however indirectly.
                buffer.append(buffer.pop())
            except BufferError:
                self._used.append(buffer)
            else:
                return buffer
        return bytearray(_FIRST_BYTES)

    def give(self, buffer: bytearray) -> None:
        """Take back a buffer. Views of its memory stay valid: it is lent again only after all of them are gone."""
        self._used.append(buffer)
