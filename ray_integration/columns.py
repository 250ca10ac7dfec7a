"""The new columns of a piece of a batch, in the making."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

    from ray_integration.answer import Answer
    from ray_integration.rooms import Rooms

__all__ = ["Columns"]


class Columns:
    """Collects answers, and makes Arrow columns of them.

    Each blob is copied at once, while the CPU has it in its cache, to where the column will have it; so its own memory
    serves for the next ones. Arrow's builder lets its buffer grow as it goes, and so takes memory anew, and copies,
    several times over: for blobs of 16 KB at ten times the cost.

    Parameters
    ----------
    data, source, error
        The columns' names.
    chunk_bytes
        Bytes of blobs that a chunk of the columns may hold. A blob that is larger makes a chunk of its own.
    rooms
        Where the memory of chunks comes from.

    Attributes
    ----------
    rows, size
        How many answers were added, and the bytes of their blobs.
    """

    def __init__(self, data: str, source: str, error: str, *, chunk_bytes: int, rooms: Rooms) -> None:
        self._names = (data, source, error)
        self._chunk_bytes = chunk_bytes
        self._rooms = rooms
        self._chunks: list[tuple[pyarrow.Array, ...]] = []
        self.rows = self.size = 0
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._room: bytearray | None = None
        self._whole: bytes | None = None  # the only blob of a chunk, as it came
        self._end = 0  # bytes of the blobs in the chunk
        self._ends = array("q", [0])
        self._found: list[bool] = []
        self._sources: list[str | None] = []
        self._told: list[str | None] = []

    def add(self, answer: Answer) -> None:
        """Take in the answer of the next row."""
        data = answer.data
        if data:
            if self._end and self._end + len(data) > self._chunk_bytes:
                self._pack()
            self._copy(data)
        self._ends.append(self._end)
        self._found.append(data is not None)
        self._sources.append(answer.source)
        self._told.append(answer.told)
        self.rows += 1

    def take(self) -> dict[str, pyarrow.ChunkedArray]:
        """The columns. Afterwards there are none, so that their bytes are here once."""
        import pyarrow

        if self._found or not self._chunks:
            self._pack()
        arrays = zip(*self._chunks, strict=True)
        columns = {name: pyarrow.chunked_array(list(chunks)) for name, chunks in zip(self._names, arrays, strict=True)}
        self._chunks = []
        self.rows = self.size = 0
        return columns

    def _copy(self, data: bytes) -> None:
        start = self._end
        self._end = end = start + len(data)
        self.size += len(data)
        if len(data) > self._chunk_bytes:
            self._whole = data
            return
        room = self._room
        if room is None:
            room = self._room = self._rooms.take()
        if end > len(room):
            room.extend(bytes(max(end, min(2 * len(room), self._chunk_bytes)) - len(room)))
        room[start:end] = data

    def _pack(self) -> None:
        """Make a chunk of the columns of what has come since the last one."""
        import pyarrow

        # An array of truths has its bits in the very form in which others tell what is not null.
        present = None if all(self._found) else pyarrow.array(self._found).buffers()[1]
        buffers = [present, pyarrow.py_buffer(self._ends), pyarrow.py_buffer(self._bytes())]
        self._chunks.append(
            (
                pyarrow.Array.from_buffers(pyarrow.large_binary(), len(self._found), buffers),
                pyarrow.array(self._sources, pyarrow.string()),
                pyarrow.array(self._told, pyarrow.string()),
            )
        )
        self._begin_chunk()

    def _bytes(self) -> bytes | memoryview:
        """The blobs of the chunk, one after the other."""
        if self._room is None:
            return self._whole or b""
        blobs = memoryview(self._room)[: self._end]
        self._rooms.give(self._room)
        # Whoever keeps the column would keep the whole room.
        return blobs if 2 * self._end > len(self._room) else bytes(blobs)
