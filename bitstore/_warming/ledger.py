"""The ledger of a warming: what became of each digest, in files from which a broken run resumes."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bitstore._support.atomic import Draft, check_regular, sweep
from bitstore._warming.outcome import Kind, Outcome
from bitstore.errors import BitstoreError

__all__ = ["Ledger", "LedgerError"]

_KEY = b"bitstore.warm"
_ROWS = 100_000  # in a part at most
_SECONDS = 1.0  # between two parts at first; more and more in a long run, so that there are not too many
_LONGEST_PAUSE = 60.0
_PART = re.compile(r"part-([0-9]{1,9})-\w+\.parquet").fullmatch


class LedgerError(BitstoreError, ValueError):
    """A ledger cannot be used: it belongs to another warming, is something else, or cannot be written."""


class Ledger:
    """A folder of Parquet files, which any reader of Parquet takes for one table.

    Its columns: `digest`, `outcome` (`found`, `missing`, `failed`, `invalid`), `tier`, `bytes` (null where the blob did
    not have to be moved), `error`. Parts are added every few seconds, each whole under its name: a run that is killed
    leaves what it had written. A digest that was asked for again has a row in a later part too (parts are named in
    the order of time).

    Parameters
    ----------
    path
        The folder; it is made if there is none.
    store
        What identifies the store's configuration (no secrets).
    target
        What was warmed.
    clock
        Seconds, from any start; it decides when rows are written.

    Raises
    ------
    LedgerError
        There is something else at `path`, or the ledger of another store or target; or the folder cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, store: str, target: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise LedgerError(
                f"the ledger {os.fspath(path)} is Parquet, which needs pyarrow: pip install 'epic-bitstore[cli]'"
            ) from error
        self.path = Path(path)
        self._pa: Any = pa
        self._pq: Any = pq
        self._about = {"version": 1, "store": store, "target": target}
        self._schema = pa.schema(
            [
                ("digest", pa.string()),
                ("outcome", pa.string()),
                ("tier", pa.string()),
                ("bytes", pa.int64()),
                ("error", pa.string()),
            ],
            metadata={_KEY: json.dumps(self._about)},
        )
        self._rows: list[Outcome] = []
        self._number = 0
        self._clock = clock
        self._started = self._written = clock()
        self._begin()

    def add(self, outcome: Outcome) -> None:
        """Note an outcome; it is on the disk some seconds later. Raises `LedgerError`."""
        self._rows.append(outcome)
        self.flush_when_due()

    def flush_when_due(self) -> None:
        """Write what has been noted, if it has waited for long. Raises `LedgerError`."""
        now = self._clock()
        pause = min(_LONGEST_PAUSE, max(_SECONDS, (now - self._started) / 20))
        if len(self._rows) >= _ROWS or (self._rows and now - self._written >= pause):
            self.flush()

    def flush(self) -> None:
        """Write what has been noted. Raises `LedgerError`."""
        if not self._rows:
            return
        rows = self._rows
        self._write(rows)
        self._rows = []  # only now: an interrupt before loses no row
        self._written = self._clock()

    def known(self, kind: Kind) -> Iterator[str]:
        """The digests (or texts) that came to this in any run. Raises `LedgerError`."""
        for portion in self.portions(kind):
            yield from portion[kind]

    def portions(self, *kinds: Kind) -> Iterator[dict[Kind, list[str]]]:
        """The digests (or texts) that came to these in any run, by kind, some at a time. Raises `LedgerError`."""
        import pyarrow.compute as pc

        equal: Any = pc.equal
        for part in self._parts():
            try:
                # Opened here: pyarrow takes no name that is not UTF-8.
                with part.open("rb") as opened, self._pq.ParquetFile(opened) as file:
                    for batch in file.iter_batches(columns=["digest", "outcome"], batch_size=65536):
                        digests, outcomes = batch.columns
                        yield {kind: digests.filter(equal(outcomes, kind)).to_pylist() for kind in kinds}
            except (OSError, self._pa.ArrowException) as error:
                raise LedgerError(f"cannot read the ledger's part {part}: {error}") from error

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))

    def _begin(self) -> None:
        try:
            if self.path.exists() and not self.path.is_dir():
                raise LedgerError(f"the ledger {self.path} is a file: a ledger is a folder, name one that is free")
            self.path.mkdir(parents=True, exist_ok=True)
            parts = self._parts()
            if not parts and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise LedgerError(f"{self.path} is no ledger: there are other files in it")
            sweep(self.path)
        except OSError as error:
            raise LedgerError(f"cannot use the ledger {self.path}: {error.strerror or error}") from error
        if parts:
            self._number = max(map(self._check, parts)) + 1
        else:
            self._write([])  # from now on it says whose it is

    def _check(self, part: Path) -> int:
        """The number of a part. Raises `LedgerError` if it is not one of this ledger."""
        try:
            check_regular(part.stat())  # to open a pipe would wait for a writer
            with part.open("rb") as opened:
                schema = self._pq.read_schema(opened)
            about = json.loads((schema.metadata or {}).get(_KEY, b"null"))
        except (OSError, ValueError, self._pa.ArrowException) as error:
            raise LedgerError(f"cannot read the ledger's part {part}: {error}") from error
        named = _PART(part.name)
        if named is None or not isinstance(about, dict) or "version" not in about:
            raise LedgerError(f"{part} is no part of a ledger: name a folder that is free")
        for name, here in self._about.items():
            if about.get(name) != here:
                what = "format" if name == "version" else name
                raise LedgerError(
                    f"the ledger {self.path} is that of another {what} ({about.get(name)}, not {here}): "
                    "what it says is warm need not be so here; name another ledger"
                )
        return int(named[1])

    def _write(self, rows: list[Outcome]) -> None:
        columns = [self._pa.array([row[index] for row in rows], field.type) for index, field in enumerate(self._schema)]
        # Two runs may write to one ledger: the token keeps their parts apart.
        name = f"part-{self._number:06d}-{secrets.token_hex(4)}.parquet"
        try:
            with Draft(self.path / name) as draft:
                table = self._pa.Table.from_arrays(columns, schema=self._schema)
                with draft.path.open("xb") as opened:
                    self._pq.write_table(table, opened, compression="zstd")
                draft.publish()
        except OSError as error:
            raise LedgerError(f"cannot write the ledger {self.path}: {error.strerror or error}") from error
        self._number += 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"
