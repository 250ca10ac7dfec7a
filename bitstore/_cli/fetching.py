"""One run of `bitstore fetch`: from a list of digests to files, reports and a summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bitstore._cli.interrupts import Interrupts
from bitstore._cli.outputs import Output, OutputError, Unfit
from bitstore._cli.progress import Progress
from bitstore._cli.reports import Report
from bitstore._digests.hash_list import Entry, ListError
from bitstore._support.redact import redact
from bitstore._tiers.composite import Composite
from bitstore.blob import Blob

__all__ = ["Outcome", "Reports", "fetch"]


@dataclass
class Reports:
    """The three files of a run."""

    missing: Report
    failed: Report
    invalid: Report

    @property
    def all(self) -> tuple[Report, Report, Report]:
        """All of them."""
        return self.missing, self.failed, self.invalid


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    found, there, missing, failed, invalid
        How many digests were fetched, were in the output before, are in no store, could not be looked up; and how
        many lines were no digests.
    bytes
        Of the blobs fetched.
    seconds
        From start to end.
    by_tier
        How many blobs came from each tier.
    stopped
        Why it ended before all was asked; None: it did not.
    interrupted
        Number of the signal that ended it.
    partial
        Where an incomplete Parquet file was put.
    """

    found: int = 0
    there: int = 0
    missing: int = 0
    failed: int = 0
    invalid: int = 0
    bytes: int = 0
    seconds: float = 0.0
    by_tier: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    interrupted: int | None = None
    partial: str | None = None

    @property
    def exit_code(self) -> int:
        """0: all found; 1: some missing, or lines were no digests; 2: some failed; 128 + signal: interrupted."""
        if self.interrupted is not None:
            return 128 + self.interrupted
        if self.failed or self.stopped:
            return 2
        return 1 if self.missing or self.invalid else 0


class _Run:
    """The state of one run."""

    def __init__(self, output: Output, reports: Reports, progress: Progress) -> None:
        self.outcome = Outcome()
        self._output = output
        self._reports = reports
        self._progress = progress

    def wanted(self, entries: Iterable[Entry]) -> Iterator[str]:
        """The digests to fetch."""
        for number, text, digest, reason in entries:
            if digest is None:
                self.outcome.invalid += 1
                self._report(self._reports.invalid, str(number), text, reason)
                self._progress.advance()
            elif self._output.has(digest):
                self.outcome.there += 1
                self._progress.advance()
            else:
                yield digest

    def take(self, blob: Blob) -> None:
        """Put one answer where it belongs."""
        size = 0
        error = blob.error
        data = blob.data
        if error is None and not isinstance(data, bytes):
            if isinstance(data, (bytearray, memoryview)):
                data = bytes(data)
            else:
                error = TypeError(f"{blob.source} returned {type(data).__name__}, not bytes")
        if error is None:
            try:
                self._output.write(blob.uri, data, blob.source or "")
            except Unfit as unfit:
                error = unfit
        outcome = self.outcome
        if error is None:
            size = len(data)
            outcome.found += 1
            outcome.bytes += size
            tier = blob.source or ""
            outcome.by_tier[tier] = outcome.by_tier.get(tier, 0) + 1
        elif blob.missing:
            outcome.missing += 1
            self._report(self._reports.missing, blob.uri)
        else:
            outcome.failed += 1
            self._report(self._reports.failed, blob.uri, redact(f"{type(error).__name__}: {error}"))
        self._progress.advance(size)

    def _report(self, report: Report, *fields: str) -> None:
        try:
            report.add(*fields)
        except OSError as error:
            raise OutputError(f"cannot write {report.path}: {error.strerror or error}") from error


def fetch(
    store: Composite,
    entries: Iterable[Entry],
    *,
    output: Output,
    reports: Reports,
    total: int | None = None,
    retrying: bool = False,
    timeout: float | None = None,
    in_flight: int | None = None,
) -> Outcome:
    """Fetch `entries` from `store` into `output`, in bounded memory.

    Parameters
    ----------
    store
        Where to look up.
    entries
        What to look up; lines that are no digests are reported and passed over.
    output
        Where blobs go.
    reports
        Where the rest is told.
    total
        About how many entries there are, for the progress bar.
    retrying
        The entries are the failures of an earlier run: if this one is interrupted, that list stays as it is.
    timeout, in_flight
        See `Store.get_many`.
    """
    started = time.monotonic()
    with Interrupts() as interrupts, Progress(total) as progress:
        run = _Run(output, reports, progress)
        outcome = run.outcome
        try:
            answers = store.get_many(run.wanted(entries), timeout=timeout, in_flight=in_flight)
            with contextlib.closing(answers):  # type: ignore[type-var]
                for blob in answers:
                    with interrupts.shield():
                        run.take(blob)
        except KeyboardInterrupt:
            outcome.interrupted = interrupts.signal or 2
        except (OutputError, ListError) as error:
            outcome.stopped = str(error)
        except BaseException:  # a defect, or no memory: leave no drafts behind
            _abandon(output, reports)
            raise
        interrupts.ignore()
        _finish(outcome, output, reports, retrying=retrying)
        outcome.seconds = time.monotonic() - started
    return outcome


def _abandon(output: Output, reports: Reports) -> None:
    with contextlib.suppress(OutputError):
        output.close(complete=False)
    for report in reports.all:
        report.discard()


def _finish(outcome: Outcome, output: Output, reports: Reports, *, retrying: bool) -> None:
    complete = outcome.interrupted is None and outcome.stopped is None
    try:
        partial = output.close(complete=complete)
        outcome.partial = None if partial is None else str(partial)
    except OutputError as error:
        outcome.stopped = outcome.stopped or str(error)
        complete = False
    for report in reports.all:
        if retrying and not complete and report is reports.failed:
            # What was not asked again is still a failure, and only the earlier list has all of these.
            report.discard()
            continue
        try:
            report.publish()
        except OSError as error:
            outcome.stopped = outcome.stopped or f"cannot write {report.path}: {error.strerror or error}"
