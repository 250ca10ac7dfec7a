"""The commands and their options. Exit codes are the same everywhere; `--help` tells them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import bitstore
from bitstore._cli import cache as cache_commands
from bitstore._cli.check import check, show_command
from bitstore._cli.existing import exists
from bitstore._cli.fetch import fetch
from bitstore._cli.get import get
from bitstore._cli.init import init
from bitstore._cli.lines import Version, show_line
from bitstore._cli.locate import locate
from bitstore._cli.options import Reporting, as_command
from bitstore._cli.put import put
from bitstore._cli.terminal import INTERRUPTED, End, crashed, epilog, in_words, no_reader, say, show
from bitstore._cli.verify import verify
from bitstore._cli.warming import warm
from bitstore.errors import BitstoreError

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


app.command(
    name="get",
    epilog=epilog(
        "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 -o blob.bin",
        "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 --store s3://bucket/{digest[:2]}/{digest} | less",
    ),
)(as_command(get))
app.command(
    name="fetch",
    epilog=epilog(
        "bitstore fetch hashes.txt -o blobs",
        "bitstore fetch hashes.csv --column sha256 -o blobs.parquet --store https://host/{digest[:2]}/{digest}",
        "bitstore fetch hashes.txt -o blobs --store s3://bucket/files/ --profile team --cache /tmp/cache",
        "bitstore fetch hashes.parquet -o blobs --report report.html --report report.json",
        "bitstore fetch --retry blobs/failed.tsv -o blobs",
        "bitstore fetch hashes.txt -o blobs --json | jq -r 'select(.kind == \"missing\") | .digest'",
    ),
)(as_command(fetch))
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
    name="verify",
    epilog=epilog(
        "bitstore verify s3://bucket/prefix/ --sample 1000",
        "bitstore verify gs://bucket/{digest[:2]}/{digest}.gz --compression gzip --fraction 0.01 --seed 7",
        "bitstore verify --config bitstore.toml --tier archive",
    ),
)(as_command(verify))
app.command(
    name="warm",
    epilog=epilog(
        "bitstore warm hashes.parquet --column sha1 --dry-run",
        "bitstore warm hashes.parquet --ledger ledger --report report.html",
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
