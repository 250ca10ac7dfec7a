"""One warming, from a list of digests to its report; what fetches is given to it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bitstore._support.digests import Algorithm, as_text
from bitstore._tiers.composite import Composite
from bitstore._warming.distinct import Distinct
from bitstore._warming.keeping import keep, keep_dry
from bitstore._warming.ledger import Ledger, LedgerError
from bitstore._warming.outcome import Outcome
from bitstore._warming.progress import Progress
from bitstore._warming.report import WarmReport
from bitstore.errors import BitstoreError

__all__ = ["Entries", "Fill", "Warming", "fill_here", "numbered"]

Entries: TypeAlias = "Iterable[tuple[int, Any, str | None, str]]"
Fill: TypeAlias = Callable[[Iterator[str]], Iterator[Outcome]]

_TEXT = 200  # characters of an entry that is no digest


class _OneCause(BitstoreError):
    """Everything fails for one cause."""


def fill_here(store: Composite, *, dry_run: bool, timeout: float | None, in_flight: int | None) -> Fill:
    """What fills all lasting caches of `store` from this process."""
    return partial(keep_dry if dry_run else keep, store, target="here", timeout=timeout, in_flight=in_flight)


class Warming:
    """One warming.

    Memory: the raw bytes of each distinct digest (20 of a SHA-1, 32 of a SHA-256), twice that while the list is read;
    and once more for those that the ledger knows, while they are sorted out.

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
    ) -> None:
        if max_failures is not None and max_failures < 1:
            raise ValueError(f"max_failures={max_failures}: must be at least 1, or None")
        self.report = WarmReport(target=target, dry_run=dry_run, ledger=None if ledger is None else os.fspath(ledger))
        self.progress = Progress("warm", self.report, shown=show, say=say)
        self._watch = watch
        self._max_failures = max_failures
        self._algorithm = algorithm
        self._retry_missing = retry_missing
        self._ledger: Ledger | None = None
        if ledger is not None and (not dry_run or _holds_something(Path(ledger))):
            self._ledger = Ledger(ledger, store=store_id, target=target)

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
            wanted = self._wanted(entries)
            try:
                self._sort_out(wanted)
                with self.progress as progress, _closing(fill(iter(wanted))) as outcomes:
                    for outcome in outcomes:
                        self._count(outcome)
                        self._note(outcome)
                        progress.look()
                        if (reason := report.causes.stop(self._max_failures)) is not None:
                            raise _OneCause(reason, reason)
                report.complete = report.done == report.distinct
            except BitstoreError as error:  # of the ledger, or of filling as such: a digest that fails raises nothing
                report.stopped = str(error)
        finally:
            report.seconds = time.monotonic() - started
            if self._ledger is not None and not report.dry_run:
                try:
                    self._ledger.flush()
                except LedgerError as error:
                    report.complete, report.stopped = False, str(error)
        return report

    def _wanted(self, entries: Entries) -> Distinct:
        report, wanted = self.report, Distinct(self._algorithm)
        noted = set() if self._ledger is None else set(self._ledger.known("invalid"))
        for number, text, digest, reason in entries:
            report.given += 1
            if digest is not None:
                wanted.add(digest)
                continue
            told = (as_text(text) or str(text))[:_TEXT]
            outcome = Outcome(told, "invalid", error=f"entry {number} is no {self._algorithm.name} digest: {reason}")
            self._count(outcome)
            if told not in noted:
                noted.add(told)
                self._note(outcome)
        report.distinct = len(wanted)
        return wanted

    def _sort_out(self, wanted: Distinct) -> None:
        """Leave out what the ledger knows."""
        if self._ledger is None:
            return
        report = self.report
        wanted.remove(Distinct(self._algorithm, self._ledger.known("found")))
        report.settled = report.distinct - len(wanted)
        if not self._retry_missing:
            wanted.remove(Distinct(self._algorithm, self._ledger.known("missing")))
            report.known_missing = report.distinct - report.settled - len(wanted)

    def _count(self, outcome: Outcome) -> None:
        self.report.count(outcome)
        if self._watch is not None:
            self._watch(outcome)

    def _note(self, outcome: Outcome) -> None:
        if self._ledger is not None and not self.report.dry_run:
            self._ledger.add(outcome)


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
