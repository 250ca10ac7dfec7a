"""`bitstore index`: build, look at, merge and ask membership indexes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from bitstore._cli import lines
from bitstore._cli.existing import listings_in, summary, take
from bitstore._cli.groups import as_command
from bitstore._cli.index_build import Output, build, show_index, shown, target
from bitstore._cli.options import LIST, Reporting
from bitstore._cli.reports import ReportOptions, fetch_line, show_outcome
from bitstore._cli.runs import RunReport, running
from bitstore._cli.terminal import End, epilog, refuse, refusing, show
from bitstore._digests.hash_list import HashList
from bitstore._indexing.lists import opened
from bitstore._warming.outcome import Outcome
from bitstore.index import DamagedIndex, Index, merge

__all__ = ["app"]

_PORTION = 16_384  # entries that are asked for together

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build and ask membership indexes: which blobs a source surely does not hold.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The index.")]

app.command(
    name="build",
    epilog=epilog(
        "bitstore index build s3://bucket/{digest[:2]}/{digest} -o files.idx",
        "bitstore index build hashes.parquet --column sha1 -o files.idx --layout fuse",
        "bitstore index build s3://reports/bucket/daily/2026-11-27T00-00Z/manifest.json -o files.idx "
        "--template s3://bucket/files/",
        "bitstore index build --config bitstore.toml --tier archive -o archive.idx",
    ),
)(as_command(build))


@app.command(name="show", epilog=epilog("bitstore index show files.idx", "bitstore index show files.idx --json"))
@as_command
def show_command(file: File, reporting: Reporting) -> None:
    """Show what an index says of itself. Its head and its checksums are verified, not all of its bytes."""
    with refusing():
        show_index(file, reporting)


@app.command(epilog=epilog("bitstore index check files.idx"))
@as_command
def check(file: File, reporting: Reporting) -> None:
    """Read all of an index, and tell whether it is whole. Exit code 1: it is damaged, or is no index."""
    error: str | None = None
    with refusing():
        try:
            with Index(file) as index:
                index.check()
        except DamagedIndex as damaged:
            error = damaged.reason
    told = f"{file}: {'whole' if error is None else error}"
    reporting.show(lines.IndexCheck(file=str(file), whole=error is None, error=error), told)
    raise End(0 if error is None else 1)


@app.command(name="merge", epilog=epilog("bitstore index merge monday.idx written-since.idx -o files.idx"))
@as_command
def merge_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Indexes of layout sorted.")],
    output: Output,
    reporting: Reporting,
) -> None:
    """Write the digests of several indexes of layout sorted as one, such as a listing and what was written since.

    Indexes of one source cover what the latest of them does; of several sources the earliest moment counts.
    """
    with refusing():
        path = target(output)
        try:
            merge(files, path)
        except ImportError as error:
            refuse(error)
        show_index(path, reporting)


@app.command(epilog=epilog("bitstore index ask files.idx hashes.txt", "bitstore index ask files.idx - -o report"))
@as_command
def ask(
    file: File,
    hashes: Annotated[str, typer.Argument(help=LIST)],
    reporting: Reporting,
    reports: ReportOptions,
    output_path: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="A folder for missing.txt and invalid.tsv, as of exists."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column (or key) of a table that holds the digests.")
    ] = None,
) -> None:
    """Tell which blobs of a list may be in the source of an index, in the order of the list. Nothing else is asked.

    Exit code 1: some surely were not there up to the moment that the index covers; 2: the index is damaged.
    """
    with refusing():
        reports.check()
        index = Index(file)
        entries = opened(hashes, column=column, algorithm=index.info.algorithm)
        listings = listings_in(output_path)
    report = RunReport(entries=entries.total)
    with index, running("index ask", report, listings.all if listings else (), shown=reporting.shows_progress) as going:
        try:
            for outcome, number in _outcomes(index, entries):
                with going.shield():
                    take(outcome, number, report, listings)
                    if reporting.json:
                        show_outcome(outcome)
                    elif outcome.kind == "found":
                        show(outcome.digest)
                going.progress.look()
        except DamagedIndex as error:
            report.stopped = str(error)
    resume = None if report.complete else "not all of the list was asked for: the same command again asks for all of it"
    told = [
        *summary(report, listings, [], found="may be there"),
        f"as of {shown(index.info.covers_up_to)}: what the source has got since may be missing in the index",
        *([resume] if resume else []),
    ]
    reports.end(fetch_line("index ask", report, resume=resume), "\n".join(told), reporting)


def _outcomes(index: Index, entries: HashList) -> Iterator[tuple[Outcome, int]]:
    """What the index says of each entry, and the entry's number."""
    left = iter(entries)
    while portion := list(islice(left, _PORTION)):
        digests = [entry.digest for entry in portion if entry.digest is not None]
        try:
            answers = iter(index.holds_many(digests).tolist())
        except ImportError:  # without NumPy they are asked for one by one
            answers = iter([digest in index for digest in digests])
        for number, text, digest, reason in portion:
            if digest is None:
                yield Outcome(text, "invalid", error=f"entry {number}: {reason}"), number
            else:
                yield Outcome(digest, "found" if next(answers) else "missing"), number
