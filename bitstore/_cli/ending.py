"""How a command ends."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

import typer

__all__ = ["CODES", "End", "nobody_reads", "refuse"]

CODES = (
    "Exit codes: 0 everything found; 1 something is missing, damaged, or was no digest; 2 something failed, so that we "
    "do not know; 3 nothing could be begun (bad option, list, configuration or output); 130 interrupted."
)


class End(Exception):
    """Ends the command with this exit code, whatever the framework thinks of exit codes."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def nobody_reads(message: str | None = None) -> int:
    """What is left of standard output goes nowhere, quietly or after `message`. Returns the exit code."""
    # Else the interpreter would try once more at its end, and complain in its own words.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    if message is None:  # as other commands end whose reader has seen enough
        return 128 + signal.SIGPIPE
    typer.echo(f"bitstore: {message}", err=True)
    return 2


def refuse(error: object) -> NoReturn:
    """Say why nothing is begun, and end."""
    typer.echo(f"bitstore: {error}", err=True)
    raise End(3)
