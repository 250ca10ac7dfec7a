"""What a command says, and how it ends: lines to standard error that never change an exit code, and the codes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from bitstore.errors import BitstoreError

__all__ = [
    "CODES",
    "INTERRUPTED",
    "End",
    "above",
    "crashed",
    "end_streams",
    "epilog",
    "fail",
    "hold_descriptors",
    "in_words",
    "no_reader",
    "refuse",
    "refusing",
    "say",
    "say_plainly",
    "show",
    "show_bytes",
]

CODES = (
    "Exit codes: 0 everything found; 1 something is missing, damaged, or was no digest; 2 something failed, so that we "
    "do not know; 3 nothing could be begun (bad option, list, configuration or output); 130 interrupted."
)
INTERRUPTED = 128 + signal.SIGINT


def epilog(*examples: str) -> str:
    """What stands at the end of a command's help: examples of its use, and the exit codes."""
    lines = [f"  {line}" for line in examples]
    # The mark keeps the framework from filling these lines up.
    return "\n\n".join(["Examples:", "\n".join(["\b", *lines]), CODES])


class End(Exception):
    """Ends the command with this exit code, whatever the framework thinks of exit codes.

    Attributes
    ----------
    code
        The exit code.
    reason
        What was said about it on standard error; None: nothing.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


# What takes lines for standard error while a progress bar stands there; None: there is no bar.
_above: Callable[[str], None] | None = None


def hold_descriptors() -> None:
    """Open the standard descriptors that were closed: else a blob's file gets their number, and messages with it.

    They cannot be written: a blob for one of them is a failure. Names of tiers and files may have letters that the
    encoding of standard output lacks: these are escaped.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)  # the lowest free number
            os.set_inheritable(opened, True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def above(write: Callable[[str], None]) -> Iterator[None]:
    """While entered, `write` takes what is said."""
    global _above
    _above = write
    try:
        yield
    finally:
        _above = None


def say(line: str) -> None:
    """Write a line to standard error, above a progress bar. Where that is closed or full, the line is lost."""
    (_above or say_plainly)(line)


def say_plainly(line: str) -> None:
    """Write a line to standard error, whatever stands there."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _drop(2)


def show(text: str) -> None:
    """Write a line to standard output. Raises `OSError`, also where it is closed: the line would be lost."""
    _output().write(text + "\n")
    _output().flush()


def show_bytes(data: bytes) -> None:
    """Write to standard output what need not be text. Raises `OSError` as `show` does."""
    _output().buffer.write(data)
    _output().buffer.flush()


def _output() -> Any:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdout


def fail(code: int, error: object, *, advice: str | None = None) -> NoReturn:
    """Say what is wrong and in a second line, if there is one, the `advice`; end with `code`."""
    reason = in_words(error)
    say(f"bitstore: {reason}")
    if advice is not None:
        say(advice)
    raise End(code, reason)


def refuse(error: object) -> NoReturn:
    """Say why nothing is begun, and end."""
    fail(3, error)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Refuse, where the body finds something wrong with what the command was given."""
    try:
        yield
    except (BitstoreError, OSError, TypeError, ValueError) as error:
        refuse(error)


def no_reader(message: str | None = None) -> int:
    """Drop what is left of standard output, quietly or with a message. Returns the exit code."""
    _drop(1)
    if message is None:  # as other commands end whose reader has seen enough
        return 128 + signal.SIGPIPE
    say(f"bitstore: {message}")
    return 2


def crashed(error: BaseException) -> int:
    """Report an unforeseen error in one line. Returns the exit code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    say(f"bitstore: unexpected error, please report it: {type(error).__name__}: {error}{where}")
    return 2


def end_streams(code: int) -> int:
    """Write what the standard streams still hold. Returns the exit code; lost messages do not change it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = no_reader()
    except (OSError, ValueError) as error:
        code = no_reader(f"cannot write to standard output: {in_words(error)}")
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        _drop(2)
    return code


def in_words(error: object) -> str:
    """An error in words, without its number."""
    if isinstance(error, OSError) and not isinstance(error, BitstoreError) and error.strerror:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{name}{error.strerror}"
    return str(error)


def _drop(descriptor: int) -> None:
    # Else the interpreter tries once more at its end, and ends with a code of its own.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
