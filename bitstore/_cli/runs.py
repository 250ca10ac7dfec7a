"""What runs over many things share: a first Ctrl-C ends them in order, and nothing disturbs their last lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from bitstore._cli.fetching import FetchReport
from bitstore._cli.interrupts import Interrupts
from bitstore._cli.listings import Listing
from bitstore._cli.outputs import OutputError
from bitstore._cli.terminal import above, in_words, say_plainly
from bitstore._digests.hash_list import ListError
from bitstore._warming.progress import Progress

__all__ = ["Going", "note", "running"]


class Going(NamedTuple):
    """A run that goes on.

    Attributes
    ----------
    progress
        What a person sees of it.
    shield
        While entered, a signal waits: what has come is counted, listed and shown, or nothing of these.
    """

    progress: Progress
    shield: Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def running(name: str, report: FetchReport, listings: tuple[Listing, ...], *, shown: bool) -> Iterator[Going]:
    """While entered, the run called `name` goes on; what ends it early is in `report`.

    Parameters
    ----------
    listings
        Files that are published at the end, also of a run that was cut short.
    shown
        Whether progress is shown.
    """
    started = time.monotonic()
    try:
        with Interrupts() as interrupts, Progress(name, report, shown=shown, say=say_plainly) as progress:
            try:
                with above(progress.say):
                    yield Going(progress, interrupts.shield)
            except KeyboardInterrupt:
                report.interrupted = interrupts.signal or 2
            except (OutputError, ListError) as error:
                report.stopped = str(error)
            interrupts.ignore()
            for listing in listings:
                try:
                    listing.publish()
                except OSError as error:
                    report.stopped = report.stopped or f"cannot write {listing.path}: {in_words(error)}"
    finally:
        for listing in listings:
            listing.discard()
        report.seconds = time.monotonic() - started


def note(listing: Listing | None, *fields: str) -> None:
    """Add a line to a listing, if there is one. Raises `OutputError`."""
    if listing is not None:
        try:
            listing.add(*fields)
        except OSError as error:
            raise OutputError(f"cannot write {listing.path}: {in_words(error)}") from error
