"""The library's log while a command runs: lines to standard error, above a progress bar where there is one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from bitstore._cli.terminal import say

__all__ = ["log_said"]


class _Said(logging.Handler):
    """Says each record in a line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def log_said(level: int) -> Iterator[None]:
    """While entered, records of the library of at least `level` are said."""
    logger = logging.getLogger("bitstore")
    handler, before = _Said(level), logger.level
    logger.addHandler(handler)
    if level < logging.WARNING:
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
