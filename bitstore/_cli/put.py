"""`bitstore put`: store files under their digests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bitstore._cli import lines
from bitstore._cli.inputs import Input, check_inputs, inputs, readable, scratch_folder
from bitstore._cli.options import Reporting, StoreOptions, one_of
from bitstore._cli.outputs import OutputError
from bitstore._cli.putting import CHECKS, Check, Put, Putting, put_all, writable_tier
from bitstore._cli.reports import ReportOptions, fetch_line
from bitstore._cli.runs import RunReport, running
from bitstore._cli.terminal import in_words, refusing, show_bytes
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact
from bitstore._support.sizes import rounded_size
from bitstore.blob import Blob
from bitstore.config import ConfigError
from bitstore.errors import reason_of

__all__ = ["put"]

EXISTING = ("skip", "replace")


def put(
    files: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER|-...", help="What to store; - is standard input.")],
    stores: StoreOptions,
    reporting: Reporting,
    reports: ReportOptions,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of(*ALGORITHMS),
            help=f"With --store: {', '.join(ALGORITHMS)}; a configuration file says its own.",
        ),
    ] = None,
    tier: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to; default: the first source that can be written.")
    ] = None,
    existing: Annotated[
        str,
        typer.Option(
            help="What is there already: leave it, or write it again.",
            metavar="|".join(EXISTING),
            autocompletion=one_of(*EXISTING),
        ),
    ] = "skip",
    check: Annotated[
        str,
        typer.Option(
            help="Afterwards: read each blob back, or only compare its size; auto: read back up to 16 MiB.",
            metavar="|".join(CHECKS),
            autocompletion=one_of(*CHECKS),
        ),
    ] = "auto",
    in_flight: Annotated[int | None, typer.Option(metavar="N", min=1, help="The most files at once.")] = None,
    max_failures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Stop after N failures of one cause in a row; 0: never.")
    ] = 100,
) -> None:
    """Store files under their digests, and write `digest  file` for each, which is a list for other commands.

    Of a folder all files below it are stored; links in it are told and left out. What is there already is not sent
    again, so the same command resumes. Large files are streamed, and never sent if they change meanwhile; a tier with
    compression holds a whole file in memory. Exit code 2: a file could not be stored.
    """
    with refusing():
        reports.check()
        check_inputs(files)
        for name, value, choices in (("existing", existing, EXISTING), ("check", check, CHECKS)):
            if value not in choices:
                raise OutputError(f"--{name} {value}: choose {', '.join(choices)}")
        if stores.store and algorithm is None:
            raise ConfigError(f"--algorithm says which digests name the blobs: {', '.join(ALGORITHMS)}")
        if algorithm is not None and not stores.store:
            raise ConfigError("--algorithm goes with --store; a configuration file says its own")
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise ConfigError(f"--algorithm {algorithm}: choose {', '.join(ALGORITHMS)}")
        composite = stores.composite(algorithm)
        target = writable_tier(composite, tier)
        means: Any = check
        meant: Check = means
        putting = Putting(target, composite.algorithm, replace=existing == "replace", check=meant)
    run = _Run(reporting, target.name)
    report = run.report
    with scratch_folder() as scratch, running("put", report, (), shown=reporting.shows_progress) as going:

        def take(blob: Blob) -> None:
            with going.shield():
                run.take(blob)
            going.progress.look()

        for blob in put_all(putting, run.wanted(inputs(files, Path(scratch))), take, in_flight=in_flight):
            take(blob)
            report.stopped = report.causes.stop(max_failures or None)
            if report.stopped is not None:
                break
    resume = None if report.complete and not report.failed else "the same command again sends what is not there yet"
    told = [*run.summary(), *([resume] if resume else [])]
    reports.end(fetch_line("put", report, resume=resume), "\n".join(told), reporting)


class _Run:
    """The state of one run."""

    def __init__(self, reporting: Reporting, tier: str) -> None:
        self.report = RunReport()
        self._reporting = reporting
        self._tier = tier
        self._left_out = 0

    def wanted(self, found: Iterator[Input]) -> Iterator[Input]:
        """The files to store; what cannot be is reported."""
        for item in found:
            if item.left_out is not None:
                self._left_out += 1
                self._reporting.note(f"left out: {readable(item.name)}: {item.left_out}")
            elif item.error is not None:
                self._failed(item, item.error)
            else:
                yield item

    def take(self, blob: Blob) -> None:
        """Report what became of one file."""
        item: Input = blob.uri
        if blob.error is not None:
            own = isinstance(blob.error, OSError) and blob.error.strerror is not None
            self._failed(item, in_words(blob.error) if own else redact(reason_of(blob.error)))
            return
        found: Any = blob.data
        put: Put = found
        if put.written:
            self.report.count_found(self._tier, put.size)
        else:
            self.report.there += 1
            self.report.causes.answered()
        if self._reporting.json:
            kind = "stored" if put.written else "there"
            self._show(item, kind=kind, digest=put.digest, url=put.url, bytes=put.size, checked=put.checked)
        else:
            show_bytes(_sum_line(put.digest, os.fsencode(item.name)))  # the name of a file need not be text

    def _failed(self, item: Input, why: str) -> None:
        name = readable(item.name)
        self.report.count_failed(name, why)
        self._reporting.note(f"bitstore: {name}: {why}")
        if self._reporting.json:
            self._show(item, kind="failed", error=why)

    def _show(self, item: Input, **said: Any) -> None:
        unsaid = dict.fromkeys(("digest", "url", "bytes", "checked", "error"))
        lines.show_line(lines.Put(file=item.name, tier=self._tier, **{**unsaid, **said}))

    def summary(self) -> list[str]:
        """What the run says at its end."""
        report = self.report
        size = rounded_size(report.bytes)
        moved = f"{size} in {report.seconds:.1f} s ({report.rate})"
        told = [f"{report.beginning}stored {report.found:,} files, {moved}: {self._tier}"]
        if report.there:
            told.append(f"  {report.there:,} more were there already")
        if self._left_out:
            told.append(f"left out: {self._left_out:,} links and the like")
        if report.failed:
            told += [f"failed: {report.failed:,}", *report.causes.lines()]
        return told + report.ending()


def _sum_line(digest: str, name: bytes) -> bytes:
    """The line that sha1sum prints: https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html."""
    mark = b""
    if any(byte in name for byte in (b"\\", b"\n", b"\r")):
        mark = b"\\"
        name = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return mark + digest.encode() + b"  " + name + b"\n"
