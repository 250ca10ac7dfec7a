"""What callers pass as a table, a frame or a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from bitstore._frames.batches import ArrowBatch, Batch, PandasBatch, PolarsBatch, library_of

if TYPE_CHECKING:
    import pyarrow

__all__ = ["as_arrow", "as_frame", "as_tables"]

_STREAM = "__arrow_c_stream__"  # https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html


def as_frame(frame: Any, column: Any, name: str) -> tuple[Batch, Any]:
    """A frame or series of pandas or Polars, and the name of its column of digests, if that is known.

    Parameters
    ----------
    frame
        What the caller passed.
    column
        The column that the caller named.
    name
        What the only column is called if neither the caller nor the series has a name for it.

    Raises
    ------
    TypeError
        `frame` is something else.
    """
    _need_pyarrow()
    library = library_of(frame)
    frame, column = _framed(frame, column, name)
    if library in ("pandas", "polars") and _kind_of(frame) == "DataFrame":
        return PandasBatch(frame) if library == "pandas" else PolarsBatch(frame), column
    raise _refused("a DataFrame or Series of pandas or Polars", frame, "get_table" if library == "pyarrow" else None)


def as_arrow(table: Any, column: Any, name: str) -> tuple[Batch, Any]:
    """A table of Arrow, and the name of its column of digests, if that is known.

    Parameters
    ----------
    table
        What the caller passed: a table, a batch, an array, or anything that exports one of these to Arrow.
    column, name
        As for `as_frame`.

    Raises
    ------
    TypeError
        `table` is something else.
    """
    _need_pyarrow()
    import pyarrow

    table, column = _framed(table, column, name)
    if isinstance(table, (pyarrow.Array, pyarrow.ChunkedArray)):
        column = name if column is None else column
        table = pyarrow.table({column: table})
    if isinstance(table, pyarrow.RecordBatch):
        table = pyarrow.Table.from_batches([table])
    if not isinstance(table, pyarrow.Table):
        if not hasattr(table, _STREAM):
            raise _refused("a table or an array of Arrow", table)
        table = pyarrow.table(table)
    return ArrowBatch(table), column


def as_tables(batches: Any) -> tuple[pyarrow.Schema, Iterator[pyarrow.Table]]:
    """The columns of a stream, and its rows as tables.

    Parameters
    ----------
    batches
        A reader of batches, a table, a dataset or a scanner of Arrow, anything that exports a stream to Arrow, or an
        iterable of batches or tables.

    Raises
    ------
    TypeError
        `batches` is something else. Reading the tables raises it where one of them is something else.
    ValueError
        An iterable is empty. Reading the tables raises it where a batch has other columns than the first one.
    """
    _need_pyarrow()
    import pyarrow

    if _kind_of(batches) == "Series":
        raise _refused("a RecordBatchReader or an iterable of batches of Arrow", batches, "get_frame")
    if hasattr(batches, "scanner"):
        batches = batches.scanner()
    if hasattr(batches, "to_reader"):
        batches = batches.to_reader()
    if hasattr(batches, _STREAM) and not isinstance(batches, pyarrow.RecordBatchReader):
        batches = pyarrow.RecordBatchReader.from_stream(batches)
    if isinstance(batches, pyarrow.RecordBatchReader):
        return batches.schema, map(_table, batches)
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, dict)) or library_of(batches):
        raise _refused("a RecordBatchReader or an iterable of batches of Arrow", batches)
    tables = map(_table, batches)
    first = next(tables, None)
    if first is None:
        raise ValueError("there is no batch to say which columns there are; a RecordBatchReader may be empty")
    return first.schema, _alike(first, tables)


def _alike(first: pyarrow.Table, others: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    # Arrow does not check the batches of a reader, and reads memory that is not there.
    for number, table in enumerate(chain([first], others)):
        if not table.schema.equals(first.schema):
            told = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
            raise ValueError(f"batch {number} has other columns than the first one: {told}")
        yield table


def _table(batch: Any) -> pyarrow.Table:
    import pyarrow

    if isinstance(batch, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([batch])
    if isinstance(batch, pyarrow.Table) or hasattr(batch, _STREAM):
        return pyarrow.table(batch)
    raise _refused("a RecordBatch or a table of Arrow", batch)


def _framed(value: Any, column: Any, name: str) -> tuple[Any, Any]:
    """A series as a frame and the name of its column; anything else as it is."""
    if _kind_of(value) != "Series" or not library_of(value):
        return value, column
    given = column if column is not None else name if value.name in (None, "") else value.name
    return value.to_frame(given), given


def _kind_of(value: Any) -> str:
    """`"DataFrame"`, `"Series"` or `"LazyFrame"`, if the class of `value` is one or has it as a base; else `""`."""
    names = (base.__name__ for base in type(value).__mro__)
    return next((name for name in names if name in ("DataFrame", "Series", "LazyFrame")), "")


def _refused(expected: str, value: Any, method: str | None = None) -> TypeError:
    advice = f"; {method} takes it" if method else ""
    advice = ": its rows are not known before collect() is called" if _kind_of(value) == "LazyFrame" else advice
    return TypeError(f"expected {expected}, got {type(value).__module__}.{type(value).__qualname__}{advice}")


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError("tables of blobs need pyarrow: pip install 'epic-bitstore[frames]'") from error
