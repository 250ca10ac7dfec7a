"""A file of this machine in which processes count together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["AccountError", "Row", "StateFile"]

_LOCK_SECONDS = 30.0


class AccountError(Exception):
    """What is spent cannot be counted, so nothing may be. The text says why."""


class Row:
    """What a file knows under one name, while no other process reads or writes it."""

    __slots__ = ("text",)

    def __init__(self, text: str | None) -> None:
        # None: nothing. What it is set to is written at the end of the transaction.
        self.text = text


class StateFile:
    """Texts by name in an SQLite file (https://sqlite.org/lockingv3.html), which any number of processes may share.

    It must be on a disk of this machine: SQLite's locks are not to be trusted over a network.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there.
    table, column
        Where the texts are in it.
    """

    def __init__(self, path: str | os.PathLike[str], table: str, column: str) -> None:
        self.path = Path(path)
        self._table = table
        self._column = column

    @contextmanager
    def row(self, name: str) -> Iterator[Row]:
        """The row of `name`, in a transaction. Raises `AccountError`, also for ValueError; may block for a while."""
        import sqlite3

        table, column = self._table, self._column
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One connection for each transaction: it costs a tenth of a millisecond, and none crosses a fork.
            # Autocommit, so that the transaction is the one that is begun here.
            with closing(sqlite3.connect(self.path, timeout=_LOCK_SECONDS, isolation_level=None)) as file:
                file.execute("BEGIN IMMEDIATE")  # no other process reads or writes until the commit
                file.execute(f"CREATE TABLE IF NOT EXISTS {table} (name TEXT PRIMARY KEY, {column} TEXT NOT NULL)")
                found = file.execute(f"SELECT {column} FROM {table} WHERE name = ?", (name,)).fetchone()
                row = Row(None if found is None else found[0])
                before = row.text
                yield row
                if row.text != before:
                    file.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (name, row.text))
                file.execute("COMMIT")
        except (sqlite3.Error, OSError, ValueError) as error:
            raise AccountError(f"its {self._column} cannot be counted in {self.path}: {error}") from error
