"""`bitstore index build`: a membership index from lists, live listings and inventories."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from bitstore._cli import lines
from bitstore._cli.index_sources import ReadOptions, Source, source_of
from bitstore._cli.options import LIST, Reporting, StoreOptions, one_of
from bitstore._cli.runs import RunReport, running
from bitstore._cli.terminal import End, fail, in_words, refuse, refusing
from bitstore._indexing.reading import Reading
from bitstore._indexing.workplace import Workplace
from bitstore._support.atomic import Draft, sweep, target_of
from bitstore._support.digests import ALGORITHMS
from bitstore._support.sizes import rounded_size
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, described
from bitstore.index import Index, IndexBuilder
from bitstore.index._membership import why_no_proof
from bitstore.index._noted import Noted
from bitstore.index._writes import begin, place_of, withdraw

__all__ = ["LAYOUTS", "Output", "build", "show_index", "shown", "target"]

LAYOUTS = ("sorted", "fuse")
_TOLD = 3  # entries of a list that are no digests and are shown one by one
_NAMED = 20  # sources that an index names
_LONGEST = 3000  # characters of their names
_BUCKET_OPTIONS = ("anonymous", "profile", "region", "endpoint_url")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The index; one that is there is replaced.")
]


@dataclass(kw_only=True)
class _BuildReport(RunReport):
    """The counts of a build, as the progress shows them."""

    reading: Reading = field(default_factory=Reading)

    @property
    def asked(self) -> int:
        """How many digests were read."""
        return self.reading.digests

    @property
    def done(self) -> int:
        """How many entries and keys were read."""
        return self.reading.digests + self.reading.others

    @property
    def total(self) -> int | None:
        """About how many there are; None: unknown."""
        return self.reading.total


def build(
    output: Output,
    stores: StoreOptions,
    reporting: Reporting,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"What the index is of: a folder, a URL prefix or key template, which is listed; the manifest.json of "
            f"an S3 Inventory or the ..._manifest.json of Storage Insights (path or URL); or a list. {LIST}"
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="sorted|fuse",
            autocompletion=one_of(*LAYOUTS),
            help="sorted: 8.5 bytes a digest, and merges with others; fuse: 2.3, wrong for 1 absent digest in 65,536.",
        ),
    ] = "sorted",
    tier: Annotated[
        str | None, typer.Option(metavar="NAME", help="Without sources: list this tier of the configuration.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"{', '.join(ALGORITHMS)} (default: what the list or the keys are)."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column (or key) of a table that holds the digests.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="With an inventory or a list of keys: which keys are digests, such as s3://b/{digest}."
        ),
    ] = None,
    covers_up_to: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="With a list or inventory: when it was whole, such as 2026-11-27T06:00:00+00:00."
        ),
    ] = None,
) -> None:
    """Build a membership index: which blobs a source surely does not hold.

    What is listed is kept beside the index until that is written: the same command again goes on with it. An index is
    whole or not written at all. Exit code 1: entries of a list are no digests, or there is no digest at all; 2: a
    source could not be read to its end.
    """
    begun = time.monotonic()
    with refusing():
        path = target(output)
        options = _options(path, stores, sources, tier, column, template, covers_up_to, layout)
        workplace = Workplace(path)
    with workplace:
        with refusing():
            named = [*(sources or ()), *(stores.store or ())]
            if stores.store:
                options = ReadOptions(**{**vars(options), "stores": _without_urls(stores)})
            with _noting(path, reporting):
                found: list[Source] = []
                for text in named or [None]:
                    found.append(source_of(text, options, algorithm, workplace))
                    algorithm = found[0].algorithm.name
                    if found[-1].algorithm is not found[0].algorithm:
                        raise ConfigError(f"{found[-1].name} is of {found[-1].algorithm.name}, and not of {algorithm}")
                _check_used(found, options)
            builder = _builder(found[0].algorithm.name, path.parent)
        resumed = sum(source.resumed for source in found)
        if resumed:
            begun_at = min(source.started for source in found if source.started is not None)
            reporting.note(
                f"going on behind {resumed:,} keys that an earlier run has listed; the index covers up to its begin, "
                f"{begun_at.isoformat(timespec='seconds')} (to list all again: delete {workplace.path})"
            )
        report = _BuildReport()
        totals = [source.total for source in found]
        report.reading.total = None if None in totals else sum(total or 0 for total in totals)
        with builder, running("index build", report, (), shown=reporting.shows_progress):
            try:
                bad = _read(found, builder, report.reading, reporting)
                # `fuse` and `sorted` alone: see `_options`.
                builder.write(
                    path,
                    layout=layout,  # type: ignore[arg-type]
                    source=_names(found),
                    service=_services(found),
                    covers_up_to=report.reading.covers_up_to,
                )
                workplace.clear()
            except (BitstoreError, OSError, ValueError) as error:
                report.stopped = described(error) if isinstance(error, BitstoreError) else in_words(error)
        _end_early(report, path, found)
    reading = report.reading
    code = 1 if bad or not reading.digests else 0
    show_index(path, reporting)
    told = lines.IndexBuild(
        file=str(path),
        digests=reading.digests,
        others=reading.others,
        resumed=resumed,
        seconds=round(time.monotonic() - begun, 3),
        exit_code=code,
    )
    if reporting.json:
        lines.show_line(told)
    reporting.tell(
        f"read {reading.digests:,} digests in {told.seconds:.1f} s; keys or entries that are no digests: "
        f"{reading.others:,}" + ("" if reading.digests else "; the index is empty: is the prefix or the list right?")
    )
    raise End(code)


def target(path: Path) -> Path:
    """The file that an index is written to; its folder is made.

    Raises
    ------
    ConfigError, OSError
        No file can be written there.
    """
    if str(path) in ("-", ".", ""):
        raise ConfigError("--output names the file of the index: it cannot be written to standard output")
    try:
        target_of(path).parent.mkdir(parents=True, exist_ok=True)
        sweep(target_of(path).parent)
        with Draft(path) as draft:
            draft.write(b"")
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror or error}") from error
    return path


@contextmanager
def _noting(path: Path, reporting: Reporting) -> Iterator[None]:
    """Let writers note what they write from now on: before anything is listed, so that no blob is lost between."""
    fresh = False
    try:
        fresh = begin(path)
    except (OSError, BitstoreError) as error:
        reporting.note(f"what is written meanwhile cannot be noted, so the index will prove no absence: {error}")
    try:
        yield
    except BaseException:  # nothing is built
        if fresh:
            with suppress(OSError, BitstoreError):
                withdraw(path)
        raise


def show_index(path: Path, reporting: Reporting) -> None:
    """Tell what the index at `path` says of itself, and what was noted since. Raises `DamagedIndex`, OSError."""
    with Index(path) as index:
        told, size = index.info, path.stat().st_size
    noted = Noted(place_of(path))
    no_proof = why_no_proof(told, noted)
    values = {**told.as_dict(), "written_since": len(noted), "no_proof": no_proof}
    age = max(0.0, (datetime.now(timezone.utc) - told.covers_up_to).total_seconds())
    proof = "an absence is proved" if no_proof is None else f"no absence is proved: {no_proof}"
    reporting.show(
        lines.IndexFile(file=str(path), bytes=size, **values),
        "\n".join(
            [
                f"{path}: {told.count:,} {told.algorithm} digests, {told.layout}, {rounded_size(size)}",
                f"  source: {told.source or 'unknown'}{told.service and f' at {told.service}'}",
                f"  covers up to: {shown(told.covers_up_to)}, {told.coverage}; {age / 3600:,.1f} hours ago",
                f"  made at: {shown(told.made_at)}",
                f"  written since: {len(noted):,} digests; {proof}",
            ]
        ),
    )


def shown(moment: datetime) -> str:
    """A moment as people read it."""
    return moment.isoformat(timespec="seconds")


def _same(text: str, path: Path) -> bool:
    try:
        return path.samefile(text)
    except (OSError, ValueError):
        return False


def _options(
    output: Path,
    stores: StoreOptions,
    sources: list[str] | None,
    tier: str | None,
    column: str | None,
    template: str | None,
    covers_up_to: str | None,
    layout: str,
) -> ReadOptions:
    named = [*(sources or ()), *(stores.store or ())]
    if "" in named:
        raise ConfigError("a source is empty: name a list, a folder, a URL or a manifest.json")
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout}: choose {' or '.join(LAYOUTS)}")
    if stores.cache or stores.compression:
        raise ConfigError("an index is of keys: leave --cache and --compression out")
    if named and (tier is not None or stores.config is not None):
        raise ConfigError("--config and --tier name what is listed: leave them or the sources out")
    if not any("://" in text for text in named) and (given := [key for key in _BUCKET_OPTIONS if getattr(stores, key)]):
        raise ConfigError(f"--{given[0].replace('_', '-')} goes with a URL")
    if any(text != "-" and "://" not in text and _same(text, output) for text in named):
        raise ConfigError(f"--output {output} is the list itself: name another file")
    if named.count("-") > 1:
        raise ConfigError("standard input (-) can be read once, and is named more often")
    if template is not None and not any(map(_takes_template, named)):
        raise ConfigError(
            "--template goes with the manifest.json of an inventory, or a list of keys; a URL is a template itself"
        )
    try:
        moment = None if covers_up_to is None else datetime.fromisoformat(covers_up_to.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if covers_up_to is not None and (moment is None or moment.tzinfo is None):
        raise ConfigError(f"--covers-up-to {covers_up_to}: write a moment with its zone: 2026-11-27T06:00:00+00:00")
    return ReadOptions(stores=stores, tier=tier, column=column, template=template, moment=moment)


def _takes_template(text: str) -> bool:
    is_manifest = text.partition("?")[0].endswith("manifest.json")
    return text == "-" or is_manifest or not ("://" in text or Path(text).is_dir())


def _check_used(found: list[Source], options: ReadOptions) -> None:
    if options.column is not None and not any(source.is_list for source in found):
        raise ConfigError("--column goes with a list")
    if options.moment is not None and all(source.started is not None for source in found):
        raise ConfigError("--covers-up-to goes with a list or an inventory: a listing covers up to when it begins")


def _names(found: list[Source]) -> str:
    """The names of the sources, as far as an index has room for them."""
    names = list(dict.fromkeys(source.name for source in found))
    text = "; ".join(names[:_NAMED])
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return text if len(names) <= _NAMED else f"{text}; and {len(names) - _NAMED:,} more"


def _services(found: list[Source]) -> str:
    """The services that were listed; nothing where one of them is not known, which may be any."""
    services = dict.fromkeys(source.service for source in found)
    return "; ".join(name for name in services if name is not None) if None not in services else ""


def _without_urls(stores: StoreOptions) -> StoreOptions:
    values = {**vars(stores), "store": None}
    return StoreOptions(**values)


def _builder(algorithm: str, folder: Path) -> IndexBuilder:
    try:
        return IndexBuilder(algorithm, folder=folder)
    except ImportError as error:
        refuse(error)


def _read(found: list[Source], builder: IndexBuilder, reading: Reading, reporting: Reporting) -> int:
    """Read all sources; returns how many entries of lists were no digests."""
    bad = 0

    def refused(number: int, text: str, reason: str) -> None:
        nonlocal bad
        bad += 1
        if bad <= _TOLD:
            reporting.note(f"entry {number}: {text[:70]!r}: {reason}")

    for source in found:
        source.add_to(builder, reading, refused)
    return bad


def _end_early(report: _BuildReport, path: Path, found: list[Source]) -> None:
    """End the command, if the run was cut short."""
    if report.complete:
        return
    kept = "" if all(source.is_list for source in found) else "; what was listed is kept: the same command goes on"
    if report.interrupted is not None:
        fail(128 + report.interrupted, f"interrupted: {path} was not written{kept}")
    fail(2, f"{path} was not written: {report.stopped}{kept}")
