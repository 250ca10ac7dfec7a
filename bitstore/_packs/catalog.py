"""The tables of all packs that a machine knows: files in a folder, which its processes share.

There is a table for each pack, of which small ones are put together, so that few must be asked for a digest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bitstore._packs.tar import Member
from bitstore.references._table import DamagedReferences, Reference, ReferenceTable, write_columns

__all__ = ["SUFFIX", "Catalog", "write_index"]

SUFFIX = ".bitrefs"
_MANY = 12  # tables above which small ones are put together
_LARGE = 1_000_000  # digests of a table that stays as it is
_COARSE = 2_000_000_000  # nanoseconds between two moments of a file system's clock, at most
_MOST_PACKS = 500  # of one table


def write_index(path: Path, name: str, members: Iterable[Member], algorithm: str, *, whole: bool = True) -> None:
    """Write the table of one pack, the later one of two members of one digest. Raises OSError.

    Without `whole`, the table says that the pack is damaged, and may have held more.
    """
    last = {bytes.fromhex(member.digest): member for member in members}
    keys = sorted(last)
    write_columns(
        path,
        algorithm,
        b"".join(keys),
        array("Q", [last[key].offset for key in keys]),
        array("Q", [last[key].size for key in keys]),
        array("I", bytes(4 * len(keys))),
        [f"{name}.tar".encode()],
        {"source": "pack", "whole": whole},
    )


class Catalog:
    """What the tables in a folder say.

    Parameters
    ----------
    folder
        Where they are.
    algorithm
        Of the digests.

    Attributes
    ----------
    packs
        File names of the packs that the tables know.
    cut
        File names of packs that are damaged, and may have held more than their tables say.
    gone
        File names of packs that were deleted.
    """

    def __init__(self, folder: Path, algorithm: str) -> None:
        self.folder = folder
        self._algorithm = algorithm
        self._tables: dict[str, ReferenceTable] = {}
        self._order: list[ReferenceTable] = []  # those of the latest packs first
        self._mark = 0
        self._unsure = True
        self.packs: set[str] = set()
        self.cut: set[str] = set()
        self.gone: set[str] = set()

    def find(self, digest: str) -> Reference | None:
        """Where the blob of a digest lies; None: in no pack that is known. Raises DamagedReferences."""
        key = bytes.fromhex(digest)
        for table in self._order:
            row = table.row(key)
            if row is not None and (found := table.at(row)).url not in self.gone:
                return found
        return None

    def has_changed(self) -> bool:
        """Whether a file may have come or gone since `reload`. Raises OSError where the disk fails."""
        return self._marked() != self._mark or self._unsure

    def _marked(self) -> int:
        try:
            return os.stat(self.folder).st_mtime_ns  # noqa: PTH116 - at each absence
        except FileNotFoundError:
            return 0

    def reload(self) -> None:
        """Open what has come into the folder, also by other processes. Raises OSError where the disk fails."""
        self._mark = self._marked()
        # The clock of a file system is coarse: what comes within the same moment does not show.
        self._unsure = abs(time.time_ns() - self._mark) < _COARSE
        try:
            names = {entry.name for entry in os.scandir(self.folder) if entry.name.endswith(SUFFIX)}
        except FileNotFoundError:
            names = set()
        tables = {name: table for name, table in self._tables.items() if name in names}
        for name in names - tables.keys():
            try:
                table = ReferenceTable(self.folder / name)
                if table.algorithm == self._algorithm:
                    table.urls()
                    tables[name] = table
            except FileNotFoundError:
                continue  # put together with others meanwhile
            except DamagedReferences:
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()  # it is fetched again
        self._tables = tables
        self._order = [tables[name] for name in sorted(tables, reverse=True)]
        self.packs = {pack for table in tables.values() for pack in table.urls()}
        self.cut = {pack for table in tables.values() if _is_cut(table) for pack in table.urls()}

    def drop(self, table: DamagedReferences) -> None:
        """Delete a table that turned out to be damaged: its packs count as new at the next listing."""
        with contextlib.suppress(OSError):
            Path(table.path).unlink()
        self.reload()

    def clear(self) -> None:
        """Delete all tables. Raises OSError."""
        for path in self.folder.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)
        self.gone.clear()
        self.reload()

    @property
    def has_many(self) -> bool:
        """Whether there are so many tables that small ones should be put together."""
        return len(self._tables) > _MANY

    def compact(self, guard: AbstractContextManager[Any]) -> None:
        """Put small tables together where there are many. One process of the machine does it at a time.

        Parameters
        ----------
        guard
            The lock under which everything else of a catalog is called: it is held for moments alone.

        Raises
        ------
        DamagedReferences
            One of them is damaged.
        OSError
            The disk fails.
        """
        if not self.has_many:
            return
        with open(self.folder / "lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            with guard:
                self.reload()
                chosen, gone = self._chosen(), set(self.gone)
            if len(chosen) < 2:
                return
            self._merge(chosen, gone)
            with guard:
                self.reload()

    def _chosen(self) -> dict[str, ReferenceTable]:
        """Neighbours, as later ones replace those before; the smallest ones, so that each row is copied seldom."""
        longest: list[str] = []
        for limit in (1 << power for power in range(_LARGE.bit_length() + 1)):
            longest = max(self._runs(limit), key=len)
            if len(longest) >= _MANY // 2:
                break
        return {name: self._tables[name] for name in longest}

    def _runs(self, limit: int) -> Iterator[list[str]]:
        """Names of tables of at most `limit` rows with no other in between, of which each run fits into one."""
        run: list[str] = []
        rows = packs = 0
        for name, table in sorted(self._tables.items()):
            size = len(table)
            small = size <= limit and not _is_cut(table)
            if not small or rows + size > _LARGE or packs + len(table.urls()) > _MOST_PACKS:
                yield run
                run, rows, packs = [], 0, 0
            if small:
                run.append(name)
                rows += size
                packs += len(table.urls())
        yield run

    def _merge(self, tables: Mapping[str, ReferenceTable], gone: set[str]) -> None:
        urls: dict[str, int] = {}
        rows: dict[bytes, tuple[int, int, int]] = {}
        for name in sorted(tables):  # what a later pack says of a digest replaces what an earlier one says
            named = tables[name].urls()
            new = [-1 if url in gone else urls.setdefault(url, len(urls)) for url in named]
            keys, numbers, offsets, lengths = tables[name].columns()
            there = zip(keys, zip(map(new.__getitem__, numbers), offsets, lengths, strict=True), strict=True)
            rows.update(there if -1 not in new else ((key, place) for key, place in there if place[0] >= 0))
        keys = sorted(rows)
        ordered = [rows[key] for key in keys]
        # Its name is that of its latest pack with another ending, which keeps the order.
        target = self.folder / f"{max(tables).partition('.')[0]}.{secrets.token_hex(4)}{SUFFIX}"
        write_columns(
            target,
            self._algorithm,
            b"".join(keys),
            array("Q", [offset for _, offset, _ in ordered]),
            array("Q", [length for _, _, length in ordered]),
            array("I", [number for number, _, _ in ordered]),
            [url.encode() for url in urls],
            {"source": "packs"},
        )
        for name in tables:
            (self.folder / name).unlink(missing_ok=True)


def _is_cut(table: ReferenceTable) -> bool:
    return table.description.get("whole") is False
