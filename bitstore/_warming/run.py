"""One warming, from a list of digests to its report; what fetches is given to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bitstore._support.digests import Algorithm, as_text
from bitstore._tiers.composite import Composite
from bitstore._warming.distinct import Distinct, SpillError
from bitstore._warming.indexed import Indexes
from bitstore._warming.keeping import keep, keep_dry
from bitstore._warming.ledger import Ledger, LedgerError
from bitstore._warming.outcome import Kind, Outcome
from bitstore._warming.progress import Progress
from bitstore._warming.report import Listed, WarmReport
from bitstore._warming.since import Since, SinceError
from bitstore.errors import BitstoreError

__all__ = ["Entries", "Fill", "Warming", "fill_here", "numbered"]

Entries: TypeAlias = "Iterable[tuple[int, Any, str | None, str]]"
Fill: TypeAlias = Callable[[Iterator[str]], Iterator[Outcome]]

_TEXT = 200  # characters of an entry that is no digest
_TOLD = 100_000  # of these, as many are noted in a ledger once and not again; beyond them, again in each run
_PORTION = 4096  # digests that are taken in at a time


class _OneCause(BitstoreError):
    """Everything fails for one cause."""


def fill_here(store: Composite, *, dry_run: bool, timeout: float | None, in_flight: int | None) -> Fill:
    """What fills all lasting caches of `store` from this process."""
    return partial(keep_dry if dry_run else keep, store, target="here", timeout=timeout, in_flight=in_flight)


class Warming:
    """One warming.

    Memory: some 0.3 GB of digests at most, however many the list or the ledger has. More are put aside on
    the disk while the list is read: up to 60 bytes for a SHA-1 and 96 for a SHA-256 (see `Distinct`).

    Parameters
    ----------
    algorithm
        The algorithm of the digests.
    target
        What is filled, for the ledger and the report.
    store_id
        What identifies the store's configuration, for the ledger.
    ledger
        Path of the ledger; None: there is none. A dry run reads it and does not write it.
    retry_missing
        Ask again for what the ledger knows as missing.
    dry_run
        What `fill` does changes nothing.
    max_failures
        Failures of one cause in a row after which the warming stops; None: it never stops for failures.
    show
        Whether progress is shown.
    say
        Where lines of progress go without a terminal (see `Progress`).
    watch
        Takes each outcome, in the thread of the run; None: nothing does.
    folder
        Where digests are put aside that do not fit into memory. None: the ledger, or else the folder for temporary
        files of this machine.
    held
        Bytes of digests in memory before they are put aside; None: 64 MiB.
    indexes
        What the caches have by their indexes is not asked for; None: all is asked for.
    since
        What notes how far the list was dealt with, once it is; None: nothing does. A dry run does not note it.

    Attributes
    ----------
    report
        The counts so far, also when `run` was interrupted.

    Raises
    ------
    LedgerError
        See `Ledger`.
    ValueError
        `max_failures` is less than 1.
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        target: str,
        store_id: str,
        ledger: str | os.PathLike[str] | None = None,
        retry_missing: bool = False,
        dry_run: bool = False,
        max_failures: int | None = None,
        show: bool = True,
        say: Callable[[str], None] | None = None,
        watch: Callable[[Outcome], object] | None = None,
        folder: str | os.PathLike[str] | None = None,
        held: int | None = None,
        indexes: Indexes | None = None,
        since: Since | None = None,
    ) -> None:
        if max_failures is not None and max_failures < 1:
            raise ValueError(f"max_failures={max_failures}: must be at least 1, or None")
        self.report = WarmReport(target=target, dry_run=dry_run, ledger=None if ledger is None else os.fspath(ledger))
        self._listed = Listed()
        self._reading = Progress("warm: reading the list", self._listed, shown=show, say=say, unit="entries")
        self.progress = Progress("warm", self.report, shown=show, say=say)
        self.report.since = None if since is None else since.told
        self._since = since
        self._indexes = indexes
        self._watch = watch
        self._max_failures = max_failures
        self._algorithm = algorithm
        self._retry_missing = retry_missing
        self._ledger: Ledger | None = None
        if ledger is not None and (not dry_run or _holds_something(Path(ledger))):
            self._ledger = Ledger(ledger, store=store_id, target=target)
        self._aside: dict[str, Any] = {"folder": folder} if held is None else {"folder": folder, "held": held}
        if folder is None and self._ledger is not None and not dry_run:
            self._aside["folder"] = self._ledger.path

    def run(self, entries: Entries, fill: Fill) -> WarmReport:
        """Warm what `entries` name.

        Parameters
        ----------
        entries
            Number, text (or value), digest and reason of each entry; where there is no digest, it is None and the
            reason says why.
        fill
            Gives one outcome for each of the (distinct) digests that it is given.

        Raises
        ------
        Exception
            Whatever reading `entries` raises. Of digests that fail, none is raised; where the ledger can no more be
            read or written, the report says why it stopped.
        """
        report, started = self.report, time.monotonic()
        try:
            with contextlib.closing(Distinct(self._algorithm, **self._aside)) as wanted:
                self._fill(wanted, entries, fill)
        except (SpillError, LedgerError) as error:
            report.stopped = str(error)
        finally:
            report.seconds = time.monotonic() - started
            if self._ledger is not None and not report.dry_run:
                try:
                    self._ledger.flush()
                except LedgerError as error:
                    report.complete, report.stopped = False, str(error)
        if report.complete and self._since is not None and not report.dry_run:
            try:
                self._since.save()
                report.since = self._since.told
            except SinceError as error:
                report.complete, report.stopped = False, str(error)
        return report

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        (self._reading if self._reading.is_open else self.progress).say(line)

    def _fill(self, wanted: Distinct, entries: Entries, fill: Fill) -> None:
        report = self.report
        self._listed.expected = getattr(entries, "total", None)
        with self._reading:
            self._read(entries, wanted)
            self._sort_out(wanted)
        try:
            with self.progress as progress, _closing(fill(self._asked(wanted))) as outcomes:
                for outcome in outcomes:
                    self._count(outcome)
                    self._note(outcome)
                    progress.look()
                    if (reason := report.causes.stop(self._max_failures)) is not None:
                        raise _OneCause(reason, reason)
            report.complete = report.done == report.distinct
        except BitstoreError as error:  # of the ledger, or of filling as such: a digest that fails raises nothing
            report.stopped = str(error)

    def _asked(self, wanted: Distinct) -> Iterator[str]:
        """What is asked for: what the caches do not have by their indexes."""
        if self._indexes is None:
            yield from wanted
            return
        left = iter(wanted)
        while portion := list(itertools.islice(left, _PORTION)):
            lacked = self._indexes.lacked(portion)
            self.report.indexed += len(portion) - len(lacked)
            yield from lacked

    def _read(self, entries: Entries, wanted: Distinct) -> None:
        report, listed = self.report, self._listed
        noted = set() if self._ledger is None else set(itertools.islice(self._ledger.known("invalid"), _TOLD))
        held: list[str] = []
        for number, text, digest, reason in entries:
            report.given += 1
            if digest is not None:
                held.append(digest)
                if len(held) >= _PORTION:
                    _take(wanted, held)
                    listed.given = report.given
                    self._reading.look()
                continue
            told = (as_text(text) or str(text))[:_TEXT]
            outcome = Outcome(told, "invalid", error=f"entry {number} is no {self._algorithm.name} digest: {reason}")
            self._count(outcome)
            if told not in noted:
                if len(noted) < _TOLD:
                    noted.add(told)
                self._note(outcome)
        _take(wanted, held)
        listed.given = listed.expected = report.given

    def _sort_out(self, wanted: Distinct) -> None:
        """Drop repetitions, and what the ledger knows."""
        report, ledger = self.report, self._ledger
        kinds: tuple[Kind, ...] = ("found",) if self._retry_missing else ("found", "missing")
        with contextlib.ExitStack() as stack:
            known = [
                stack.enter_context(contextlib.closing(Distinct(self._algorithm, **self._aside)))
                for _ in (kinds if ledger is not None else ())
            ]
            for portion in () if ledger is None else ledger.portions(*kinds):
                for kind, digests in zip(kinds, known, strict=True):
                    _take(digests, portion[kind])
            dropped = dict(zip(kinds, wanted.remove(*known), strict=False))
        report.settled, report.known_missing = dropped.get("found", 0), dropped.get("missing", 0)
        report.distinct = len(wanted) + report.settled + report.known_missing

    def _count(self, outcome: Outcome) -> None:
        self.report.count(outcome)
        if self._since is not None:
            self._since.count(outcome, retry_missing=self._retry_missing)
        if self._watch is not None:
            self._watch(outcome)

    def _note(self, outcome: Outcome) -> None:
        if self._ledger is not None and not self.report.dry_run:
            self._ledger.add(outcome)


def _take(into: Distinct, digests: list[str]) -> None:
    into.add_raw(bytes.fromhex("".join(digests)))
    digests.clear()


def _holds_something(path: Path) -> bool:
    return any(path.glob("[!.]*")) if path.is_dir() else path.exists()


def numbered(values: Iterable[Any], algorithm: Algorithm) -> Entries:
    """Entries of any iterable, from 1."""
    for number, value in enumerate(values, 1):
        yield number, value, *algorithm.read(value)


@contextlib.contextmanager
def _closing(outcomes: Iterator[Outcome]) -> Generator[Iterator[Outcome], None, None]:
    try:
        yield outcomes
    finally:
        if isinstance(outcomes, Generator):  # what is under way ends with us
            outcomes.close()
