"""One run of `bitstore fetch`: from a list of digests to files, listings and a report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from bitstore._cli.interrupts import Interrupts
from bitstore._cli.listings import Listing, Listings
from bitstore._cli.outputs import Output, OutputError, Unfit
from bitstore._cli.terminal import above, in_words, say_plainly
from bitstore._digests.hash_list import Entry, ListError
from bitstore._support.redact import redact
from bitstore._support.sizes import rounded_size
from bitstore._tiers.composite import Composite
from bitstore._warming.outcome import Kind, Outcome, reason_of
from bitstore._warming.progress import Progress
from bitstore._warming.tally import Tally
from bitstore.blob import Blob

__all__ = ["FetchReport", "run"]

Watch: TypeAlias = Callable[[Outcome], object]


@dataclass(kw_only=True)
class FetchReport(Tally):
    """The counts of a run.

    Attributes
    ----------
    there
        Digests whose blobs were in the output before.
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

    def summary(self, store: Composite, listings: Listings) -> str:
        """What the run says at its end, some lines of text."""
        ended = "interrupted: " if self.interrupted is not None else "stopped: " if self.stopped is not None else ""
        size = rounded_size(self.bytes)
        lines = [f"{ended}found {self.found:,} blobs, {size} in {self.seconds:.1f} s ({self.rate})"]
        if self.there:
            lines.append(f"  {self.there:,} more were there already")
        lines += ["  " + line for line in _per_tier(store)]
        for count, what, listing in (
            (self.missing, "missing", listings.missing),
            (self.failed, "failed", listings.failed),
            (self.invalid, "not a digest", listings.invalid),
        ):
            where = f": see {listing.path}" if count and listing.path.exists() else ""
            lines.append(f"{what}: {count:,}{where}")
            if listing is listings.failed:
                lines += self.causes.lines()
        if self.stopped is not None:
            lines.append(f"stopped because: {self.stopped}")
        return "\n".join(lines)


class _Run:
    """The state of one run."""

    def __init__(
        self, output: Output, listings: Listings, report: FetchReport, progress: Progress, watch: Watch | None
    ) -> None:
        self._watch = watch
        self._output = output
        self._listings = listings
        self._report = report
        self._progress = progress

    def wanted(self, entries: Iterable[Entry]) -> Iterator[str]:
        """The digests to fetch."""
        for number, text, digest, reason in entries:
            if digest is None:
                self._report.invalid += 1
                self._list(self._listings.invalid, str(number), text, reason)
                self._outcome(text, "invalid", error=f"entry {number}: {reason}")
            elif self._output.has(digest):
                self._report.there += 1
                self._outcome(digest, "there")
            else:
                yield digest
                continue
            self._progress.look()

    def take(self, blob: Blob) -> None:
        """Put one answer where it belongs."""
        error: BaseException | None = blob.error
        data: Any = blob.data
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
        if error is None:
            self._report.count_found(blob.source or "", len(data))
            self._outcome(blob.uri, "found", blob.source, len(data))
        elif blob.missing:
            self._report.count_missing()
            self._list(self._listings.missing, blob.uri)
            self._outcome(blob.uri, "missing")
        else:
            text = redact(reason_of(error))
            self._report.count_failed(blob.uri, text)
            self._list(self._listings.failed, blob.uri, text)
            self._outcome(blob.uri, "failed", error=text)
        self._progress.look()

    def _outcome(
        self, digest: str, kind: Kind, tier: str | None = None, size: int | None = None, error: str | None = None
    ) -> None:
        if self._watch is not None:
            self._watch(Outcome(digest, kind, tier, size, error))

    def _list(self, listing: Listing, *fields: str) -> None:
        try:
            listing.add(*fields)
        except OSError as error:
            raise OutputError(f"cannot write {listing.path}: {error.strerror or error}") from error


def run(
    store: Composite,
    entries: Iterable[Entry],
    *,
    output: Output,
    listings: Listings,
    total: int | None = None,
    retrying: bool = False,
    timeout: float | None = None,
    in_flight: int | None = None,
    max_failures: int | None = None,
    shown: bool = True,
    watch: Watch | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FetchReport:
    """Fetch `entries` from `store` into `output`, in bounded memory.

    Parameters
    ----------
    store
        Where to look up.
    entries
        What to look up; lines that are no digests are listed and passed over.
    output
        Where blobs go.
    listings
        Where digests that brought no blob go.
    total
        About how many entries there are, for the progress bar.
    retrying
        The entries are the failures of an earlier run: if this one is interrupted, that list stays as it is.
    timeout, in_flight
        See `Store.get_many`.
    max_failures
        Failures of one cause in a row after which the run stops; None: it never stops for failures.
    shown
        Whether progress is shown.
    watch
        Takes what became of each entry; None: nothing does.
    clock
        Seconds, from any start, for progress.
    """
    started = time.monotonic()
    report = FetchReport(entries=total)
    with Interrupts() as interrupts, Progress("fetch", report, shown=shown, say=say_plainly, clock=clock) as progress:
        state = _Run(output, listings, report, progress, watch)
        try:
            answers = store.get_many(state.wanted(entries), timeout=timeout, in_flight=in_flight)
            with above(progress.say), contextlib.closing(answers):  # type: ignore[type-var]
                for blob in answers:
                    with interrupts.shield():
                        state.take(blob)
                    report.stopped = report.causes.stop(max_failures)
                    if report.stopped is not None:
                        break
        except KeyboardInterrupt:
            report.interrupted = interrupts.signal or 2
        except (OutputError, ListError) as error:
            report.stopped = str(error)
        except BaseException:  # a defect, or no memory: leave no drafts behind
            _abandon(output, listings)
            raise
        interrupts.ignore()
        _finish(report, output, listings, retrying=retrying)
        report.seconds = time.monotonic() - started
    return report


def _abandon(output: Output, listings: Listings) -> None:
    with contextlib.suppress(OutputError):
        output.close(complete=False)
    for listing in listings.all:
        listing.discard()


def _finish(report: FetchReport, output: Output, listings: Listings, *, retrying: bool) -> None:
    complete = report.interrupted is None and report.stopped is None
    try:
        partial = output.close(complete=complete)
        report.partial = None if partial is None else str(partial)
    except OutputError as error:
        report.stopped = report.stopped or str(error)
        complete = False
    for listing in listings.all:
        if retrying and not complete and listing is listings.failed:
            # What was not asked again is still a failure, and only the earlier list has all of these.
            listing.discard()
            continue
        try:
            listing.publish()
        except OSError as error:
            report.stopped = report.stopped or f"cannot write {listing.path}: {in_words(error)}"


def _per_tier(store: Composite) -> list[str]:
    """A table of what each tier did."""
    rows = [("tier", "hits", "misses", "failures", "written", "bytes")]
    for tier in store.stats().values():
        written = f"{tier.writes:,}" + (f" ({tier.write_failures:,} failed)" if tier.write_failures else "")
        size = rounded_size(tier.bytes)
        rows.append((tier.name, f"{tier.hits:,}", f"{tier.misses:,}", f"{tier.failures:,}", written, size))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
