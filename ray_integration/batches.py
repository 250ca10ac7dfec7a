"""A batch of rows as Ray Data hands it over: an Arrow table, a pandas frame or a dict of NumPy arrays.

New columns are Arrow arrays in all three, because only Arrow's types say what a column holds when no row of
it holds anything: a NumPy array of nothing but None would make the column's type `null`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

__all__ = ["Batch", "check_text_type", "open_batch"]


class Batch(ABC):
    """One batch.

    Attributes
    ----------
    names
        Its columns.
    rows
        How many rows it has.
    """

    names: list[str]
    rows: int

    @abstractmethod
    def texts(self, column: str) -> list[Any]:
        """The values of a column of text; None where it is null.

        A column of Python objects may hold anything: what is not a str is returned as it is.

        Raises
        ------
        TypeError
            The column cannot hold text.
        """

    @abstractmethod
    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> Any:
        """Rows `start` to `stop`, in the batch's own format, with columns added that hold the values of these rows."""


class _ArrowBatch(Batch):
    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table
        self.names = list(table.column_names)
        self.rows = table.num_rows

    def texts(self, column: str) -> list[Any]:
        values = self._table.column(column)
        check_text_type(column, values.type)
        return list(values.to_pylist())

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> pyarrow.Table:
        table = self._table.slice(start, stop - start)
        for name, values in added.items():
            table = table.append_column(name, values)
        return table


class _PandasBatch(Batch):
    def __init__(self, frame: pandas.DataFrame) -> None:
        self._frame = frame
        self.names = [str(name) for name in frame.columns]
        self.rows = len(frame)

    def texts(self, column: str) -> list[Any]:
        import pandas

        series = self._frame[column]
        null = series.isna()
        dtype = series.cat.categories.dtype if isinstance(series.dtype, pandas.CategoricalDtype) else series.dtype
        if isinstance(dtype, pandas.ArrowDtype):
            check_text_type(column, dtype.pyarrow_dtype)
        elif not (dtype.kind == "O" or isinstance(dtype, pandas.StringDtype) or null.all()):
            raise _not_text(column, dtype)
        return [None if absent else value for value, absent in zip(series.tolist(), null.tolist(), strict=True)]

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> pandas.DataFrame:
        import pandas

        # Columns of their own dtype, which Ray (and to_arrow) turns back into these very arrays.
        columns = {name: pandas.arrays.ArrowExtensionArray(values) for name, values in added.items()}
        return self._frame.iloc[start:stop].assign(**columns)


class _NumpyBatch(Batch):
    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns
        self.names = list(columns)
        self.rows = len(next(iter(columns.values()))) if columns else 0

    def texts(self, column: str) -> list[Any]:
        import numpy

        values = self._columns[column]
        if isinstance(values, list):
            return [None if _is_nan(value) else value for value in values]
        array: numpy.ndarray[Any, Any] = numpy.asarray(values)
        kind = array.dtype.kind
        # "T" is NumPy 2's StringDType; a column of nothing but nulls may come as floats, which say nan for them.
        text = kind in "OUT" or (kind == "f" and bool(numpy.isnan(array).all()))
        if array.ndim != 1 or not text:
            raise _not_text(column, array.dtype if array.ndim == 1 else f"{array.ndim}-dimensional {array.dtype}")
        return [None if _is_nan(value) else value for value in array.tolist()]

    def part(self, start: int, stop: int, added: dict[str, pyarrow.ChunkedArray]) -> dict[str, Any]:
        # Ray takes Arrow arrays as columns of a dict, with their types; each in one piece.
        whole = {name: values.combine_chunks() for name, values in added.items()}
        return {name: values[start:stop] for name, values in self._columns.items()} | whole


def open_batch(batch: Any) -> Batch:
    """The batch, whichever of Ray's formats it has.

    Raises
    ------
    TypeError
        It has none of them.
    """
    if isinstance(batch, Mapping):
        return _NumpyBatch(batch)
    # By name: importing both to find out that it is one of them would cost a second.
    module = type(batch).__module__.partition(".")[0]
    if module == "pyarrow" and hasattr(batch, "column_names"):
        return _ArrowBatch(batch)
    if hasattr(batch, "iloc") and module == "pandas":
        return _PandasBatch(batch)
    raise TypeError(
        "expected a batch as pyarrow.Table, pandas.DataFrame or dict of NumPy arrays "
        f"(batch_format='pyarrow', 'pandas' or 'numpy'), got {type(batch).__module__}.{type(batch).__qualname__}"
    )


def check_text_type(column: str, dtype: Any) -> None:
    """Raise TypeError unless a column of this Arrow type can hold text (or holds nothing but nulls)."""
    from pyarrow import types

    value_type = dtype.value_type if types.is_dictionary(dtype) else dtype
    if types.is_string(value_type) or types.is_large_string(value_type) or types.is_null(value_type):
        return
    if str(value_type) != "string_view":  # by name, because older releases of Arrow have no test for it
        raise _not_text(column, dtype)


def _not_text(column: str, dtype: object) -> TypeError:
    hint = "; a digest of raw bytes is written as text by .hex()" if "binary" in str(dtype) else ""
    return TypeError(f"column '{column}' has the type {dtype}, but it must be text (hexadecimal digests){hint}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
