"""What a command tells, and on which stream: the options `--json`, `--verbose` and `--quiet`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from bitstore._cli.lines import Error, Line, show_line
from bitstore._cli.logs import log_said
from bitstore._cli.terminal import End, no_reader, refuse, say, show

__all__ = ["Reporting"]


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """What a command tells: results to standard output, everything else to standard error."""

    json: Annotated[
        bool, typer.Option("--json", help="Write results to standard output as JSON, one object a line.")
    ] = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            metavar="",
            help="Log more; -vv: also what each tier answers.",
        ),
    ] = 0
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors: no progress, no warnings.")
    ] = False

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown: not between lines of JSON on the same terminal."""
        return not self.quiet and not (self.json and sys.stdout is not None and sys.stdout.isatty())

    def show(self, line: Line, text: str) -> None:
        """Write a result to standard output: `line` with --json, else `text`. Raises `OSError`."""
        if self.json:
            show_line(line)
        else:
            show(text)

    def note(self, text: str) -> None:
        """Say what is no result, unless results alone are wanted."""
        if not self.quiet:
            say(text)

    def tell(self, text: str) -> None:
        """Say in words what --json writes as an object."""
        if not self.json:
            self.note(text)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """While entered, the library's log is said; with --json, an error is an object as well."""
        if self.quiet and self.verbose:
            refuse("--quiet and --verbose exclude each other: leave one out")
        level = logging.ERROR if self.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbose, 2)]
        try:
            with log_said(level):
                yield
        except End as end:
            if self.json and end.reason is not None:
                try:
                    show_line(Error(message=end.reason, exit_code=end.code))
                except OSError:  # the reason was said on standard error, and the code tells more than a lost object
                    no_reader()
            raise
