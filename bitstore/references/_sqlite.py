"""A table of references in a SQLite file, asked by its own index."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.references._names import chosen
from bitstore.references._table import DamagedReferences, Reference, checked

__all__ = ["SQLiteTable"]


class SQLiteTable:
    """Asks a table of a SQLite file. It is opened for reading alone; what others write into it meanwhile is seen.

    Parameters
    ----------
    path
        The file.
    algorithm
        Of the digests: as text in lower or upper case, or as raw bytes.
    columns
        Names of columns by what they are: see `chosen`.
    table
        Name of the table; None: the only one.

    Raises
    ------
    ValueError
        The file has no such table or column, or no index answers for the column of digests.
    DamagedReferences
        It is no SQLite file, or damaged.
    OSError
        It is not there.
    """

    def __init__(
        self, path: str | os.PathLike[str], algorithm: str, columns: Mapping[str, str], table: str | None = None
    ) -> None:
        self._path = Path(path)
        self._path.stat()
        self._kind = digest_algorithm(algorithm)
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self._path.absolute()))}?mode=ro", uri=True, check_same_thread=False
            )
            self._query = self._made(columns, table)
        except sqlite3.Error as error:
            raise DamagedReferences(self._path, f"SQLite cannot read it: {error}") from error

    def _made(self, columns: Mapping[str, str], table: str | None) -> str:
        names = [
            row[0] for row in self._connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        ]
        names = [name for name in names if not name.startswith("sqlite_")]
        if table is None and len(names) != 1:
            raise ValueError(f"{self._path} has {len(names)} tables ({', '.join(names)}): name one of them (table)")
        name = names[0] if table is None else table
        if name not in names:
            raise ValueError(f"{self._path} has no table {name!r}; it has: {', '.join(names) or 'none'}")
        found = [row[1] for row in self._connection.execute(f"PRAGMA table_info({_quoted(name)})")]
        named = chosen(found, columns, self._kind.name, f"{self._path}, table {name!r}")
        wanted = ", ".join(_quoted(named[each]) if each in named else "NULL" for each in ("url", "offset", "length"))
        digest = _quoted(named["digest"])
        query = f"SELECT {wanted} FROM {_quoted(name)} WHERE {digest} IN (?, ?, ?) LIMIT 1"
        plan = " ".join(str(row[3]) for row in self._connection.execute(f"EXPLAIN QUERY PLAN {query}", ("", "", b"")))
        if "SEARCH" not in plan:
            raise ValueError(
                f"{self._path}: no index finds a digest, so that each lookup would read the whole table: "
                f"CREATE INDEX by_digest ON {_quoted(name)} ({digest})"
            )
        return query

    def lookup(self, digest: str) -> Reference | None:
        """Where the blob of a digest in lower case lies; None: the table does not name it.

        Raises
        ------
        DamagedReferences
            The file is damaged, or the row is no reference.
        OSError
            The file cannot be read now.
        """
        try:
            with self._lock:
                row = self._connection.execute(self._query, (digest, digest.upper(), bytes.fromhex(digest))).fetchone()
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path}: {error}") from error
        except sqlite3.Error as error:
            raise DamagedReferences(self._path, f"SQLite cannot read it: {error}") from error
        if row is None:
            return None
        try:
            return Reference(digest, *checked(*row))
        except ValueError as error:
            raise DamagedReferences(self._path, f"its row of {digest} is no reference: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
