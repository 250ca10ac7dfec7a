"""The `bitstore` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command that `sys.argv` names; returns the exit code."""
    try:
        from bitstore._cli.commands import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "typer":
            raise
        print("bitstore: the command line needs typer: pip install 'epic-bitstore[cli]'", file=sys.stderr)
        return 3
    return run()
