"""A file with references as a table that answers: as it is, or compiled into one that does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bitstore._support.file_lock import lock_within
from bitstore.references._columns import compile_columns
from bitstore.references._sqlite import SQLiteTable
from bitstore.references._table import MAGIC, DamagedReferences, ReferenceTable

__all__ = ["OpenedTable", "mark_of", "open_table"]

_LOCK_SECONDS = 600.0  # that another process may compile the table: longer than that of a hundred million rows takes
_LOOK_AGAIN = 0.05  # seconds between two tries to lock it


class OpenedTable(NamedTuple):
    """A table that answers."""

    table: ReferenceTable | SQLiteTable
    mark: object  # what `mark_of` said when it was opened


def mark_of(path: Path, table: ReferenceTable | SQLiteTable, status: os.stat_result | None = None) -> object:
    """What is another one where `table` is no more what lies at `path`. Raises OSError."""
    status = os.stat(path) if status is None else status  # noqa: PTH116 - at each absence
    if isinstance(table, SQLiteTable):  # it sees what is written into its file
        return status.st_dev, status.st_ino
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_table(
    path: Path, algorithm: str, columns: Mapping[str, str], sql_table: str | None, compiled: Path | None
) -> OpenedTable:
    """The table of a file of any kind.

    Raises
    ------
    ValueError
        The file is damaged, has no such columns, or its digests are of another algorithm.
    ImportError
        What reads a file of this kind is not installed.
    TimeoutError
        Another process has compiled it for too long.
    OSError
        The file cannot be read, or its compiled form not be written.
    """
    with open(path, "rb") as file:
        magic = file.read(16)
        status = os.fstat(file.fileno())
    table = _opened(path, magic, status, algorithm, columns, sql_table, compiled)
    return OpenedTable(table, mark_of(path, table, status))


def _opened(
    path: Path,
    magic: bytes,
    status: os.stat_result,
    algorithm: str,
    columns: Mapping[str, str],
    sql_table: str | None,
    compiled: Path | None,
) -> ReferenceTable | SQLiteTable:
    if magic == b"SQLite format 3\0":
        return SQLiteTable(path, algorithm, columns, sql_table)
    if magic.startswith(MAGIC):
        return _checked(ReferenceTable(path), algorithm)
    if not magic:
        raise DamagedReferences(path, "it is empty")
    target = path.with_name(path.name + ".bitrefs") if compiled is None else compiled
    made_of: dict[str, Any] = {
        "source": str(path),
        "of": [algorithm, status.st_size, status.st_mtime_ns, json.dumps(dict(columns))],
    }
    table = _fresh(target, made_of["of"])
    if table is None:
        try:
            table = _compile(path, target, algorithm, columns, made_of)
        except OSError as error:
            if error.filename is not None and str(target) in str(error.filename):
                reason = f"{target} cannot be written ({error.strerror}): name another file (compiled)"
                raise OSError(f"{path} is sorted into a file, and {reason}") from error
            raise
    return _checked(table, algorithm)


def _compile(
    path: Path, target: Path, algorithm: str, columns: Mapping[str, str], made_of: Mapping[str, Any]
) -> ReferenceTable:
    """Compile the file, once for all processes of this machine that come at the same time.

    TimeoutError: another process has compiled it, or is stopped at that, for `_LOCK_SECONDS`.
    """
    with open(f"{target}.lock", "wb") as lock:
        lock_within(lock.fileno(), lock.name, _LOCK_SECONDS, pause=_LOOK_AGAIN)
        table = _fresh(target, made_of["of"])
        if table is None:
            compile_columns(path, target, algorithm, columns, made_of)
            table = ReferenceTable(target)
        return table


def _fresh(target: Path, of: Any) -> ReferenceTable | None:
    """The compiled table, if it was made of the file as it is now."""
    try:
        table = ReferenceTable(target)
    except (FileNotFoundError, DamagedReferences):
        return None
    if table.description.get("of") == of:
        return table
    table.close()
    return None


def _checked(table: ReferenceTable, algorithm: str) -> ReferenceTable:
    if table.algorithm != algorithm:
        raise ValueError(f"its digests are {table.algorithm}, and not {algorithm}: take the class of that algorithm")
    return table
