"""Parquet, Arrow and CSV files as sorted tables of references."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.references._names import chosen
from bitstore.references._table import WHOLE, write_columns

__all__ = ["compile_columns"]

_DIGITS = b"0123456789abcdef"


def compile_columns(
    source: Path, target: Path, algorithm: str, columns: Mapping[str, str], description: Mapping[str, Any]
) -> None:
    """Write the table of a Parquet, Arrow (Feather) or CSV file, about 100 bytes of memory a row.

    Rows without a digest are left out. Of several places of one digest the first one counts.

    Raises
    ------
    ValueError
        The file is none of these or damaged, lacks a column, or a row is no reference; the text names it.
    ImportError
        pyarrow is not installed.
    OSError
        A file cannot be read or written.
    """
    try:
        import numpy
        import pyarrow
    except ImportError as error:
        raise ImportError(f"{source}: reading it needs pyarrow: pip install 'epic-bitstore[frames]'") from error
    size = digest_algorithm(algorithm).length // 2
    digests, offsets, lengths, numbers = [], [], [], []
    known: dict[bytes, int] = {}
    before = 0
    try:
        for batch, named in _batches(pyarrow, source, columns, algorithm):
            where = f"{source}: row "
            column = _plain(pyarrow, batch.column(named["digest"]))
            there = column.is_valid()
            keep = numpy.asarray(there)
            rows = before + numpy.flatnonzero(keep)
            before += len(batch)
            batch = batch.filter(there)
            digests.append(
                _raw(numpy, pyarrow, _plain(pyarrow, batch.column(named["digest"])), size, rows, where, algorithm)
            )
            numbers.append(_urls(numpy, pyarrow, _plain(pyarrow, batch.column(named["url"])), known, rows, where))
            start, length = _extents(numpy, pyarrow, batch, named, rows, where)
            offsets.append(start)
            lengths.append(length)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{source}: {error}") from error
    keys = numpy.concatenate(digests) if digests else numpy.zeros((0, size), numpy.uint8)
    texts = numpy.ascontiguousarray(keys).view(f"S{size}").reshape(-1)
    order = numpy.argsort(texts, kind="stable")
    texts = texts[order]
    first = numpy.ones(len(texts), bool)
    first[1:] = texts[1:] != texts[:-1]
    order = order[first]

    def sorted_(parts: list[Any], code: str) -> Any:
        return numpy.ascontiguousarray(numpy.concatenate(parts)[order], code) if parts else numpy.zeros(0, code)

    write_columns(
        target,
        algorithm,
        numpy.ascontiguousarray(keys[order]),
        sorted_(offsets, "<u8"),
        sorted_(lengths, "<u8"),
        sorted_(numbers, "<u4"),
        list(known),
        description,
    )


def _batches(
    pyarrow: Any, source: Path, columns: Mapping[str, str], algorithm: str
) -> Iterator[tuple[Any, dict[str, str]]]:
    with open(source, "rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PAR1"):
        from pyarrow import parquet

        with parquet.ParquetFile(os.fspath(source)) as table:
            named = chosen(table.schema_arrow.names, columns, algorithm, str(source))
            for batch in table.iter_batches(columns=list(dict.fromkeys(named.values()))):
                yield batch, named
    elif magic == b"ARROW1":
        with pyarrow.memory_map(os.fspath(source)) as mapped, pyarrow.ipc.open_file(mapped) as table:
            named = chosen(table.schema.names, columns, algorithm, str(source))
            for number in range(table.num_record_batches):
                yield table.get_batch(number).select(list(dict.fromkeys(named.values()))), named
    else:
        from pyarrow import csv

        with csv.open_csv(os.fspath(source)) as table:
            named = chosen(table.schema.names, columns, algorithm, str(source))
        # A column of digests that begins with digits alone would be taken for numbers.
        types = {named["digest"]: pyarrow.string(), named["url"]: pyarrow.string()}
        types |= {named[part]: pyarrow.int64() for part in ("offset", "length") if part in named}
        options = csv.ConvertOptions(
            column_types=types,
            include_columns=list(dict.fromkeys(named.values())),
            strings_can_be_null=True,
            null_values=[""],
        )
        with csv.open_csv(os.fspath(source), convert_options=options) as table:
            for batch in table:
                yield batch, named


def _plain(pyarrow: Any, column: Any) -> Any:
    """A column of a dictionary as its values, and every kind of text and bytes as one kind of each."""
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or _is_view(pyarrow, kind, "string"):
        return column.cast(pyarrow.large_string())
    if pyarrow.types.is_binary(kind) or pyarrow.types.is_fixed_size_binary(kind) or _is_view(pyarrow, kind, "binary"):
        return column.cast(pyarrow.large_binary())
    return column


def _is_view(pyarrow: Any, kind: Any, name: str) -> bool:
    test = getattr(pyarrow.types, f"is_{name}_view", None)
    return test is not None and bool(test(kind))


def _text(numpy: Any, column: Any) -> tuple[Any, Any]:
    """The bytes of a column of texts, and where each of them begins and ends."""
    _, ends, data = column.buffers()
    begins = numpy.frombuffer(ends, "<i8")[column.offset : column.offset + len(column) + 1]
    return numpy.frombuffer(data, numpy.uint8) if data is not None else numpy.zeros(0, numpy.uint8), begins


def _raw(numpy: Any, pyarrow: Any, column: Any, size: int, rows: Any, where: str, algorithm: str) -> Any:
    """Raw digests, a row of an array each."""
    if not (pyarrow.types.is_large_string(column.type) or pyarrow.types.is_large_binary(column.type)):
        raise ValueError(f"{where[:-6]} the column of digests has the type {column.type}: expected text or bytes")
    if not len(column):
        return numpy.zeros((0, size), numpy.uint8)
    data, begins = _text(numpy, column)
    lengths = numpy.diff(begins)
    raw = pyarrow.types.is_large_binary(column.type) and bool((lengths == size).all())
    width = size if raw else 2 * size
    if not (lengths == width).all():
        _refuse(rows, column, int(numpy.flatnonzero(lengths != width)[0]), where, algorithm)
    cells = data[begins[0] : begins[-1]].reshape(-1, width)
    if raw:
        return cells
    values = numpy.full(256, 255, numpy.uint8)
    for value, digit in enumerate(_DIGITS):
        values[digit] = values[ord(chr(digit).upper())] = value
    nibbles = values[cells]
    wrong = (nibbles == 255).any(axis=1)
    if wrong.any():
        _refuse(rows, column, int(numpy.flatnonzero(wrong)[0]), where, algorithm)
    return (nibbles[:, 0::2] << 4) | nibbles[:, 1::2]


def _refuse(rows: Any, column: Any, at: int, where: str, algorithm: str) -> None:
    raise ValueError(f"{where}{rows[at]}: {column[at].as_py()!r} is no digest of {algorithm}")


def _urls(numpy: Any, pyarrow: Any, column: Any, known: dict[bytes, int], rows: Any, where: str) -> Any:
    """The number of each URL in `known`, which grows."""
    if not pyarrow.types.is_large_string(column.type):
        raise ValueError(f"{where[:-6]} the column of URLs has the type {column.type}: expected text")
    empty = column.null_count or (
        len(column) and pyarrow.compute.min(pyarrow.compute.binary_length(column)).as_py() == 0
    )
    if empty:
        at = next(at for at, value in enumerate(column.to_pylist()) if not value)
        raise ValueError(f"{where}{rows[at]}: it has a digest and no URL")
    encoded = column.dictionary_encode()
    numbers = numpy.array(
        [known.setdefault(url.encode(), len(known)) for url in encoded.dictionary.to_pylist()], numpy.uint32
    )
    return numbers[encoded.indices.to_numpy(zero_copy_only=False)] if len(column) else numbers


def _extents(numpy: Any, pyarrow: Any, batch: Any, named: Mapping[str, str], rows: Any, where: str) -> tuple[Any, Any]:
    """Offsets and lengths; a row without a length is a whole object."""
    count = len(batch)
    if "offset" not in named:
        return numpy.zeros(count, "<u8"), numpy.full(count, WHOLE, "<u8")
    found = []
    absent = []
    for part in ("offset", "length"):
        column = batch.column(named[part])
        if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_null(column.type)):
            raise ValueError(
                f"{where[:-6]} the column {named[part]!r} has the type {column.type}: expected whole numbers"
            )
        absent.append(numpy.asarray(column.is_null()))
        values = column.cast(pyarrow.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        if (values < 0).any():
            at = int(numpy.flatnonzero(values < 0)[0])
            raise ValueError(f"{where}{rows[at]}: the {part} is {values[at]}: expected a number of bytes")
        found.append(values.astype("<u8"))
    offsets, lengths = found
    whole = absent[1]
    if (odd := whole & (offsets > 0)).any():
        raise ValueError(f"{where}{rows[int(numpy.flatnonzero(odd)[0])]}: it has an offset and no length")
    lengths[whole] = WHOLE
    return offsets, lengths
