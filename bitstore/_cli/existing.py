"""`bitstore exists`: which blobs of a list are there."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bitstore._cli.listings import Listing, Listings
from bitstore._cli.options import LIST, ListOptions, LookupOptions, Reporting, StoreOptions
from bitstore._cli.outputs import OutputError
from bitstore._cli.reports import ReportOptions, fetch_line, show_outcome
from bitstore._cli.runs import RunReport, note, running
from bitstore._cli.spending import BudgetOptions, receipt_lines
from bitstore._cli.terminal import refusing, show
from bitstore._digests.composite import DigestComposite
from bitstore._digests.hash_list import Entry, HashList
from bitstore._support.redact import redact
from bitstore._warming.outcome import Outcome
from bitstore.errors import budget_reached, reason_of

__all__ = ["exists", "listings_in", "summary", "take"]


def exists(
    hashes: Annotated[str, typer.Argument(help=LIST)],
    stores: StoreOptions,
    listed: ListOptions,
    lookups: LookupOptions,
    spending: BudgetOptions,
    reporting: Reporting,
    reports: ReportOptions,
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A folder for missing.txt, failed.tsv and invalid.tsv, as of fetch."
        ),
    ] = None,
    paid: Annotated[bool, typer.Option("--paid", help="Ask paid tiers as well, which costs what a lookup costs.")] = (
        False
    ),
) -> None:
    """Tell which blobs of a list are there: the digest and the tier that has it, in the order of the list.

    No blob is moved. Paid tiers are not asked: what only they may have counts as missing. Exit code 1: some are
    missing; 2: some could not be looked up.
    """
    with refusing():
        lookups.check()
        reports.check()
        entries, composite = listed.open(hashes, stores)
        budget = spending.give(composite)
        listings = listings_in(output_path)
    report = RunReport(entries=entries.total)
    with running("exists", report, listings.all if listings else (), shown=reporting.shows_progress) as going:
        for outcome, number in _outcomes(composite, entries, lookups, paid=paid):
            with going.shield():
                take(outcome, number, report, listings)
                if reporting.json:
                    show_outcome(outcome)
                elif outcome.kind == "found":
                    show(f"{outcome.digest}\t{outcome.tier}")
            going.progress.look()
            report.stopped = report.causes.stop(lookups.max_failures or None)
            if report.stopped is not None:
                break
    resume = None if report.complete else "not all of the list was asked for: the same command again asks for all of it"
    unasked = [] if paid else [tier.name for tier in composite.tiers if tier.paid and tier.read]
    told = [*summary(report, listings, unasked), *receipt_lines(budget), *filter(None, (report.advice(stores), resume))]
    reports.end(fetch_line("exists", report, resume=resume, budget=budget), "\n".join(told), reporting)


def listings_in(output_path: str | None) -> Listings | None:
    """The three files of a run in a folder, which is made; None: there is no folder. Raises `OutputError`."""
    if output_path is None:
        return None
    if output_path in ("", "-"):
        raise OutputError("--output names no folder: missing.txt, failed.tsv and invalid.tsv go there")
    folder = Path(output_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = ("missing.txt", "failed.tsv", "invalid.tsv")
        return Listings(*(Listing(folder / name) for name in names))
    except OSError as error:
        raise OutputError(f"cannot write into the folder {folder}: {error.strerror or error}") from error


def _outcomes(
    store: DigestComposite, entries: HashList, lookups: LookupOptions, *, paid: bool
) -> Iterator[tuple[Outcome, int]]:
    """What became of each entry, and its number; in the order of the list."""
    asked: deque[Entry] = deque()  # entries of the window

    def digests() -> Iterator[str]:
        for entry in entries:
            asked.append(entry)
            yield entry.digest or ""

    answers = store.exists_many(
        digests(), paid=paid, ordered=True, timeout=lookups.timeout, in_flight=lookups.in_flight
    )
    with contextlib.closing(answers):  # type: ignore[type-var]
        for blob in answers:
            number, text, digest, reason = asked.popleft()
            if digest is None:
                yield Outcome(text, "invalid", error=f"entry {number}: {reason}"), number
            elif blob.error is None:
                yield Outcome(digest, "found", blob.source), number
            elif blob.missing:
                yield Outcome(digest, "missing"), number
            else:
                budget = budget_reached(blob.error)
                used_up = None if budget is None else budget.reason
                yield Outcome(digest, "failed", error=redact(reason_of(blob.error)), used_up=used_up), number


def take(outcome: Outcome, number: int, report: RunReport, listings: Listings | None) -> None:
    """Count an outcome, and list it. Raises `OutputError`."""
    report.count(outcome)
    if listings is None:
        return
    digest, kind, _, _, error, _ = outcome
    if kind == "missing":
        note(listings.missing, digest)
    elif kind == "failed":
        note(listings.failed, digest, error or "")
    elif kind == "invalid":
        note(listings.invalid, str(number), digest, (error or "").partition(": ")[2])


def summary(report: RunReport, listings: Listings | None, unasked: list[str], *, found: str = "there") -> list[str]:
    """What a run says at its end, some lines of text."""
    tiers = ", ".join(f"{name}: {count:,}" for name, count in report.by_tier.items() if name)
    where = f" ({tiers})" if tiers else ""
    told = [f"{report.beginning}{found}: {report.found:,}{where} in {report.seconds:.1f} s"]
    counts = ((report.missing, "missing"), (report.failed, "failed"), (report.invalid, "not a digest"))
    for (count, what), listing in zip(counts, (None, None, None) if listings is None else listings.all, strict=True):
        told.append(f"{what}: {count:,}" + (f": see {listing.path}" if count and listing is not None else ""))
        if what == "missing" and count and unasked:
            told.append(f"  of the tiers that were asked: {', '.join(unasked)} costs money or quota (--paid asks it)")
        if what == "failed":
            told += report.causes.lines()
    return told + report.ending()
