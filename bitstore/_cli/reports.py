"""What long work tells at its end: a report as an object, and in files as JSON and as a page."""

from __future__ import annotations

import datetime
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import bitstore
from bitstore._cli import lines
from bitstore._cli.lines import as_json, show_line
from bitstore._cli.options import Reporting
from bitstore._cli.outputs import OutputError
from bitstore._cli.page import page
from bitstore._cli.runs import RunReport
from bitstore._cli.spending import spent_keys
from bitstore._cli.terminal import End, fail, in_words
from bitstore._limits.budget import Budget
from bitstore._support.atomic import target_of, write_into
from bitstore._support.redact import redact
from bitstore._tiers.stats import TierStats
from bitstore._warming.outcome import Outcome
from bitstore._warming.tally import Tally

__all__ = ["ReportOptions", "fetch_line", "report_line", "run_keys", "show_outcome"]

_KINDS = (".html", ".json")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Files that get the report of a run."""

    report: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.html|FILE.json",
            help="Write the report to a file: a page with plots, or JSON; may be repeated.",
        ),
    ] = None

    def check(self) -> None:
        """Raise `OutputError` for a file that cannot be written, before the run."""
        for path in self.report or ():
            if path.suffix.lower() not in _KINDS:
                raise OutputError(f"--report {path}: its name ends neither in {' nor in '.join(_KINDS)}")
            nearest = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
            if not nearest.is_dir():
                raise OutputError(f"--report {path} cannot be written: {nearest} is no folder")
            if path.exists() and not path.is_file():
                raise OutputError(f"--report {path} is a folder, pipe or device: name a file")

    def end(self, report: lines.Report | lines.Verification, in_words: str, reporting: Reporting) -> NoReturn:
        """Write the files, tell the report as an object or in words, and end the command with the report's exit code.

        It ends with 2 where a file could not be written.
        """
        lost: OutputError | None = None
        try:
            self._write(report)
        except OutputError as error:
            lost = error
        if reporting.json:
            show_line(report)
        reporting.tell(in_words)
        if lost is not None:
            fail(max(report.exit_code, 2), lost)
        raise End(report.exit_code)

    def _write(self, report: lines.Report | lines.Verification) -> None:
        for path in self.report or ():
            content = page(report) if path.suffix.lower() == ".html" else as_json(report) + "\n"
            try:
                target_of(path).parent.mkdir(parents=True, exist_ok=True)  # it may be the folder of the blobs
                write_into(path, content.encode("utf-8", "replace"))
            except OSError as error:
                raise OutputError(f"cannot write the report {path}: {error.strerror or error}") from error


def show_outcome(outcome: Outcome) -> None:
    """Write an outcome to standard output. Raises `OutputError`: the run stops, and keeps what it has."""
    digest, kind, tier, size, error, _ = outcome
    try:
        show_line(lines.Outcome(digest=digest, kind=kind, source=tier, bytes=size, error=error))
    except OSError as lost:
        raise OutputError(f"cannot write to standard output: {in_words(lost)}") from lost


def fetch_line(
    command: str,
    report: RunReport,
    *,
    resume: str | None,
    tiers: Iterable[TierStats] | None = None,
    budget: Budget | None = None,
    planned: list[dict[str, Any]] | None = None,
) -> lines.Report:
    """The report of a run that goes through a list once as an object; see `report_line`."""
    return report_line(
        command,
        report,
        entries=report.done if report.complete else report.entries,  # the size of a list is first estimated
        there=report.there,
        exit_code=report.exit_code,
        complete=report.complete,
        resume=resume,
        tiers=tiers,
        spent=spent_keys(budget),
        planned=planned,
    )


def report_line(
    command: str,
    tally: Tally,
    *,
    entries: int | None,
    there: int,
    exit_code: int,
    complete: bool,
    resume: str | None,
    tiers: Iterable[TierStats] | None,
    spent: list[dict[str, Any]] | None = None,
    planned: list[dict[str, Any]] | None = None,
) -> lines.Report:
    """The report of a run through a list as an object; for the other parameters see `run_keys`.

    Parameters
    ----------
    entries
        About how many entries the list has; None: unknown.
    there
        How many of them were not asked for, because they are there from before.
    tiers
        What each tier did; None: unknown here.
    spent
        What was spent at each tier; None: nothing was counted.
    planned
        What was planned beside what it came to; None: there was no plan.
    """
    return lines.Report(
        entries=entries,
        found=tally.found,
        there=there,
        missing=tally.missing,
        invalid=tally.invalid,
        by_tier=dict(tally.by_tier),
        tiers=None if tiers is None else [tier.as_dict() for tier in tiers],
        spent=spent,
        planned=planned,
        **run_keys(command, tally, exit_code=exit_code, complete=complete, resume=resume),
    )


def run_keys(command: str, tally: Tally, *, exit_code: int, complete: bool, resume: str | None) -> dict[str, Any]:
    """What the reports of all long work have, by key.

    Parameters
    ----------
    command
        Name of the command.
    tally
        The counts.
    exit_code, complete
        How the run ended, and whether it did all that was asked of it.
    resume
        How to go on, in words; None: nothing is left.
    """
    started = datetime.datetime.fromtimestamp(tally.timeline.started, datetime.timezone.utc)
    return {
        "command": command,
        "command_line": redact(shlex.join(["bitstore", *sys.argv[1:]])),
        "version": bitstore.__version__,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(tally.seconds, 3),
        "exit_code": exit_code,
        "complete": complete,
        "failed": tally.failed,
        "bytes": tally.bytes,
        "sizes": [{"below": 1 << bits, "blobs": count} for bits, count in sorted(tally.sizes.items())],
        "timeline": [
            {"seconds": round(seconds, 3), "answered": answered, "bytes": size}
            for seconds, answered, size in tally.timeline.samples(tally.asked, tally.bytes)
        ],
        "causes": [cause._asdict() for cause in tally.causes],
        "stopped": tally.stopped,
        "resume": resume,
    }
