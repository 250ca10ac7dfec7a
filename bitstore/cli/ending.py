"""How a command ends."""

from __future__ import annotations

from typing import NoReturn

import typer

__all__ = ["CODES", "End", "refuse"]

CODES = (
    "Exit codes: 0 everything found; 1 something is missing, damaged, or was no digest; 2 something failed, so that we "
    "do not know; 3 nothing could be begun (bad option, list, configuration or output); 130 interrupted."
)


class End(Exception):
    """Ends the command with this exit code, whatever the framework thinks of exit codes."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def refuse(error: object) -> NoReturn:
    """Say why nothing is begun, and end."""
    typer.echo(f"bitstore: {error}", err=True)
    raise End(3)
