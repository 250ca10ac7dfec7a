"""A batch of rows: an Arrow table, a frame of pandas or Polars, or a dict of NumPy arrays.

New columns are made of Arrow arrays in all of them, because only Arrow's types say what a column holds when no row of
it holds anything: a NumPy array of nothing but None would make the column's type `null`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bitstore._frames.digest_column import check_digest_type, column_values, no_digests

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

__all__ = ["ArrowBatch", "Batch", "PandasBatch", "PolarsBatch", "library_of", "open_batch"]

_RAW_BYTES = (16, 20, 32)  # bytes of a raw md5, sha1 and sha256


class Batch(ABC):
    """One batch."""

    names: list[Any]  # of the columns: str, but for those of pandas, which may be anything
    rows: int

    @abstractmethod
    def values(self, column: Any) -> list[Any]:
        """The values of the column of digests.

        Text is str, or bytes where it is not UTF-8. A column of Python objects may hold anything.

        Raises
        ------
        TypeError
            The column's type can hold neither text nor bytes.
        """

    @abstractmethod
    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> Any:
        """Rows `start` to `stop` in the batch's own format, with the columns `added` that hold values of these rows."""


class ArrowBatch(Batch):
    """A table of Arrow."""

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table
        self.names = list(table.column_names)
        self.rows = table.num_rows

    def values(self, column: str) -> list[Any]:
        values = self._table.column(column)
        check_digest_type(column, values.type)
        return column_values(values)

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> pyarrow.Table:
        table = self._table.slice(start, stop - start)
        for name, values in added.items():
            table = table.append_column(name, values)
        return table


class PandasBatch(Batch):
    """A frame of pandas."""

    def __init__(self, frame: pandas.DataFrame) -> None:
        self._frame = frame
        self.names = list(frame.columns)
        self.rows = len(frame)

    def values(self, column: Any) -> list[Any]:
        import pandas

        series = self._frame[column]
        dtype = series.cat.categories.dtype if isinstance(series.dtype, pandas.CategoricalDtype) else series.dtype
        if isinstance(dtype, pandas.ArrowDtype):
            check_digest_type(column, dtype.pyarrow_dtype)
            if series.dtype == dtype:  # text of Arrow that is not UTF-8 is bytes only if pandas does not convert it
                return column_values(series.array.__arrow_array__())
        elif not (dtype.kind in "OSV" or isinstance(dtype, pandas.StringDtype) or series.isna().all()):
            raise no_digests(column, dtype)
        return list(series.tolist())

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> pandas.DataFrame:
        import pandas

        # Columns of their own dtype, which Ray (and to_arrow) turns back into these very arrays.
        columns = {name: pandas.arrays.ArrowExtensionArray(values) for name, values in added.items()}
        return self._frame.iloc[start:stop].assign(**columns)


class PolarsBatch(Batch):
    """A frame of Polars."""

    def __init__(self, frame: polars.DataFrame) -> None:
        self._frame = frame
        self.names = frame.columns
        self.rows = frame.height

    def values(self, column: str) -> list[Any]:
        import polars

        series = self._frame.get_column(column)
        kinds = (polars.String, polars.Binary, polars.Categorical, polars.Enum, polars.Null, polars.Object)
        if series.dtype not in kinds:
            raise no_digests(column, series.dtype)
        return series.to_list()

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> polars.DataFrame:
        import polars

        columns = [polars.Series(name, polars.from_arrow(values)) for name, values in added.items()]
        return self._frame.slice(start, stop - start).with_columns(columns)


class _NumpyBatch(Batch):
    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns
        self.names = list(columns)
        self.rows = len(next(iter(columns.values()))) if columns else 0

    def values(self, column: str) -> list[Any]:
        import numpy

        values = self._columns[column]
        if isinstance(values, list):
            return list(values)
        array: numpy.ndarray[Any, Any] = numpy.asarray(values)
        kind = array.dtype.kind
        # "T" is NumPy 2's StringDType; a column of nothing but nulls may come as floats that are all nan.
        text = kind in "OUTSV" or (kind == "f" and bool(numpy.isnan(array).all()))
        if array.ndim != 1 or not text:
            raise no_digests(column, array.dtype if array.ndim == 1 else f"{array.ndim}-dimensional {array.dtype}")
        if kind == "S" and array.dtype.itemsize in _RAW_BYTES:
            # NumPy leaves out the zeros at the end of such a value, and a raw digest may end in zeros.
            return [value.ljust(array.dtype.itemsize, b"\0") for value in array.tolist()]
        return list(array.tolist())

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> dict[str, Any]:
        # Ray takes Arrow arrays as columns of a dict, with their types; each in one piece.
        whole = {name: values.combine_chunks() for name, values in added.items()}
        return {name: values[start:stop] for name, values in self._columns.items()} | whole


def open_batch(batch: Any) -> Batch:
    """The batch, whichever of Ray's formats it has. TypeError: none of them."""
    if isinstance(batch, Mapping):
        return _NumpyBatch(batch)
    library = library_of(batch)
    if library == "pyarrow" and hasattr(batch, "column_names"):
        return ArrowBatch(batch)
    if library == "pandas" and hasattr(batch, "columns"):
        return PandasBatch(batch)
    raise TypeError(
        "expected a batch as pyarrow.Table, pandas.DataFrame or dict of NumPy arrays "
        f"(batch_format='pyarrow', 'pandas' or 'numpy'), got {type(batch).__module__}.{type(batch).__qualname__}"
    )


def library_of(value: Any) -> str:
    """`"pyarrow"`, `"pandas"` or `"polars"`, if it made the class of `value` or a base of it; else `""`.

    By name: importing all three to find out would cost a second.
    """
    modules = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    return next((module for module in modules if module in ("pyarrow", "pandas", "polars")), "")
