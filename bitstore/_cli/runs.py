"""What runs over many things share: a first Ctrl-C ends them in order, and nothing disturbs their last lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from bitstore._cli.interrupts import Interrupts
from bitstore._cli.listings import Listing
from bitstore._cli.options import StoreOptions
from bitstore._cli.outputs import Output, OutputError
from bitstore._cli.terminal import above, in_words, say_plainly
from bitstore._digests.hash_list import ListError
from bitstore._warming.outcome import Outcome
from bitstore._warming.progress import Progress
from bitstore._warming.tally import Tally

__all__ = ["Going", "RunReport", "note", "running"]


@dataclass(kw_only=True)
class RunReport(Tally):
    """The counts of a run.

    Attributes
    ----------
    there
        Entries that were not asked for, because they are there from before.
    entries
        About how many entries the list has; None: unknown.
    interrupted
        Number of the signal that ended the run.
    partial
        Where an incomplete Parquet file was put.
    """

    there: int = 0
    entries: int | None = None
    interrupted: int | None = None
    partial: str | None = None

    @property
    def done(self) -> int:
        """How many entries are dealt with."""
        return self.asked + self.there + self.invalid

    @property
    def total(self) -> int | None:
        """About how many entries there are; None: unknown."""
        return self.entries

    @property
    def complete(self) -> bool:
        """Whether all of the list was asked for."""
        return self.stopped is None and self.interrupted is None

    @property
    def exit_code(self) -> int:
        """0: all found; 1: some missing, or lines were no digests; 2: some failed; 128 + signal: interrupted."""
        if self.interrupted is not None:
            return 128 + self.interrupted
        if self.failed or self.stopped:
            return 2
        return 1 if self.missing or self.invalid else 0

    @property
    def beginning(self) -> str:
        """How the first line about the run begins: with what cut it short, if anything did."""
        return "interrupted: " if self.interrupted is not None else "stopped: " if self.stopped is not None else ""

    def advice(self, stores: StoreOptions) -> str | None:
        """The command that says what is wrong, for the most frequent cause of failures; None: nothing has failed."""
        return next((stores.advice(cause.digest) for cause in self.causes if cause.digest), None)

    def ending(self) -> list[str]:
        """The last line about the run, if something stopped it: why."""
        return [] if self.stopped is None else [f"stopped because: {self.stopped}"]

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        if outcome.kind == "there":
            self.there += 1
        else:
            super().count(outcome)


class Going(NamedTuple):
    """A run that goes on.

    Attributes
    ----------
    progress
        What a person sees of it.
    shield
        While entered, a signal waits: what has come is counted, listed and shown, or nothing of these.
    """

    progress: Progress
    shield: Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def running(
    name: str,
    report: RunReport,
    listings: tuple[Listing, ...],
    *,
    shown: bool,
    output: Output | None = None,
    retried: Listing | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Going]:
    """While entered, the run called `name` goes on; what ends it early is in `report`.

    Parameters
    ----------
    listings
        Files that are published at the end, also of a run that was cut short.
    shown
        Whether progress is shown.
    output
        Where blobs go; it is closed before the listings are published.
    retried
        The one of `listings` from which the run has its entries: if it is cut short, that file stays as it is.
    clock
        Seconds, from any start, for progress.
    """
    started = time.monotonic()
    try:
        with Interrupts() as interrupts, Progress(name, report, shown=shown, say=say_plainly, clock=clock) as progress:
            try:
                with above(progress.say):
                    yield Going(progress, interrupts.shield)
            except KeyboardInterrupt:
                report.interrupted = interrupts.signal or 2
            except (OutputError, ListError) as error:
                report.stopped = str(error)
            except BaseException:  # a defect, or no memory: leave no drafts behind
                if output is not None:
                    with contextlib.suppress(OutputError):
                        output.close(complete=False)
                raise
            interrupts.ignore()
            if output is not None:
                _close(output, report)
            complete = report.complete
            for listing in listings:
                # What was not asked again is still a failure, and only the earlier list has all of these.
                if complete or listing is not retried:
                    _publish(listing, report)
    finally:
        for listing in listings:
            listing.discard()
        report.seconds = time.monotonic() - started


def _close(output: Output, report: RunReport) -> None:
    try:
        partial = output.close(complete=report.complete)
        report.partial = None if partial is None else str(partial)
    except OutputError as error:
        report.stopped = report.stopped or str(error)


def _publish(listing: Listing, report: RunReport) -> None:
    try:
        listing.publish()
    except OSError as error:
        report.stopped = report.stopped or f"cannot write {listing.path}: {in_words(error)}"


def note(listing: Listing | None, *fields: str) -> None:
    """Add a line to a listing, if there is one. Raises `OutputError`."""
    if listing is not None:
        try:
            listing.add(*fields)
        except OSError as error:
            raise OutputError(f"cannot write {listing.path}: {error.strerror or error}") from error
