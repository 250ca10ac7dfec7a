"""`bitstore fetch`: all blobs of a list, into a folder or a Parquet file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bitstore._cli.fetching import run, summary
from bitstore._cli.listings import Listing, Listings
from bitstore._cli.options import LIST, ListOptions, LookupOptions, Reporting, StoreOptions, one_of
from bitstore._cli.outputs import Existing, Folder, Output, OutputError, output
from bitstore._cli.plan import beside_lines, beside_rows, made
from bitstore._cli.reports import ReportOptions, fetch_line, show_outcome
from bitstore._cli.runs import RunReport
from bitstore._cli.spending import BudgetOptions, receipt_lines
from bitstore._cli.terminal import refusing
from bitstore._digests.hash_list import HashList, ListError
from bitstore._limits.budget import Budget
from bitstore._support.atomic import is_special
from bitstore._support.redact import redact_url

__all__ = ["fetch"]


def fetch(
    stores: StoreOptions,
    listed: ListOptions,
    lookups: LookupOptions,
    spending: BudgetOptions,
    reporting: Reporting,
    reports: ReportOptions,
    hashes: Annotated[str | None, typer.Argument(help=LIST)] = None,
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="DIR|FILE.parquet", help="A folder of files, or one Parquet file with all blobs."
        ),
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(metavar="FAILED.tsv", help="Resume with the failures of an earlier run, instead of HASHES."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Plan first, as `bitstore plan` does, and tell at the end how good that was.")
    ] = False,
    fan_out: Annotated[
        int, typer.Option(metavar="N", min=0, max=4, help="Spread files over folders of the first N characters.")
    ] = 0,
    existing: Annotated[
        str,
        typer.Option(
            metavar="skip|check|replace",
            autocompletion=one_of("skip", "check", "replace"),
            help="Files that are there already: skip, skip if their hash is right, or fetch.",
        ),
    ] = "skip",
) -> None:
    """Fetch every blob of a list. What is missing, has failed, or is no digest is listed in files of its own.

    The same command again resumes where an earlier one stopped. Beside the files (for a Parquet file: named like it)
    are missing.txt, failed.tsv (digest, error) and invalid.tsv (line, text, why), each only if it has a line.
    """
    with refusing():
        lookups.check()
        reports.check()
        if output_path in (None, "", "-"):
            raise OutputError("say where the blobs go: --output DIR, or --output FILE.parquet")
        if plan and "-" in (hashes, retry):
            raise ListError("--plan reads the list twice, and standard input can be read once: name a file")
        if (hashes is None) == (retry is None):
            raise ListError("give either a list of hashes, or --retry with the failed.tsv of an earlier run")
        if existing not in ("skip", "check", "replace"):
            raise OutputError(f"--existing {existing}: choose skip, check or replace")
        policy: Existing = existing  # type: ignore[assignment]
        entries, composite = listed.open(retry or hashes or "", stores, failures=retry is not None)
        budget = spending.give(composite)
        target = output(Path(output_path or ""), algorithm=entries.algorithm, fan_out=fan_out, existing=policy)
        listings = _listings(target, retry)
    planned = None
    if plan:
        with refusing():
            source, algorithm = retry or hashes or "", entries.algorithm.name
            again = HashList(source, column=listed.column, algorithm=algorithm, failures=retry is not None)
            planned = made(
                composite, (entry for entry in again if entry.digest is None or not target.has(entry.digest))
            )
        reporting.tell(str(planned))
        if budget is None:
            budget = composite.budget = Budget()
    report = run(
        composite,
        entries,
        output=target,
        listings=listings,
        total=entries.total,
        retrying=retry is not None,
        timeout=lookups.timeout,
        in_flight=lookups.in_flight,
        max_failures=lookups.max_failures,
        shown=reporting.shows_progress,
        watch=show_outcome if reporting.json else None,
    )
    resume = None
    if not report.complete:
        resume = _how_to_resume(report, target.path)
    elif report.failed:
        # A Parquet file cannot be added to.
        where = target.path if isinstance(target, Folder) else target.path.with_name("more.parquet")
        words = ["bitstore", "fetch", "--retry", str(listings.failed.path), "-o", str(where), *stores.arguments()]
        words += ["--fan-out", str(fan_out)] if fan_out else []
        resume = f"resume with the failures: {redact_url(shlex.join(words))}"
    rows = [] if planned is None or budget is None else beside_rows(planned, composite, budget)
    planned_keys = None if planned is None else [row._asdict() for row in rows]
    line = fetch_line(
        "fetch", report, resume=resume, tiers=composite.stats().values(), budget=budget, planned=planned_keys
    )
    told = [
        summary(report, composite, listings),
        *receipt_lines(budget),
        *(beside_lines(rows) if rows else ()),
        report.advice(stores),
        resume,
    ]
    reports.end(line, "\n".join(filter(None, told)), reporting)


def _listings(target: Output, retry: str | None) -> Listings:
    # The list of a retry is replaced by what still fails, unless it came through a pipe.
    failed = target.report_path("failed.tsv") if retry in (None, "-") or is_special(Path(retry)) else Path(retry)
    try:
        return Listings(
            # A retry only adds to what earlier runs know to be missing.
            missing=Listing(target.report_path("missing.txt"), append=retry is not None),
            failed=Listing(failed),
            invalid=Listing(target.report_path("invalid.tsv"), append=retry is not None),
        )
    except OSError as error:
        target.close(complete=False)
        raise OutputError(f"cannot write {error.filename}: {error.strerror}") from error


def _how_to_resume(report: RunReport, path: Path) -> str:
    if path.suffix in (".parquet", ".pq"):
        kept = f"; what was fetched is in {report.partial}" if report.partial else ""
        return (
            f"{path} was not made{kept}. The same command again starts from the beginning (a cache makes that quick)."
        )
    return "The same command again resumes from here: files that are there are not fetched again."
