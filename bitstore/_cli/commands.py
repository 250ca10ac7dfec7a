"""The commands and their options. Exit codes are the same everywhere; `--help` tells them."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

import bitstore
from bitstore._cli import cache as cache_commands
from bitstore._cli.ending import CODES, End, nobody_reads, refuse
from bitstore._cli.fetching import Outcome, Reports, fetch
from bitstore._cli.options import Anonymous, Cache, Compression, Config, Timeout, URLs
from bitstore._cli.outputs import Existing, Folder, OutputError, atomic_write, output
from bitstore._cli.progress import Progress
from bitstore._cli.reports import Report
from bitstore._cli.stores import Stores
from bitstore._cli.summary import summary
from bitstore._cli.warming import warm_command
from bitstore._digests.hash_list import HashList, ListError
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact_url
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, LookupFailed, NotFoundInStore

__all__ = ["run"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.",
    epilog=CODES,
)
app.add_typer(cache_commands.app, name="cache")
app.command(name="warm", epilog=CODES)(warm_command)


def run() -> int:
    """Run what `sys.argv` says; returns the exit code."""
    try:
        app(prog_name="bitstore")
    except End as end:
        return end.code
    except SystemExit as end:  # the framework's own: help is 0, a bad option 2, which here means something else
        if isinstance(end.__context__, BrokenPipeError):
            return nobody_reads()
        return {0: 0, None: 0, 1: 128 + signal.SIGINT}.get(end.code, 3)  # type: ignore[arg-type]
    except BrokenPipeError:
        return nobody_reads()
    except OSError as error:  # commands tell of their own: this is about the lines that they show
        return nobody_reads(f"cannot write to standard output: {error.strerror or error}")
    return 0


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them."""
    if version:
        typer.echo(bitstore.__version__)
        raise typer.Exit


@app.command(epilog=CODES)
def get(
    digest: Annotated[str, typer.Argument(help="The hash of the blob, plain or as sha1://...")],
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; default: standard output.")
    ] = None,
    config: Config = None,
    store: URLs = None,
    cache: Cache = None,
    compression: Compression = None,
    anonymous: Anonymous = False,
    timeout: Timeout = None,
) -> None:
    """Write the bytes of one blob to a file, or to standard output."""
    target = None if str(output_file) == "-" else output_file
    try:
        guessed = next((name for name, kind in ALGORITHMS.items() if kind.parse(digest) is not None), None)
        if store and guessed is None:
            raise ConfigError(f"{digest!r} is no digest of {', '.join(ALGORITHMS)}")
        composite = Stores(config, tuple(store or ()), cache, compression, anonymous).composite(guessed)
        composite.canonical(digest)
        if target is not None and target.is_dir():
            raise OutputError(f"{target} is a folder: name a file")
        if target is not None and not target.parent.is_dir():
            raise OutputError(f"{target} cannot be written: there is no folder {target.parent}")
        if target is None and sys.stdout is None:
            raise OutputError("standard output is closed: name a file (--output)")
    except BitstoreError as error:
        refuse(error)
    try:
        with Progress(None):
            data = composite.get(digest, timeout=timeout)
        if target is not None:
            atomic_write(target, data)
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except NotFoundInStore:
        tiers = ", ".join(composite.stats())
        typer.echo(f"bitstore: {digest} is missing (asked: {tiers})", err=True)
        raise End(1) from None
    except LookupFailed as error:  # without the composite's whole configuration
        typer.echo(f"bitstore: could not look up {digest}: {error.reason}", err=True)
        raise End(2) from None
    except BitstoreError as error:
        typer.echo(f"bitstore: {error}", err=True)
        raise End(2) from None
    except BrokenPipeError:
        raise End(nobody_reads()) from None
    except OSError as error:  # after the errors of the library, of which some are OSErrors too
        where = target or "standard output"
        raise End(nobody_reads(f"cannot write the blob to {where}: {error.strerror or error}")) from None
    except KeyboardInterrupt:
        raise End(128 + signal.SIGINT) from None


@app.command(name="fetch", epilog=CODES)
def fetch_command(
    hashes: Annotated[
        str | None,
        typer.Argument(
            help="A text file (one hash a line or what sha1sum prints, # begins a comment, also gzip-compressed), a "
            "Parquet file, or - for standard input."
        ),
    ] = None,
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR|FILE.parquet", help="A folder of files, or one Parquet file with all blobs."
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a Parquet list (default: sha1, digest, hash, ...).")
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(metavar="FAILED.tsv", help="Go on from the failures of an earlier run, instead of HASHES."),
    ] = None,
    config: Config = None,
    store: URLs = None,
    cache: Cache = None,
    compression: Compression = None,
    anonymous: Anonymous = False,
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"With --store: {', '.join(ALGORITHMS)} (default: what the list holds)."),
    ] = None,
    fan_out: Annotated[
        int, typer.Option(metavar="N", min=0, max=4, help="Spread files over folders of the first N characters.")
    ] = 0,
    existing: Annotated[
        str,
        typer.Option(
            metavar="skip|check|replace",
            help="Files that are there already: skip, skip if their hash is right, or fetch.",
        ),
    ] = "skip",
    in_flight: Annotated[int | None, typer.Option(metavar="N", min=1, help="The most lookups at once.")] = None,
    timeout: Timeout = None,
) -> None:
    """Fetch every blob of a list. What is missing, failed, or was no digest is told in files of their own.

    The same command again goes on where an earlier one stopped. Beside the files (for a Parquet file: named like it)
    are missing.txt, failed.tsv (digest, error) and invalid.tsv (line, text, why), each only if there is something to
    say.
    """
    try:
        if output_path is None:
            raise OutputError("say where the blobs go: --output DIR, or --output FILE.parquet")
        if (hashes is None) == (retry is None):
            raise ListError("give either a list of hashes, or --retry with the failed.tsv of an earlier run")
        if existing not in ("skip", "check", "replace"):
            raise OutputError(f"--existing {existing}: choose skip, check or replace")
        policy: Existing = existing  # type: ignore[assignment]
        if algorithm is not None and not store:
            raise ConfigError("--algorithm goes with --store; a configuration file says its own")
        chosen = Stores(config, tuple(store or ()), cache, compression, anonymous)
        composite = None if store else chosen.composite(None)
        entries = HashList(
            hashes if retry is None else retry,  # type: ignore[arg-type]
            column=column,
            algorithm=algorithm if composite is None else composite.algorithm,
            failures=retry is not None,
        )
        if composite is None:
            composite = chosen.composite(entries.algorithm.name)
        target = output(output_path, algorithm=entries.algorithm, fan_out=fan_out, existing=policy)
    except BitstoreError as error:
        refuse(error)
    reports = Reports(
        # A retry only adds to what earlier runs know to be missing.
        missing=Report(target.report_path("missing.txt"), append=retry is not None),
        failed=Report(target.report_path("failed.tsv") if retry is None else Path(retry)),
        invalid=Report(target.report_path("invalid.tsv"), append=retry is not None),
    )
    outcome = fetch(
        composite,
        entries,
        output=target,
        reports=reports,
        total=entries.total,
        retrying=retry is not None,
        timeout=timeout,
        in_flight=in_flight,
    )
    typer.echo(summary(outcome, composite, reports), err=True)
    if outcome.stopped is not None or outcome.interrupted is not None:
        typer.echo(_how_to_go_on(outcome, target.path), err=True)
    elif outcome.failed:
        # A Parquet file cannot be added to.
        where = target.path if isinstance(target, Folder) else target.path.with_name("more.parquet")
        again = ["bitstore", "fetch", "--retry", str(reports.failed.path), "-o", str(where), *chosen.arguments()]
        again += ["--fan-out", str(fan_out)] if fan_out else []
        typer.echo(f"go on from the failures: {redact_url(shlex.join(again))}", err=True)
    raise End(outcome.exit_code)


def _how_to_go_on(outcome: Outcome, path: Path) -> str:
    if path.suffix in (".parquet", ".pq"):
        kept = f"; what was fetched is in {outcome.partial}" if outcome.partial else ""
        return f"{path} was not made{kept}. The same command again starts anew (a cache makes that quick)."
    return "The same command again goes on from here: files that are there are not fetched again."


@app.command()
def demo(
    blobs: Annotated[int, typer.Option(metavar="N", min=100, help="How many blobs to make.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder of the demo, and tell where it is.")] = False,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also on a local Ray.")] = True,
) -> None:
    """See it work: three stores, a cache, a paid API and Ray.

    Makes blobs, spreads them over three stores behind a disk cache and a counted pretend-API, fetches them here and on
    a local Ray, and checks what it claims.
    """
    from bitstore._cli.demo import demo as show

    try:
        raise End(0 if show(blobs=blobs, keep=keep, ray=ray, say=typer.echo) else 2)
    except KeyboardInterrupt:
        raise End(128 + signal.SIGINT) from None


@app.command()
def version() -> None:
    """Show the version."""
    typer.echo(bitstore.__version__)
