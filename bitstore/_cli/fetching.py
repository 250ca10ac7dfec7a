"""One run of `bitstore fetch`: from a list of digests to files, listings and a report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from bitstore._cli.listings import Listing, Listings
from bitstore._cli.outputs import Output, Unfit
from bitstore._cli.runs import RunReport, note, running
from bitstore._digests.hash_list import Entry
from bitstore._support.redact import redact
from bitstore._support.sizes import rounded_size
from bitstore._tiers.composite import Composite
from bitstore._warming.outcome import Outcome
from bitstore._warming.progress import Progress
from bitstore.blob import Blob
from bitstore.errors import budget_reached, reason_of

__all__ = ["run", "summary"]

Watch: TypeAlias = Callable[[Outcome], object]


class _Run:
    """The state of one run."""

    def __init__(
        self, output: Output, listings: Listings, report: RunReport, progress: Progress, watch: Watch | None
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
                outcome = Outcome(text, "invalid", error=f"entry {number}: {reason}")
                self._ended(outcome, self._listings.invalid, str(number), text, reason)
            elif self._output.has(digest):
                self._ended(Outcome(digest, "there"))
            else:
                yield digest

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
            self._ended(Outcome(blob.uri, "found", blob.source, len(data)))
        elif blob.missing:
            self._ended(Outcome(blob.uri, "missing"), self._listings.missing, blob.uri)
        else:
            text = redact(reason_of(error))
            budget = budget_reached(error)
            used_up = None if budget is None else budget.reason
            outcome = Outcome(blob.uri, "failed", error=text, used_up=used_up)
            self._ended(outcome, self._listings.failed, blob.uri, text)

    def _ended(self, outcome: Outcome, listing: Listing | None = None, *fields: str) -> None:
        """Count, list and show what became of one entry."""
        self._report.count(outcome)
        note(listing, *fields)
        if self._watch is not None:
            self._watch(outcome)
        self._progress.look()


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
) -> RunReport:
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
    report = RunReport(entries=total)
    retried = listings.failed if retrying else None
    with running("fetch", report, listings.all, shown=shown, output=output, retried=retried, clock=clock) as going:
        state = _Run(output, listings, report, going.progress, watch)
        answers = store.get_many(state.wanted(entries), timeout=timeout, in_flight=in_flight)
        with contextlib.closing(answers):  # type: ignore[type-var]
            for blob in answers:
                with going.shield():
                    state.take(blob)
                report.stopped = report.causes.stop(max_failures)
                if report.stopped is not None:
                    break
    return report


def summary(report: RunReport, store: Composite, listings: Listings) -> str:
    """What the run says at its end, some lines of text."""
    size = rounded_size(report.bytes)
    lines = [f"{report.beginning}found {report.found:,} blobs, {size} in {report.seconds:.1f} s ({report.rate})"]
    if report.there:
        lines.append(f"  {report.there:,} more were there already")
    lines += ["  " + line for line in _per_tier(store)]
    for count, what, listing in (
        (report.missing, "missing", listings.missing),
        (report.failed, "failed", listings.failed),
        (report.invalid, "not a digest", listings.invalid),
    ):
        where = f": see {listing.path}" if count and listing.path.exists() else ""
        lines.append(f"{what}: {count:,}{where}")
        if listing is listings.failed:
            lines += report.causes.lines()
    return "\n".join([*lines, *report.ending()])


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
