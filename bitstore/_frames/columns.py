"""The columns that blobs and their errors come in: in Arrow tables, frames of pandas and Polars, and batches of Ray."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bitstore._frames.digest_column import check_name, quoted
from bitstore._frames.row_answer import kind_of

if TYPE_CHECKING:
    import pyarrow

    from bitstore._frames.buffers import BufferPool
    from bitstore._frames.row_answer import RowAnswer

__all__ = ["ColumnNames", "Columns", "DataForm"]


@dataclass(frozen=True)
class ColumnNames:
    """What the new columns are called."""

    data: str = "data"
    source: str = "source"
    error: str = "error"
    # None: there is no such column.
    kind: str | None = None

    def all(self) -> list[str]:
        """The names, in the order of the columns."""
        return [name for name in (self.data, self.source, self.error, self.kind) if name is not None]

    def check(self, column: Any) -> None:
        """Raise TypeError or ValueError unless these are names, all different, also from `column`: the digests'."""
        names = self.all()
        for name in names:
            check_name(name)
        if len({column, *names}) < 1 + len(names):
            raise ValueError(f"column '{column}' and the new columns {quoted(names)} must all have different names")

    def check_room(self, names: Sequence[Any]) -> None:
        """Raise ValueError if a column of a table with the columns `names` is called like a new one."""
        for option in ("data", "source", "error", "kind"):
            if (name := getattr(self, option)) is not None and name in names:
                raise ValueError(f"the table already has a column '{name}'; name the new one with {option}_column=...")

    def fields(self) -> list[tuple[str, pyarrow.DataType]]:
        """The names with the types of their columns."""
        import pyarrow

        types = [pyarrow.large_binary(), *[pyarrow.string()] * 3]
        return list(zip(self.all(), types, strict=False))


class DataForm(Protocol):
    """What the data column holds, where that is not the blobs."""

    def array(self, found: list[bool], ends: array[int], data: bytes | memoryview) -> pyarrow.Array:
        """A chunk of the column.

        Parameters
        ----------
        found
            Whether each row has something.
        ends
            0, and where the bytes of each row end.
        data
            What the rows have, one after the other.
        """


class Columns:
    """Collects answers, and makes Arrow columns of them.

    Each blob is copied at once, while it is in the CPU's cache, to its place in the column, so that its own memory is
    free for the next blobs. Arrow's builder grows its buffer step by step and copies everything with each step: for
    blobs of 16 KB at ten times the cost.

    Parameters
    ----------
    names
        What the columns are called.
    chunk_bytes
        Bytes of blobs that a chunk of the columns may hold. A blob that is larger makes a chunk of its own.
    buffers
        Lends the memory of chunks.
    form
        Makes the data column of what answers hold. None: they hold blobs.
    """

    rows: int  # answers added since the last `take`
    size: int  # bytes of their blobs

    def __init__(
        self, names: ColumnNames, *, chunk_bytes: int, buffers: BufferPool, form: DataForm | None = None
    ) -> None:
        self._names = names
        self._chunk_bytes = chunk_bytes
        self._buffers = buffers
        self._form = form
        self._chunks: list[tuple[pyarrow.Array, ...]] = []
        self.rows = self.size = 0
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._buffer: bytearray | None = None
        self._whole: bytes | memoryview | None = None  # the only blob of a chunk, as the store returned it
        self._end = 0  # bytes of the blobs in the chunk
        self._ends = array("q", [0])
        self._found: list[bool] = []
        self._sources: list[str | None] = []
        self._errors: list[str | None] = []

    def add(self, answer: RowAnswer) -> None:
        """Append the answer of the next row."""
        data = answer.data
        if data:
            if self._end and self._end + len(data) > self._chunk_bytes:
                self._pack()
            self._copy(data)
        self._ends.append(self._end)
        self._found.append(data is not None)
        self._sources.append(answer.source)
        self._errors.append(answer.text)
        self.rows += 1

    def take(self) -> dict[str, pyarrow.ChunkedArray]:
        """The columns. Afterwards this holds none of them."""
        import pyarrow

        if self._found or not self._chunks:
            self._pack()
        arrays = zip(*self._chunks, strict=True)
        names = self._names.all()
        columns = {name: pyarrow.chunked_array(list(chunks)) for name, chunks in zip(names, arrays, strict=True)}
        self._chunks = []
        self.rows = self.size = 0
        return columns

    def _copy(self, data: bytes | memoryview) -> None:
        start = self._end
        self._end = end = start + len(data)
        self.size += len(data)
        if len(data) > self._chunk_bytes:
            self._whole = data
            return
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._buffers.take()
        if end > len(buffer):
            buffer.extend(bytes(max(end, min(2 * len(buffer), self._chunk_bytes)) - len(buffer)))
        buffer[start:end] = data

    def _pack(self) -> None:
        """Make a chunk of the columns of what has come since the last one."""
        import pyarrow

        data = self._bytes()
        if self._form is None:
            # The bits of a boolean array are a validity bitmap.
            present = None if all(self._found) else pyarrow.array(self._found).buffers()[1]
            parts = [present, pyarrow.py_buffer(self._ends), pyarrow.py_buffer(data)]
            blobs = pyarrow.Array.from_buffers(pyarrow.large_binary(), len(self._found), parts)
        else:
            blobs = self._form.array(self._found, self._ends, data)
        texts: list[list[Any]] = [self._sources, self._errors]
        if self._names.kind is not None:
            texts.append([kind_of(error) for error in self._errors])
        self._chunks.append((blobs, *(pyarrow.array(values, pyarrow.string()) for values in texts)))
        self._begin_chunk()

    def _bytes(self) -> bytes | memoryview:
        """The blobs of the chunk, one after the other."""
        if self._buffer is None:
            return self._whole or b""
        blobs = memoryview(self._buffer)[: self._end]
        self._buffers.give(self._buffer)
        # A view keeps the whole buffer alive.
        return blobs if 2 * self._end > len(self._buffer) else bytes(blobs)
