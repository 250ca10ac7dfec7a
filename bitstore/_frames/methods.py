"""The methods of a store that return tables. Nothing of Arrow, pandas or Polars is imported before they are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow
    from typing_extensions import Unpack

    from bitstore._frames.frame_options import FrameOptions
    from bitstore._frames.row_answer import RowErrors
    from bitstore._frames.tables import TableLookup

__all__ = ["FrameMethods"]


class FrameMethods:
    """Tables with the blobs of their digests."""

    @overload
    def get_frame(
        self, frame: pandas.DataFrame | pandas.Series[Any], column: Any = None, **options: Unpack[FrameOptions]
    ) -> pandas.DataFrame: ...

    @overload
    def get_frame(
        self, frame: polars.DataFrame | polars.Series, column: str | None = None, **options: Unpack[FrameOptions]
    ) -> polars.DataFrame: ...

    def get_frame(
        self,
        frame: Any,
        column: Any = None,
        *,
        errors: RowErrors = "return",
        data_column: str = "data",
        source_column: str = "source",
        error_column: str = "error",
        kind_column: str | None = "kind",
        timeout: float | None = None,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
    ) -> Any:
        """The frame with the blobs of its digests. Rows keep their order, and in pandas their index.

        All columns stay as they are, and four come on top: `data` (binary; null unless found), `source` (text: the
        store or tier that had it; null unless found), `error` (text: why there is no blob; null if found, and never
        else) and `kind` (text, the word that the error begins with): `missing`: every store that could hold the blob
        said that it does not; `failed`: the lookup failed, whether the blob exists is unknown; `invalid`: the row names
        no blob (null, a number, malformed). Their types are always these, also in an empty frame; in pandas they are
        Arrow's (`ArrowDtype`). A digest that occurs in several rows, in either case, is looked up once.

        Parameters
        ----------
        frame
            A `DataFrame` or `Series` of pandas or Polars. It is not changed.
        column
            The column of digests (of URLs, for a store that is addressed by URL): text or bytes; raw digests are
            digests too. None: the only column, or the one called like the store's algorithm, `digest` or `hash`. For a
            series: what it is called in the result; None: its own name.
        errors
            `"return"`: a row without a blob says why; `"raise"`: the first such row raises its error.
        data_column, source_column, error_column, kind_column
            Names for the new columns. `kind_column=None`: no such column.
        timeout, in_flight, max_bytes, patience
            As in `get_many`; `max_bytes` bounds what is held besides the result.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            As `frame`. It holds all blobs in memory: see `get_batches` where they exceed it.

        Raises
        ------
        TypeError
            `frame` is no such frame, or its column can hold neither text nor bytes.
        ValueError
            There is no such column, or one of a new column's name already; an option that makes no sense.
        ImportError
            pyarrow is not installed.
        """
        from bitstore._frames.inputs import as_frame

        rows, column = as_frame(frame, column, self._series_name())
        return self._table_lookup(
            column,
            (data_column, source_column, error_column, kind_column),
            errors,
            {"timeout": timeout, "in_flight": in_flight, "max_bytes": max_bytes, "patience": patience},
        ).whole(rows)

    def get_table(
        self,
        table: Any,
        column: str | None = None,
        *,
        errors: RowErrors = "return",
        data_column: str = "data",
        source_column: str = "source",
        error_column: str = "error",
        kind_column: str | None = "kind",
        timeout: float | None = None,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
    ) -> pyarrow.Table:
        """`get_frame` for Arrow: the table with the blobs of its digests.

        Parameters
        ----------
        table
            A `Table`, `RecordBatch`, `Array` or `ChunkedArray`, or what exports a table by Arrow's PyCapsule interface
            (https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).
        column
            As in `get_frame`; for an array: what it is called in the result.
        errors, data_column, source_column, error_column, kind_column, timeout, in_flight, max_bytes, patience
            As in `get_frame`.

        Returns
        -------
        pyarrow.Table
            `data` is of the type `large_binary`, in chunks; the other new columns are of the type `string`.

        Raises
        ------
        TypeError, ValueError, ImportError
            As in `get_frame`.
        """
        from bitstore._frames.inputs import as_arrow

        rows, column = as_arrow(table, column, self._series_name())
        found: pyarrow.Table = self._table_lookup(
            column,
            (data_column, source_column, error_column, kind_column),
            errors,
            {"timeout": timeout, "in_flight": in_flight, "max_bytes": max_bytes, "patience": patience},
        ).whole(rows)
        return found

    def get_batches(
        self,
        batches: pyarrow.RecordBatchReader | Iterable[pyarrow.RecordBatch] | Any,
        column: str | None = None,
        *,
        errors: RowErrors = "return",
        data_column: str = "data",
        source_column: str = "source",
        error_column: str = "error",
        kind_column: str | None = "kind",
        timeout: float | None = None,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
        batch_bytes: int | str = "64MiB",
    ) -> pyarrow.RecordBatchReader:
        """`get_table` in bounded memory: batches are read as they are looked up, and answered as they are taken.

        The batches that come do not have the sizes of those that went in: they end where their blobs exceed
        `batch_bytes`, and after 16384 rows. A blob that occurs several times in these rows is looked up once and held
        from its first row to its last; one that occurs again later is looked up again.

        Parameters
        ----------
        batches
            A `RecordBatchReader`, `Table`, `Dataset` or `Scanner`, what exports a stream by Arrow's PyCapsule
            interface, or an iterable of batches with the same columns, such as `ParquetFile.iter_batches()`.
        column, errors, data_column, source_column, error_column, kind_column, timeout, in_flight, max_bytes, patience
            As in `get_frame`.
        batch_bytes
            A batch ends when it has more bytes of blobs than this (a number, or a size such as `"64MiB"`). None has
            more than half as much again, except that a larger blob makes a batch of its own.

        Returns
        -------
        pyarrow.RecordBatchReader
            An iterator of batches that knows their columns (`schema`): what `pyarrow.dataset.write_dataset` and other
            readers of Arrow streams take. Lookups end when it is deleted.

        Raises
        ------
        TypeError, ValueError, ImportError
            As in `get_frame`; also ValueError where there is no batch at all to say which columns there are. Reading
            the batches raises what reading `batches` raises.
        """
        from bitstore._frames.inputs import as_tables
        from bitstore._support.sizes import parse_size

        size = parse_size(batch_bytes, name="batch_bytes")
        lookup = self._table_lookup(
            column,
            (data_column, source_column, error_column, kind_column),
            errors,
            {"timeout": timeout, "in_flight": in_flight, "max_bytes": max_bytes, "patience": patience},
        )
        schema, tables = as_tables(batches)
        return lookup.stream(tables, schema, size)

    def _table_lookup(
        self, column: Any, names: tuple[str, str, str, str | None], errors: RowErrors, options: dict[str, Any]
    ) -> TableLookup:
        from bitstore._frames.columns import ColumnNames
        from bitstore._frames.tables import TableLookup
        from bitstore._lookup.options import LookupOptions

        return TableLookup(self, column, ColumnNames(*names), errors, LookupOptions(**options))

    def _series_name(self) -> str:
        """What a series or an array without a name is called."""
        algorithm = getattr(self, "algorithm", None)
        return algorithm if isinstance(algorithm, str) else "uri"
