"""The digests of a list for an index, whole columns of Parquet at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from bitstore._digests.hash_list import HashList, ListError
from bitstore._frames.digest_column import column_values
from bitstore._indexing.reading import Reading
from bitstore._support.digests import Algorithm
from bitstore.index import IndexBuilder

__all__ = ["add_list", "list_moment", "opened"]

_PORTION = 65_536  # entries
_BUFFER = 1 << 20  # bytes; see `bitstore._digests.lists.parquet`

Refuse = Callable[[int, str, str], object]


def list_moment(source: str) -> datetime:
    """Up to which moment a list can be complete: when its file was written; of standard input now."""
    now = datetime.now(timezone.utc)
    if source == "-":
        return now
    try:
        return min(now, datetime.fromtimestamp(Path(source).stat().st_mtime, timezone.utc))
    except (OSError, ValueError, OverflowError) as error:
        raise ListError(f"cannot read the list {source}: {getattr(error, 'strerror', None) or error}") from error


def add_list(builder: IndexBuilder, source: str, entries: HashList, reading: Reading, refuse: Refuse) -> None:
    """Add all digests of a list.

    Parameters
    ----------
    source
        Path of the list.
    entries
        The list, opened.
    refuse
        Takes the number, the text and the fault of each entry that is no digest.

    Raises
    ------
    ListError
        The list breaks off.
    """
    if entries.parquet_column is not None:
        _add_column(builder, source, entries.parquet_column, entries.algorithm, reading, refuse)
        return
    left = iter(entries)
    while portion := list(islice(left, _PORTION)):
        digests = [entry.digest for entry in portion if entry.digest is not None]
        builder.add(digests)
        for number, text, digest, reason in portion if len(digests) < len(portion) else ():
            if digest is None:
                refuse(number, text, reason)
        reading.add(len(digests), len(portion) - len(digests))


def _add_column(
    builder: IndexBuilder, source: str, name: str, algorithm: Algorithm, reading: Reading, refuse: Refuse
) -> None:
    for begin, column in _batches(source, name):
        number = begin
        raw = _raw(column, algorithm)
        if raw is not None:
            builder.add_raw(raw)
            reading.add(len(column), 0)
            continue
        digests, values = [], column_values(column)
        for value in values:
            number += 1
            digest, reason = algorithm.read(value)
            if digest is None:
                refuse(number, "null" if value is None else str(value), reason)
            else:
                digests.append(digest)
        builder.add(digests)
        reading.add(len(digests), len(values) - len(digests))


def _batches(source: str, name: str) -> Iterator[tuple[int, Any]]:
    """The column in portions, each with the number of rows before it."""
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(source, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(columns=[name], batch_size=_PORTION):
                yield number, batch.column(0)
                number += len(batch)
    except Exception as error:  # a broken file makes pyarrow raise errors of all kinds
        raise ListError(f"{source} breaks off after row {number}: {error}") from error


def _raw(column: Any, algorithm: Algorithm) -> bytes | None:
    """The raw digests of a column that holds nothing else; None: each value has to be looked at."""
    import pyarrow
    import pyarrow.compute

    types = pyarrow.types
    size = algorithm.length // 2
    if column.null_count or not len(column):
        return None
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = types.is_string(column.type) or types.is_large_string(column.type)
    is_bytes = types.is_binary(column.type) or types.is_large_binary(column.type)
    if types.is_fixed_size_binary(column.type):
        if column.type.byte_width != size:
            return None
        start = column.offset * size
        held = bytes(memoryview(column.buffers()[1])[start : start + len(column) * size])
        return None if size == 32 and not _unlike_text(held) else held
    if not (is_text or is_bytes):
        return None
    lengths = pyarrow.compute.min_max(pyarrow.compute.binary_length(column)).as_py()
    if lengths["min"] != lengths["max"] or lengths["max"] not in (size, algorithm.length):
        return None
    first = pyarrow.compute.binary_length(column[0]).as_py()
    offsets = memoryview(column.buffers()[1]).cast("q" if "large" in str(column.type) else "i")
    start = offsets[column.offset]
    data = bytes(memoryview(column.buffers()[2])[start : start + len(column) * first])
    if first == algorithm.length:
        return _from_hex(data)
    return data if is_bytes and not (size == 32 and not _unlike_text(data)) else None


def _from_hex(data: bytes) -> bytes | None:
    try:
        raw = bytes.fromhex(data.decode("ascii"))
    except ValueError:
        return None
    return raw if 2 * len(raw) == len(data) else None  # fromhex passes over blanks


def _unlike_text(data: bytes) -> bool:
    """Whether bytes cannot be the texts of digests of another algorithm: a raw SHA-256 has as many bytes as an MD5."""
    return any(byte not in b"0123456789abcdefABCDEF" for byte in data[:32])


def opened(source: str, *, column: str | None, algorithm: str | None) -> HashList:
    """The list at `source`. Raises `ListError`."""
    if source == "-" and sys.stdin is None:
        raise ListError("standard input is closed: name a file that holds the list")
    return HashList(source, column=column, algorithm=algorithm)
