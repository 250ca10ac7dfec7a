"""Tables with the blobs of their digests: whole ones of Arrow, pandas and Polars, and streams of Arrow's batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from bitstore._frames.batches import ArrowBatch, Batch
from bitstore._frames.buffers import BufferPool
from bitstore._frames.columns import ColumnNames, Columns
from bitstore._frames.digest_column import check_column, check_digest_type, guessed_column, quoted
from bitstore._frames.row_answer import RowAnswer, RowErrors
from bitstore._frames.rows import answers, lookups, pieces, row_keys
from bitstore._lookup.options import LookupOptions

if TYPE_CHECKING:
    import pyarrow

__all__ = ["TableLookup"]


_CHUNK = 64 << 20  # bytes of blobs in a chunk of a whole table's columns
_UNBOUNDED = 1 << 62  # bytes: more than any table has
_ROWS = 16384  # rows of a batch that are looked up together: blobs that occur again in them are held


@dataclass(frozen=True)
class TableLookup:
    """How the rows of tables get their blobs; the methods of `Store` that return tables describe each option.

    Raises
    ------
    TypeError, ValueError
        An option makes no sense, or the table has no column of digests, or no room for the new columns.
    """

    store: Any
    # Name of the column of digests; None: found by its name.
    column: Any
    names: ColumnNames
    errors: RowErrors
    options: LookupOptions

    def __post_init__(self) -> None:
        if self.errors not in get_args(RowErrors):
            raise ValueError(f"errors={self.errors!r}: choose one of {', '.join(get_args(RowErrors))}")
        if not isinstance(self.column, Hashable):
            raise TypeError(f"column={self.column!r}: name one column")
        self.names.check(self.column)

    def whole(self, rows: Batch) -> Any:
        """All rows with their blobs, in their own format."""
        column = self._column_of(rows.names)
        keys, texts = row_keys(self.store, column, rows.values(column))
        columns = Columns(self.names, chunk_bytes=_CHUNK, buffers=BufferPool())
        with closing(lookups(self.store, texts.values(), self.options)) as found:
            incoming = answers(keys, found.__next__, raises=self.errors == "raise")
            (table,) = pieces(rows, 0, rows.rows, incoming, columns, _UNBOUNDED)
        return table

    def stream(self, tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, size: int) -> pyarrow.RecordBatchReader:
        """The rows of `tables` with their blobs, in batches that hold about `size` bytes of blobs at most."""
        import pyarrow

        column = self._column_of(schema.names)
        check_digest_type(column, schema.field(column).type)
        for name, dtype in self.names.fields():
            schema = schema.append(pyarrow.field(name, dtype))
        return pyarrow.RecordBatchReader.from_batches(schema, self._batches(tables, column, size))

    def _batches(self, tables: Iterable[pyarrow.Table], column: str, size: int) -> Iterator[pyarrow.RecordBatch]:
        columns = Columns(self.names, chunk_bytes=size + size // 2, buffers=BufferPool())
        with closing(_parts(tables)) as parts:
            yield from self._blobs(parts, column, columns, size)

    def _blobs(self, parts: Iterator[Batch], column: str, columns: Columns, size: int) -> Iterator[pyarrow.RecordBatch]:
        # Rows whose digests are being looked up. The lookups of the next rows begin while these are under way.
        begun: deque[tuple[Batch, list[Any]]] = deque()
        ahead: deque[RowAnswer] = deque()

        def texts() -> Iterator[Any]:
            for rows in parts:
                keys, first = row_keys(self.store, column, rows.values(column))
                begun.append((rows, keys))
                if not first:  # many rows without a digest must not be read at once, only to find the next digest
                    return
                yield from first.values()

        def take() -> RowAnswer:
            return ahead.popleft() if ahead else next(found)

        while True:
            with closing(lookups(self.store, texts(), self.options)) as found:
                ahead.extend(islice(found, 1))  # the first answer makes the lookups read
                if not begun:
                    return
                while begun:
                    rows, keys = begun.popleft()
                    incoming = answers(keys, take, raises=self.errors == "raise")
                    for table in pieces(rows, 0, rows.rows, incoming, columns, size):
                        yield from table.to_batches()
                    if not begun:
                        ahead.extend(islice(found, 1))

    def _column_of(self, names: list[Any]) -> Any:
        """The name of the column of digests in a table that has the columns `names`."""
        column = self.column
        if column is None:
            algorithm = getattr(self.store, "algorithm", None)
            found = guessed_column(names, algorithm if isinstance(algorithm, str) else None)
            found = found or (names if len(names) == 1 else [])
            if len(set(found)) != 1:
                raise ValueError(f"say which column holds the digests (column=...); there are {quoted(names)}")
            column = found[0]
        check_column(column, names)
        self.names.check(column)
        self.names.check_room(names)
        return column


def _parts(tables: Iterable[pyarrow.Table]) -> Generator[Batch, None, None]:
    for table in tables:
        for start in range(0, table.num_rows, _ROWS):
            yield ArrowBatch(table.slice(start, _ROWS))
