"""Pieces of the answer to a call of a node store: many blobs in one buffer, which Ray's pickle takes as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from bitstore._frames.buffers import BufferPool

__all__ = ["Packer", "Piece", "Row"]

_PIECE_BYTES = 16 << 20
_PIECE_ROWS = 1024

# (position, text, error) of a row without a blob, as in `RowAnswer`; `error` only where the caller wants it.
Row: TypeAlias = "tuple[int, str, Exception | None]"


class Piece(NamedTuple):
    """Some of the answers to a call of `NodeStore.fetch`."""

    # Positions of the blobs that were found, and what had each.
    found: list[int]
    sources: list[str]
    # The blobs one after the other (a NumPy array of bytes, which travels outside of the pickle), and where each ends.
    data: Any
    ends: list[int]
    # Rows without a blob.
    others: list[Row]
    # Positions that only a paid source may answer, which the call was not to ask.
    unpaid: list[int]
    # Positions of hot blobs, which the caller's own node is to take from other nodes.
    hot: list[int]

    def blobs(self) -> Iterator[tuple[int, memoryview, str]]:
        """Position, bytes and source of each blob. The bytes are in the memory of the piece."""
        data = memoryview(self.data)
        start = 0
        for position, source, end in zip(self.found, self.sources, self.ends, strict=True):
            yield position, data[start:end], source
            start = end


class Packer:
    """Collects the answers to one call.

    Each blob is copied at once, so that its own memory serves for the next one; a piece is then copied once more, by
    Ray into the object store. A list of blobs would be copied by pickle in between, into fresh memory each time.

    Parameters
    ----------
    buffers
        Lends the memory of pieces.
    """

    def __init__(self, buffers: BufferPool) -> None:
        self._buffers = buffers
        self._begin()

    def _begin(self) -> None:
        self._found: list[int] = []
        self._sources: list[str] = []
        self._ends: list[int] = []
        self._others: list[Row] = []
        self._end = 0
        self._buffer: bytearray | None = None
        self._whole: bytes | memoryview = b""  # the only blob of a piece, if it is large
        self.unpaid: list[int] = []
        self.hot: list[int] = []

    def has_room(self, size: int) -> bool:
        """Whether the piece takes another blob of so many bytes; a blob that is too large has a piece of its own."""
        rows = len(self._found) + len(self._others)
        return not rows or (rows < _PIECE_ROWS and self._end + size <= _PIECE_BYTES)

    def add(self, position: int, data: bytes | memoryview, source: str) -> None:
        """Add a blob."""
        start = self._end
        self._end = end = start + len(data)
        self._found.append(position)
        self._sources.append(source)
        self._ends.append(end)
        if end > _PIECE_BYTES:
            self._whole = data
        elif data:
            buffer = self._buffer
            if buffer is None:
                buffer = self._buffer = self._buffers.take()
            if end > len(buffer):
                buffer.extend(bytes(max(end, min(2 * len(buffer), _PIECE_BYTES)) - len(buffer)))
            buffer[start:end] = data

    def add_other(self, row: Row) -> None:
        """Add a row without a blob."""
        self._others.append(row)

    def take(self) -> Piece:
        """The piece. Afterwards this holds none of it."""
        import numpy

        buffer = self._buffer
        data = numpy.frombuffer(self._whole if buffer is None else buffer, "u1")[: self._end]
        if buffer is not None:
            self._buffers.give(buffer)  # it is lent again only when the piece is gone
        piece = Piece(self._found, self._sources, data, self._ends, self._others, self.unpaid, self.hot)
        self._begin()
        return piece
