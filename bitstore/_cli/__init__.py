"""The `bitstore` command."""

from __future__ import annotations

from bitstore._cli.terminal import INTERRUPTED, crashed, end_streams, hold_descriptors, say

__all__ = ["main"]


def main() -> int:
    """Run the command that `sys.argv` names; returns the exit code."""
    try:
        hold_descriptors()
        return end_streams(_run())
    except KeyboardInterrupt:
        return INTERRUPTED


def _run() -> int:
    try:
        from bitstore._cli.commands import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        say(f"bitstore: the command line needs {package}: pip install 'epic-bitstore[cli]'")
        return 3
    except Exception as error:  # such as a broken build of a library
        crashed(error)
        return 3
    return run()
