"""`bitstore misses`: look at ledgers of misses, export them, and let sources be asked again."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from bitstore._cli import lines
from bitstore._cli.groups import as_command
from bitstore._cli.options import LIST, Reporting
from bitstore._cli.terminal import epilog, fail, refuse, refusing, show
from bitstore._digests.hash_list import HashList
from bitstore._digests.remembers import RemembersMisses
from bitstore._misses.export import FORMATS, as_csv
from bitstore._misses.ledger import MissLedger
from bitstore._support.spans import format_span
from bitstore._tiers.chain import Chain
from bitstore.config import ConfigError, load
from bitstore.errors import StoreNotAvailable

__all__ = ["app"]

_PORTION = 10_000  # misses that are written together

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at ledgers of misses: what sources have said they lack, so that they are not asked again.",
)

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The ledger (default: those of the configuration file).")
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Without a ledger: the configuration whose ledgers are meant.")
]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="Only the source of this name.")]


@app.command(
    name="show",
    epilog=epilog("bitstore misses show misses.sqlite", "bitstore misses show --config bitstore.toml --json"),
)
@as_command
def show_command(
    reporting: Reporting,
    file: File = None,
    config: Config = None,
    check: Annotated[bool, typer.Option("--check", help="Read all of the file: is it whole? Exit code 2: no.")] = False,
) -> None:
    """Show how many misses are known of each source, and for how long they count."""
    for ledger in _ledgers(file, config):
        try:
            if check:
                ledger.check()
            sources = ledger.sources()
        except StoreNotAvailable as error:
            fail(2, error.reason)
        if not sources:
            reporting.note(f"{ledger.path}: no source has used it yet")
        for source in sources:
            lasts = f"of {source.expired:,} the time of {format_span(source.lifetime)} is over"
            told = f"{ledger.path}: {source.name} ({source.place or 'of another node'}): {source.misses:,} misses"
            reporting.show(
                lines.MissSource(
                    file=ledger.path,
                    **{
                        name: value.isoformat() if name in ("first", "last") and value is not None else value
                        for name, value in source._asdict().items()
                    },
                ),
                f"{told}; {lasts}" if source.expired else f"{told}, which count for {format_span(source.lifetime)}",
            )


@app.command(
    epilog=epilog(
        "bitstore misses export misses.sqlite -o misses.parquet",
        "bitstore misses export misses.sqlite --source virustotal -o missing.txt",
        "bitstore misses export misses.sqlite | column -ts,",
    )
)
@as_command
def export(
    reporting: Reporting,
    file: File = None,
    config: Config = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=f"{', '.join(FORMATS)} (default: CSV to standard output)."),
    ] = None,
    source: Source = None,
) -> None:
    """Write the misses with their sources, times and reasons; expired ones are marked."""
    ledgers = _ledgers(file, config, source)
    if output is not None and len(ledgers) != 1:
        refuse(f"-o takes one ledger, and the configuration has {len(ledgers)}: name the one that is meant")
    try:
        if output is not None:
            try:
                count = ledgers[0].export(output, source=source)
            except OSError as error:
                refuse(f"cannot write {output}: {error.strerror or error}")
            reporting.show(lines.MissExport(file=str(output), misses=count), f"{output}: {count:,} misses")
            return
        misses = (miss for ledger in ledgers for miss in ledger.misses(source))
        if reporting.json:
            for miss in misses:
                lines.show_line(lines.Miss(**miss.as_dict()))
            return
        head = True
        while (some := list(islice(misses, _PORTION))) or head:
            table = StringIO(newline="")
            as_csv(table, some, head=head)
            show(table.getvalue().removesuffix("\n"))
            head = False
    except StoreNotAvailable as error:
        fail(2, error.reason)
    except ValueError as error:
        refuse(error)


@app.command(
    epilog=epilog(
        "bitstore misses forget misses.sqlite --source virustotal",
        "bitstore misses forget misses.sqlite --hashes new.txt",
        "bitstore misses forget --config bitstore.toml --expired",
    )
)
@as_command
def forget(
    reporting: Reporting,
    file: File = None,
    config: Config = None,
    source: Source = None,
    digest: Annotated[list[str] | None, typer.Option(metavar="HASH", help="A digest; may be repeated.")] = None,
    hashes: Annotated[str | None, typer.Option(metavar="LIST", help=LIST)] = None,
    expired: Annotated[bool, typer.Option("--expired", help="What does not count any longer, to save room.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All that is known.")] = False,
) -> None:
    """Let sources be asked again for what they have said they lack. Other nodes see it when they read again."""
    if expired and (source or digest or hashes or everything):
        refuse("--expired goes alone")
    if everything and (source or digest or hashes):
        refuse("--all goes alone")
    if not (source or digest or hashes or expired or everything):
        refuse("nothing says what is forgotten: --source NAME, --digest HASH, --hashes LIST, --expired or --all")
    with refusing():
        wanted = [*(digest or ()), *_digests(hashes)] if digest or hashes else None
    for ledger in _ledgers(file, config, source):
        try:
            before = sum(each.misses for each in ledger.sources())
            if expired:
                ledger.forget_expired()
            else:
                ledger.forget(wanted, source=source)
            gone = max(0, before - sum(each.misses for each in ledger.sources()))
        except StoreNotAvailable as error:
            fail(2, error.reason)
        except ValueError as error:
            refuse(error)
        reporting.show(lines.Forgotten(file=ledger.path, misses=gone), f"{ledger.path}: {gone:,} misses forgotten")


def _digests(hashes: str | None) -> Iterator[str]:
    if hashes is None:
        return
    for entry in HashList(hashes):
        if entry.digest is None:
            refuse(f"{hashes}: entry {entry.number} is no digest: {entry.reason}")
        yield entry.digest


def _ledgers(file: Path | None, config: Path | None, source: str | None = None) -> list[MissLedger]:
    """The ledger that is named, or those of the configuration: those that know `source`, where one is named."""
    found = _named(file, config)
    if source is None:
        return found
    try:
        known = [sorted({each.name for each in ledger.sources()}) for ledger in found]
    except StoreNotAvailable as error:
        fail(2, error.reason)
    having = [ledger for ledger, names in zip(found, known, strict=True) if source in names]
    if not having:
        told = "; ".join(
            f"{ledger.path} has no such source (it has: {', '.join(names) or 'none'})"
            for ledger, names in zip(found, known, strict=True)
        )
        refuse(f"--source {source}: {told}")
    return having


def _named(file: Path | None, config: Path | None) -> list[MissLedger]:
    with refusing():
        if file is not None:
            if config is not None:
                raise ConfigError("a ledger and --config exclude each other: leave one out")
            if not file.is_file() or not file.stat().st_size:  # an empty one would become a ledger by being opened
                raise ConfigError(f"there is no ledger {file}")
            return [MissLedger(file)]
        store = load(config)
        found = list(dict.fromkeys(_ledgers_of(store)))
        if not found:
            raise ConfigError(
                f"{store.configured_in} has no ledger of misses: name one, or give a source the key misses"
            )
        return found


def _ledgers_of(store: Any) -> Iterator[MissLedger]:
    if isinstance(store, RemembersMisses):
        yield store.ledger
    elif isinstance(store, Chain):
        for tier in store.tiers:
            yield from _ledgers_of(tier.store)
