"""Warnings of the library while a command runs: above its progress bar, where it has one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

__all__ = ["warnings_said"]


class _Said(logging.Handler):
    """Says each warning in a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """While entered, warnings of the library are given to `say`."""
    handler = _Said(say)
    logger = logging.getLogger("bitstore")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
