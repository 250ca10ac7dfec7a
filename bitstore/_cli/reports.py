"""What long work tells while it goes on and at its end, for programs."""

from __future__ import annotations

from bitstore._cli import lines
from bitstore._cli.lines import show_line
from bitstore._warming.outcome import Outcome
from bitstore._warming.tally import Tally

__all__ = ["report_line", "show_outcome"]


def show_outcome(outcome: Outcome) -> None:
    """Write an outcome to standard output. Raises `OSError`."""
    digest, kind, tier, size, error = outcome
    show_line(lines.Outcome(digest=digest, kind=kind, source=tier, bytes=size, error=error))


def report_line(
    command: str, report: Tally, *, entries: int | None, there: int, exit_code: int, complete: bool, resume: str | None
) -> lines.Report:
    """The counts of a run as an object."""
    return lines.Report(
        command=command,
        exit_code=exit_code,
        complete=complete,
        entries=entries,
        found=report.found,
        there=there,
        missing=report.missing,
        failed=report.failed,
        invalid=report.invalid,
        bytes=report.bytes,
        seconds=round(report.seconds, 3),
        by_tier=dict(report.by_tier),
        causes=[cause._asdict() for cause in report.causes],
        stopped=report.stopped,
        resume=resume,
    )
