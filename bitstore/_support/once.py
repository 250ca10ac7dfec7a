"""Warnings that are given once in a process, however many blobs, copies of a store or tasks meet their cause."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable

__all__ = ["given", "warn_once"]

given: dict[Hashable, object] = {}  # the causes of which this process has warned; a forked child begins with none

os.register_at_fork(after_in_child=given.clear)


def warn_once(logger: logging.Logger, cause: Hashable, text: str, *args: object, again: int = logging.DEBUG) -> None:
    """Log a warning at its first time in this process, and at the level `again` from then on.

    Parameters
    ----------
    logger
        Where it goes. It has no handler of its own, so Python's handler of last resort prints it in a plain script.
    cause
        What the warning is about: its kind, the tier or store, the type of an error; never a single blob.
    text, args
        As for `Logger.warning`.
    again
        The level of repetitions.
    """
    mark = object()
    first = given.setdefault(cause, mark) is mark  # one call of the interpreter: no lock that a fork could inherit held
    logger.log(logging.WARNING if first else again, text, *args, stacklevel=2)
