"""The file in which a machine keeps misses, shared by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bitstore._misses.database import Database
from bitstore._misses.entries import EVERY, Entry, Miss, MissSource, SourceName, moment
from bitstore.errors import StoreNotAvailable

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MissFile"]

_KIND = 0x6D697373  # `miss`
_FOREVER = float(2**60)  # seconds
_ROWS = 10_000  # that are read at once
_SCHEMA = """
CREATE TABLE source (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, algorithm TEXT NOT NULL, place TEXT NOT NULL, lifetime REAL NOT NULL,
    UNIQUE (name, algorithm)
);
CREATE TABLE miss (
    source INTEGER NOT NULL, digest BLOB NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (source, digest)
) WITHOUT ROWID;
CREATE TABLE void (
    source INTEGER NOT NULL, digest BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (source, digest)
) WITHOUT ROWID;
CREATE TABLE outbox (
    share TEXT NOT NULL, source INTEGER NOT NULL, digest BLOB NOT NULL, at INTEGER NOT NULL, reason TEXT,
    is_void INTEGER NOT NULL, PRIMARY KEY (share, source, digest, is_void)
) WITHOUT ROWID;
CREATE TABLE part (share TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (share, name)) WITHOUT ROWID
"""
# A miss counts unless a void of its digest, or of all of its source, is as late.
_ADD = """
INSERT INTO miss SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (
    SELECT 1 FROM void WHERE source = ?1 AND digest IN (?2, x'') AND at >= ?3
)
ON CONFLICT (source, digest) DO UPDATE SET at = excluded.at, reason = excluded.reason WHERE excluded.at > at
"""
_VOID = """
INSERT INTO void VALUES (?1, ?2, ?3)
ON CONFLICT (source, digest) DO UPDATE SET at = excluded.at WHERE excluded.at > at
"""
_SOURCE = """
INSERT INTO source (name, algorithm, place, lifetime) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (name, algorithm) DO UPDATE SET place = excluded.place, lifetime = excluded.lifetime WHERE ?3 != ''
"""


class MissFile:
    """One open file. For any number of threads of one process; all methods raise `StoreNotAvailable`.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there.
    clock
        Seconds since 1970.
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path, "the ledger of misses", _SCHEMA, kind=_KIND, version=1)
        self._clock = clock
        # Numbers of the sources, and how often a file had been opened when they were read.
        self._ids: tuple[int, dict[SourceName, int]] = (-1, {})
        self.close = self._database.close

    def find(self, source: SourceName, digest: bytes) -> tuple[int, str] | None:
        """When and how it became known that `source` lacks `digest`; None: it is not known."""
        with self._database.read() as db:
            number = self._number(db, source)
            if number is None:
                return None
            query = "SELECT at, reason FROM miss WHERE source = ? AND digest = ?"
            row: Any = db.execute(query, (number, digest)).fetchone()
            if row is not None and not (isinstance(row[0], int) and isinstance(row[1], str)):
                raise self._damaged("a miss has no time or no reason")
            found: tuple[int, str] | None = row
            return found

    def introduce(self, source: SourceName, place: str, lifetime: float) -> None:
        """Note what a source is. Raises also where another source has that name."""
        lifetime = min(lifetime, _FOREVER)
        with self._database.read() as db:
            row = db.execute("SELECT place, lifetime FROM source WHERE name = ? AND algorithm = ?", source).fetchone()
        if row is not None and row[0] not in ("", place):
            raise self._database.failure(
                f"knows the source {source.name!r} as {row[0]}, and not as {place}: give one of the two another name"
            )
        if row != (place, lifetime):
            with self._database.write() as db:
                db.execute(_SOURCE, (*source, place, lifetime))

    def write(self, entries: Iterable[Entry], *, part: tuple[str, str] | None = None) -> None:
        """Record all of `entries`, or none. What became known just now is put in line for all shares of the file.

        Parameters
        ----------
        entries
            What to record.
        part
            The identity of a share and the name of its part whose content this is; None: it became known just now.
        """
        with self._database.write() as db:
            shares = db.execute("SELECT share FROM part WHERE name = ''").fetchall() if part is None else []
            for source, digest, at, reason in entries:
                number = self._made_number(db, source)
                if reason is not None:
                    db.execute(_ADD, (number, digest, at, reason))
                elif part is not None:
                    _void(db, number, digest, at)
                else:
                    at = _void_all(db, number, digest, at)
                for (share,) in shares:
                    row = (share, number, digest, at, reason, reason is None)
                    db.execute("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?, ?)", row)
            if part is not None:
                db.execute("INSERT OR IGNORE INTO part VALUES (?, ?)", part)

    # ------------------------------------------------------------------ what is shared

    def join(self, share: str) -> None:
        """Put all that is known here in line for a share, unless that was done before."""
        with self._database.read() as db:
            if db.execute("SELECT 1 FROM part WHERE share = ? AND name = ''", (share,)).fetchone():
                return
        with self._database.write() as db:
            for rows in ("source, digest, at, reason, 0 FROM miss", "source, digest, at, NULL, 1 FROM void"):
                db.execute(f"INSERT OR REPLACE INTO outbox SELECT ?, {rows}", (share,))
            db.execute("INSERT OR IGNORE INTO part VALUES (?, '')", (share,))

    def unsent(self, share: str) -> list[Entry]:
        """What is in line for a share, or the first of it."""
        query = (
            "SELECT name, algorithm, digest, at, reason FROM outbox JOIN source ON id = outbox.source "
            f"WHERE share = ? LIMIT {_ROWS}"
        )
        with self._database.read() as db:
            rows = db.execute(query, (share,)).fetchall()
        return [Entry(SourceName(name, algorithm), *rest) for name, algorithm, *rest in rows]

    def sent(self, share: str, entries: Iterable[Entry], part: str) -> None:
        """Note that `entries` are in the part called `part`."""
        query = "DELETE FROM outbox WHERE share = ? AND source = ? AND digest = ? AND at = ? AND is_void = ?"
        with self._database.write() as db:
            for source, digest, at, reason in entries:
                db.execute(query, (share, self._made_number(db, source), digest, at, reason is None))
            db.execute("INSERT OR IGNORE INTO part VALUES (?, ?)", (share, part))

    def parts(self, share: str) -> set[str]:
        """Names of the parts of a share whose content is here."""
        with self._database.read() as db:
            return {name for (name,) in db.execute("SELECT name FROM part WHERE share = ?", (share,))}

    # ------------------------------------------------------------------ what it holds

    def sources(self) -> list[MissSource]:
        """The sources, by name."""
        with self._database.read() as db:
            found = []
            for number, name, algorithm, place, lifetime in self._sources(db):
                count, expired, first, last = db.execute(
                    "SELECT count(*), total(at < ?), min(at), max(at) FROM miss WHERE source = ?",
                    (self._oldest(lifetime), number),
                ).fetchone()
                times = [None if at is None else moment(at) for at in (first, last)]
                found.append(MissSource(name, algorithm, place, lifetime, count, int(expired), *times))
            return found

    def names(self) -> list[SourceName]:
        """What tells the sources apart."""
        with self._database.read() as db:
            return [SourceName(name, algorithm) for _, name, algorithm, _, _ in self._sources(db)]

    def misses(self, names: Container[str]) -> Iterator[Miss]:
        """All misses of the sources of these names, by source and digest."""
        with self._database.read() as db:
            sources = [each for each in self._sources(db) if each[1] in names]
        query = f"SELECT digest, at, reason FROM miss WHERE source = ? AND digest > ? ORDER BY digest LIMIT {_ROWS}"
        for number, name, algorithm, _, lifetime in sources:
            oldest, last = self._oldest(lifetime), b""
            while True:
                with self._database.read() as db:
                    rows = db.execute(query, (number, last)).fetchall()
                for last, at, reason in rows:
                    yield Miss(name, algorithm, last.hex(), moment(at), reason, at < oldest)
                if len(rows) < _ROWS:
                    break

    def drop_expired(self) -> int:
        """Delete the misses whose lifetime is over; returns how many there were."""
        with self._database.write() as db:
            gone = 0
            for number, _, _, _, lifetime in self._sources(db):
                row = (number, self._oldest(lifetime))
                gone += db.execute("DELETE FROM miss WHERE source = ? AND at < ?", row).rowcount
            return gone

    def check(self) -> None:
        """Read all of the file. Raises where it is damaged."""
        with self._database.read() as db:
            told = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if told != "ok":
            raise self._damaged(told)

    def _damaged(self, how: str) -> StoreNotAvailable:
        return self._database.failure(f"is damaged: {how}; move it away, and what it knew is asked for again")

    def _oldest(self, lifetime: float) -> float:
        """The moment (in microseconds since 1970) before which misses of this lifetime do not count."""
        return (self._clock() - lifetime) * 1_000_000

    @staticmethod
    def _sources(db: sqlite3.Connection) -> list[tuple[int, str, str, str, float]]:
        query = "SELECT id, name, algorithm, place, lifetime FROM source ORDER BY name, algorithm"
        return db.execute(query).fetchall()

    def _number(self, db: sqlite3.Connection, source: SourceName) -> int | None:
        if self._ids[0] != self._database.opened:
            self._ids = (self._database.opened, {})
        number = self._ids[1].get(source)
        if number is None:
            row = db.execute("SELECT id FROM source WHERE name = ? AND algorithm = ?", source).fetchone()
            if row is None:
                return None
            number = self._ids[1][source] = row[0]
        return number

    def _made_number(self, db: sqlite3.Connection, source: SourceName) -> int:
        number = self._number(db, source)
        if number is None:  # of which a share tells, and no store of this machine yet
            db.execute(_SOURCE, (*source, "", _FOREVER))
            number = self._number(db, source)
            assert number is not None
        return number


def _void_all(db: sqlite3.Connection, number: int, digest: bytes, at: int) -> int:
    """Drop all misses, also those from a time that the clock has not reached again; returns what time that is."""
    which, what = _which(number, digest)
    latest: int | None = db.execute(f"SELECT max(at) FROM miss WHERE {which}", what).fetchone()[0]
    at = at if latest is None else max(at, latest)
    _void(db, number, digest, at)
    return at


def _void(db: sqlite3.Connection, number: int, digest: bytes, at: int) -> None:
    """Drop misses up to `at`."""
    which, what = _which(number, digest)
    db.execute(f"DELETE FROM miss WHERE {which} AND at <= ?", [*what, at])
    db.execute(_VOID, (number, digest, at))


def _which(number: int, digest: bytes) -> tuple[str, list[object]]:
    """The misses that a void means, as a condition and its values."""
    return ("source = ?", [number]) if digest == EVERY else ("source = ? AND digest = ?", [number, digest])
