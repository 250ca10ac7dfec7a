"""Lists that are a column of a Parquet file."""

from __future__ import annotations

from typing import Any

from bitstore._digests.lists.header import digest_column
from bitstore._digests.lists.rows import ListError, Row, Rows
from bitstore._frames.digest_column import column_values, holds_digests
from bitstore._support.digests import ALGORITHMS, as_text

__all__ = ["MAGIC", "read_parquet"]

MAGIC = b"PAR1"
_BUFFER = 1 << 20  # bytes; without a buffer all of a row group's column is read at once
_ROWS = 16384  # rows that are read at a time


def read_parquet(source: str, wanted: str | None, algorithm: str | None) -> tuple[Rows, str, int]:
    """The rows of a Parquet file, the name of the column that holds the digests, and how many rows there are.

    Parameters
    ----------
    source
        Path of the file.
    wanted, algorithm
        See `digest_column`.

    Raises
    ------
    ListError
        The file cannot be read, or has no such column. Reading the rows raises it where the file breaks off.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ListError(f"{source} is a Parquet file: pip install 'epic-bitstore[cli]' to read it") from error
    try:
        file = ParquetFile(source, buffer_size=_BUFFER)
        schema = file.schema_arrow
        count = int(file.metadata.num_rows)
    except Exception as error:  # a broken file makes pyarrow raise errors of all kinds, Unicode errors among them
        raise ListError(f"cannot read the Parquet file {source}: {error}") from error
    name = digest_column(schema.names, source, wanted, algorithm)
    kind = schema.field(name).type
    if pyarrow.types.is_null(kind) or not holds_digests(kind):
        raise ListError(f"column {name!r} of {source} holds {kind}: expected text, or the digests as bytes")
    return _rows(file, name, source), name, count


def _rows(file: Any, name: str, source: str) -> Rows:
    number = 0
    batches = file.iter_batches(columns=[name], batch_size=_ROWS)
    while True:
        try:
            batch = next(batches, None)
            values = [] if batch is None else column_values(batch.column(name))
        except Exception as error:  # as above
            raise ListError(f"{source} breaks off after row {number}: {error}") from error
        if batch is None:
            return
        for value in values:
            number += 1
            yield Row(number, value if isinstance(value, str) else _shown(value), value)


def _shown(value: bytes | None) -> str:
    if value is None:
        return "null"
    for kind in ALGORITHMS.values():
        if 2 * len(value) == kind.length:
            return kind.text(value)
    return as_text(value) or ""
