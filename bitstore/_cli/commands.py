"""The commands and their options. Exit codes are the same everywhere; `--help` tells them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import bitstore
from bitstore._cli import cache as cache_commands
from bitstore._cli.check import check, show_command
from bitstore._cli.existing import exists
from bitstore._cli.fetching import FetchReport, fetch
from bitstore._cli.init import init
from bitstore._cli.lines import Blob, Version, show_line
from bitstore._cli.listings import Listing, Listings
from bitstore._cli.locate import locate
from bitstore._cli.options import LIST, ListOptions, LookupOptions, Reporting, StoreOptions, as_command, one_of
from bitstore._cli.outputs import Existing, Folder, Output, OutputError, output
from bitstore._cli.put import put
from bitstore._cli.reports import report_line, show_outcome
from bitstore._cli.terminal import INTERRUPTED, End, crashed, epilog, fail, in_words, no_reader, refusing, say, show
from bitstore._cli.warming import warm
from bitstore._digests.hash_list import ListError
from bitstore._support.atomic import is_special, target_of, write_into
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact_url
from bitstore._warming.outcome import reason_of
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, NotFoundInStore, StoreNotAvailable

__all__ = ["run"]

app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.",
    epilog=epilog(
        "bitstore demo",
        "bitstore fetch hashes.txt -o blobs --store s3://bucket/prefix/",
        "bitstore fetch --help",
    ),
)
app.add_typer(cache_commands.app, name="cache")
app.command(
    name="check",
    epilog=epilog(
        "bitstore check --config bitstore.toml",
        "bitstore check --store s3://bucket/files/ --digest 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "bitstore check hashes.txt --write --json | jq '.faults[]?'",
    ),
)(as_command(check))
app.command(name="show", epilog=epilog("bitstore show", "bitstore show --config bitstore.toml --json"))(
    as_command(show_command)
)

_UsageError: Any = typer.BadParameter.__base__  # whichever package the framework has it from


def run() -> int:
    """Run what `sys.argv` says; returns the exit code."""
    try:
        code: object = app(prog_name="bitstore", standalone_mode=False)
    except End as end:
        return end.code
    except _UsageError as error:
        message = error.format_message()
        if not message.startswith("Usage"):  # no arguments at all: the message is the help
            message = ("" if error.ctx is None else f"{error.ctx.get_usage()}\n") + f"bitstore: {message}"
        say(message)
        return 3
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return no_reader()
    except OSError as error:  # commands report their own: this is about the lines that they show
        if isinstance(error, BitstoreError):
            return crashed(error)
        return no_reader(f"cannot write to standard output: {in_words(error)}")
    except SystemExit as end:  # the framework's own
        if isinstance(end.__context__, BrokenPipeError):
            return no_reader()
        return crashed(end) if end.code else 0
    except Exception as error:  # a defect: whether the blobs are there is unknown
        return crashed(error)
    return {0: 0, None: 0, INTERRUPTED: INTERRUPTED}.get(code, 3)  # type: ignore[call-overload, no-any-return]


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them."""
    if version:
        show(bitstore.__version__)
        raise typer.Exit


@app.command(
    epilog=epilog(
        "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 -o blob.bin",
        "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 --store s3://bucket/{digest[:2]}/{digest} | less",
    )
)
@as_command
def get(
    digest: Annotated[str, typer.Argument(help="The hash of the blob, plain or as sha1://...")],
    stores: StoreOptions,
    reporting: Reporting,
    output_file: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; default: standard output.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="The most that the lookup may take.")
    ] = None,
) -> None:
    """Write the bytes of one blob to a file, or to standard output."""
    target = None if output_file in (None, "-") else Path(output_file or "")
    with refusing():
        LookupOptions(timeout=timeout).check()
        guessed = next((name for name, kind in ALGORITHMS.items() if kind.parse(digest) is not None), None)
        if stores.store and guessed is None:
            raise ConfigError(f"{digest!r} is no digest of {', '.join(ALGORITHMS)}")
        composite = stores.composite(guessed)
        composite.canonical(digest)
        _check_file(target, output_file or "")
        if target is None and reporting.json:
            raise OutputError("--json writes to standard output, as the blob would be: name a file (--output)")
    try:
        data = composite.get(digest, timeout=timeout)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"a store returned {type(data).__name__}, not bytes")
        if target is not None:
            write_into(target, bytes(data))
            if reporting.json:
                reporting.show(Blob(digest=composite.canonical(digest), file=str(target), bytes=len(data)), "")
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except NotFoundInStore:
        fail(1, f"{digest} is missing (asked: {', '.join(composite.stats())})")
    except StoreNotAvailable as error:
        fail(2, f"could not look up {digest}: {reason_of(error)}")
    except (BitstoreError, TypeError) as error:
        fail(2, error)
    except OSError as error:  # after the errors of the library, of which some are OSErrors too
        if target is not None:
            fail(2, f"cannot write the blob to {target}: {error.strerror or error}")
        if isinstance(error, BrokenPipeError):
            raise End(no_reader()) from error
        raise End(no_reader(f"cannot write the blob to standard output: {error.strerror or error}")) from error


def _check_file(path: Path | None, named: str) -> None:
    if path is None:
        if sys.stdout is None:
            raise OutputError("standard output is closed: name a file (--output)")
    elif path.is_dir() or named.endswith(os.sep):
        raise OutputError(f"{named} is a folder: name a file")
    elif not is_special(path) and not (parent := target_of(path).parent).is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {parent}")


@app.command(
    name="fetch",
    epilog=epilog(
        "bitstore fetch hashes.txt -o blobs",
        "bitstore fetch hashes.csv --column sha256 -o blobs.parquet --store https://host/{digest[:2]}/{digest}",
        "bitstore fetch hashes.txt -o blobs --store s3://bucket/files/ --profile team --cache /tmp/cache",
        "bitstore fetch --retry blobs/failed.tsv -o blobs",
        "bitstore fetch hashes.txt -o blobs --json | jq -r 'select(.kind == \"missing\") | .digest'",
    ),
)
@as_command
def fetch_command(
    stores: StoreOptions,
    listed: ListOptions,
    lookups: LookupOptions,
    reporting: Reporting,
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
        if output_path in (None, "", "-"):
            raise OutputError("say where the blobs go: --output DIR, or --output FILE.parquet")
        if (hashes is None) == (retry is None):
            raise ListError("give either a list of hashes, or --retry with the failed.tsv of an earlier run")
        if existing not in ("skip", "check", "replace"):
            raise OutputError(f"--existing {existing}: choose skip, check or replace")
        policy: Existing = existing  # type: ignore[assignment]
        entries, composite = listed.open(retry or hashes or "", stores, failures=retry is not None)
        target = output(Path(output_path or ""), algorithm=entries.algorithm, fan_out=fan_out, existing=policy)
        listings = _listings(target, retry)
    report = fetch(
        composite,
        entries,
        output=target,
        listings=listings,
        total=entries.total,
        retrying=retry is not None,
        timeout=lookups.timeout,
        in_flight=lookups.in_flight,
        max_failures=lookups.max_failures,
        shown=not reporting.quiet,
        watch=show_outcome if reporting.json else None,
    )
    complete = report.stopped is None and report.interrupted is None
    resume = None
    if not complete:
        resume = _how_to_resume(report, target.path)
    elif report.failed:
        # A Parquet file cannot be added to.
        where = target.path if isinstance(target, Folder) else target.path.with_name("more.parquet")
        again = ["bitstore", "fetch", "--retry", str(listings.failed.path), "-o", str(where), *stores.arguments()]
        again += ["--fan-out", str(fan_out)] if fan_out else []
        resume = f"resume with the failures: {redact_url(shlex.join(again))}"
    if reporting.json:
        ending: dict[str, Any] = {"exit_code": report.exit_code, "complete": complete, "resume": resume}
        show_line(report_line("fetch", report, entries=report.entries, there=report.there, **ending))
    reporting.tell("\n".join(filter(None, [report.summary(composite, listings), resume])))
    raise End(report.exit_code)


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


def _how_to_resume(report: FetchReport, path: Path) -> str:
    if path.suffix in (".parquet", ".pq"):
        kept = f"; what was fetched is in {report.partial}" if report.partial else ""
        return (
            f"{path} was not made{kept}. The same command again starts from the beginning (a cache makes that quick)."
        )
    return "The same command again resumes from here: files that are there are not fetched again."


app.command(
    name="locate",
    epilog=epilog(
        "bitstore locate da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "bitstore locate da39a3ee5e6b4b0d3255bfef95601890afd80709 --store s3://bucket/prefix/ --json",
    ),
)(as_command(locate))
app.command(
    name="exists",
    epilog=epilog("bitstore exists hashes.txt", "bitstore exists hashes.txt -o report --store s3://bucket/prefix/"),
)(as_command(exists))
app.command(
    name="put",
    epilog=epilog(
        "bitstore put photos scan.tif --config bitstore.toml --tier archive",
        "bitstore put photos --store s3://bucket/prefix/ --algorithm sha256",
        "bitstore put - --store gs://bucket/{digest[:2]}/{digest} --algorithm sha1",
    ),
)(as_command(put))
app.command(
    name="warm",
    epilog=epilog(
        "bitstore warm hashes.parquet --column sha1 --dry-run",
        "bitstore warm hashes.parquet --ledger ledger --max-failures 1000",
        "bitstore warm hashes.txt --ray auto --target owner --ledger s3-ledger",
    ),
)(as_command(warm))

app.command(
    name="init",
    epilog=epilog(
        "bitstore init",
        "bitstore init s3://bucket/files/ gs://other/{digest[:2]}/{digest} --algorithm sha1 --cache /data/blobs",
        "bitstore init https://host/blobs/ --algorithm sha256 -o -",
    ),
)(as_command(init))


@app.command(epilog=epilog("bitstore demo", "bitstore demo --blobs 500 --no-ray --keep"))
@as_command
def demo(
    reporting: Reporting,
    blobs: Annotated[int, typer.Option(metavar="N", min=100, help="How many blobs to make.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder of the demo, and say where it is.")] = False,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also on a local Ray.")] = True,
) -> None:
    """See it work: three stores, a cache, a paid API and Ray.

    Makes blobs, spreads them over three stores behind a disk cache and a counted pretend-API, fetches them here and on
    a local Ray, and checks what it claims.
    """
    from bitstore._cli.demo import demo as run_demo

    if reporting.json:
        holds = run_demo(blobs=blobs, keep=keep, ray=ray, say=reporting.note, put=show_line)
    else:
        holds = run_demo(blobs=blobs, keep=keep, ray=ray, say=show)
    raise End(0 if holds else 2)


@app.command(epilog=epilog("bitstore version", "bitstore version --json"))
@as_command
def version(reporting: Reporting) -> None:
    """Show the version."""
    python = ".".join(map(str, sys.version_info[:3]))
    reporting.show(Version(version=bitstore.__version__, python=python), bitstore.__version__)
