"""An SQLite file that many processes open, and that may be damaged, full, not ours or not to be written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from bitstore._support import clock
from bitstore._support.atomic import check_regular
from bitstore._support.per_process import hold_after_fork
from bitstore.errors import StoreNotAvailable

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Database", "Full", "Unwritten"]

_LOCK_SECONDS = 30.0
_LOCK_PAUSE = 0.005  # seconds between two tries to change how the file is written
_databases: WeakSet[Database] = WeakSet()  # of this process: a forked child must not close their connections
hold_after_fork(lambda: list(_databases))


class Unwritten(StoreNotAvailable):
    """What should be recorded could not be written."""


class Full(Unwritten):
    """There is no room for it on the disk."""


class Database:
    """One open file, with its write-ahead log (https://sqlite.org/wal.html) beside it. For any number of threads.

    What was committed survives the end of the process, however it ends; when the machine itself loses its power, the
    last seconds may be lost.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there.
    what
        What errors call it.
    schema
        Statements that make its tables.
    kind, version
        Numbers in the head of the file, which tell it from others.
    """

    def __init__(self, path: str, what: str, schema: str, *, kind: int, version: int) -> None:
        self._path = Path(path)
        self._what = what
        self._schema = schema
        self._kind = kind
        self._version = version
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the file that is open
        self.opened = 0  # how often a file was opened: what is known of its content counts while this stays
        _databases.add(self)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. Errors of the database become `StoreNotAvailable`."""
        with self._errors("read"):
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: what is done in it is recorded as a whole, or not at all. Errors: see `read`."""
        with self._errors("written"):
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self.opened += 1
                with suppress(Exception):
                    db.execute("ROLLBACK")
                raise

    def failure(self, reason: str, *, kind: type[StoreNotAvailable] = StoreNotAvailable) -> StoreNotAvailable:
        """The error that says why the file cannot be used."""
        error = kind(str(self._path), f"{self._what} {self._path} {reason}")
        error.definite = True
        return error

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import sqlite3

        with self._lock:
            try:
                yield
            # UnicodeError: sqlite3 makes a text of what it finds in a damaged file.
            except (sqlite3.Error, OSError, UnicodeError) as error:
                if isinstance(error, StoreNotAvailable):
                    raise
                text = str(error)
                kind: type[StoreNotAvailable] = StoreNotAvailable if what == "read" else Unwritten
                if "full" in text or "No space" in text:
                    kind = Full
                damaged = isinstance(error, (sqlite3.DatabaseError, UnicodeError))
                if damaged and not isinstance(error, sqlite3.OperationalError):
                    text += "; move it away, and what it knew is asked for again"
                raise self.failure(f"cannot be {what}: {text}", kind=kind) from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None:
            with suppress(FileNotFoundError):
                status = os.stat(self._path)  # noqa: PTH116
                if (status.st_dev, status.st_ino) == self._identity:
                    return self._db
            self.close()  # another file has its name, or none has: what it knew is gone
        with suppress(FileNotFoundError):
            check_regular(self._path.stat())  # to open a pipe could wait for ever
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = self._connect()
        try:
            self._prepare(db)
            status = os.stat(self._path)  # noqa: PTH116
        except BaseException:
            db.close()
            raise
        self._db, self._identity = db, (status.st_dev, status.st_ino)
        self.opened += 1
        return db

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        try:
            return self._attempt("rwc")
        except sqlite3.OperationalError:
            if not self._path.is_file():
                raise
        try:
            return self._attempt("ro")
        except sqlite3.OperationalError:
            # A folder that cannot be written. Without a log beside it, all that was recorded is in the file itself.
            log = Path(f"{self._path}-wal")
            if log.exists() and log.stat().st_size:
                raise
            return self._attempt("ro&immutable=1")

    def _attempt(self, mode: str) -> sqlite3.Connection:
        import sqlite3

        address = f"{self._path.absolute().as_uri()}?mode={mode}"
        # Autocommit, so that the transactions are those that are begun here.
        db = sqlite3.connect(address, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the tables of a new file. Raises `StoreNotAvailable` for a file that is something else."""
        db.execute("BEGIN")  # one view for several questions: another process may be making the tables
        try:
            ours = self._is_ours(db)
        finally:
            db.execute("ROLLBACK")
        if ours:
            return
        _switch_to_log(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_ours(db):  # asked again: another process may have made them
                for statement in self._schema.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {self._kind}")
                db.execute(f"PRAGMA user_version = {self._version}")
            db.execute("COMMIT")
        except BaseException:
            with suppress(Exception):
                db.execute("ROLLBACK")
            raise

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        ((kind,), (version,)) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
        if (kind, version) == (self._kind, self._version):
            return True
        if kind == self._kind:
            raise self.failure(f"has format {version}, and this version of bitstore knows {self._version}")
        if kind or version or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise self.failure("is an SQLite file of something else: name a file of its own")
        return False


def _switch_to_log(db: sqlite3.Connection) -> None:
    """Let the file have a write-ahead log. SQLite itself waits for no other process here, whatever its time limit."""
    import sqlite3

    until = clock.monotonic() + _LOCK_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or clock.monotonic() >= until:
                raise
        clock.sleep(_LOCK_PAUSE)
