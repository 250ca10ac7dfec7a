"""Misses as a file for other tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from bitstore._misses.entries import COLUMNS, Miss
from bitstore._support.atomic import Draft

__all__ = ["FORMATS", "as_csv", "export"]

FORMATS = (".parquet", ".csv", ".jsonl", ".txt")
_ROWS = 65_536  # of a group of rows


def export(path: Path, misses: Iterable[Miss]) -> int:
    """Write a file in the format that its name says. Returns the number of misses. Raises ValueError and `OSError`."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ValueError(f"{path}: give it a name that ends in one of {', '.join(FORMATS)}")
    counted = _Counted(misses)
    with Draft(path) as draft:
        if kind == ".parquet":
            _parquet(draft.path, counted)
        else:
            with draft.path.open("x", encoding="utf-8", newline="") as file:
                if kind == ".csv":
                    as_csv(file, counted)
                else:
                    for miss in counted:
                        file.write(f"{miss.digest if kind == '.txt' else json.dumps(miss.as_dict())}\n")
        draft.publish()
    return counted.count


def as_csv(file: TextIO, misses: Iterable[Miss], *, head: bool = True) -> None:
    """Write misses as a table of CSV (https://www.rfc-editor.org/rfc/rfc4180), with a header. Raises `OSError`."""
    rows = csv.writer(file, lineterminator="\n")
    if head:
        rows.writerow(COLUMNS)
    rows.writerows(miss.as_dict().values() for miss in misses)


class _Counted:
    """Misses, and how many there were."""

    def __init__(self, misses: Iterable[Miss]) -> None:
        self._misses = misses
        self.count = 0

    def __iter__(self) -> Iterator[Miss]:
        for miss in self._misses:
            self.count += 1
            yield miss


def _parquet(path: Path, misses: Iterable[Miss]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError("a .parquet file needs pyarrow: pip install 'epic-bitstore[cli]'") from error
    text: Any = pa.string()
    kinds = {"at": pa.timestamp("us", "UTC"), "expired": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    left = iter(misses)
    with path.open("xb") as opened, pq.ParquetWriter(opened, schema, compression="zstd") as writer:
        while some := list(islice(left, _ROWS)):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*some, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
