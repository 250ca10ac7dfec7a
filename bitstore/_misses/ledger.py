"""The ledger of misses: what a source has said it lacks, for all processes of a machine, and for a cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bitstore._misses.database import Full, Unwritten
from bitstore._misses.entries import EVERY, Entry, Miss, MissSource, SourceName
from bitstore._misses.export import export
from bitstore._misses.file import MissFile
from bitstore._misses.recording import Recorder
from bitstore._misses.sending import Sender
from bitstore._misses.share import SharedMisses
from bitstore._support.checks import ChecksOptions
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.fixed import Fixed
from bitstore._support.once import warn_once
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.errors import StoreNotAvailable

__all__ = ["Known", "MissLedger"]

logger = logging.getLogger("bitstore")

_SKEW = 3_600_000_000  # microseconds by which the clocks of two machines may differ
_AHEAD = 300_000_000  # microseconds by which the time of a miss may be ahead of the clock


class Known(NamedTuple):
    """What a ledger says when it is asked for a digest."""

    # When the miss became known, in microseconds since 1970; None: no miss is known.
    at: int | None
    # Whether the miss counts: its lifetime is not over.
    counts: bool
    # When the ledger was asked, in microseconds since 1970.
    asked: int


class _Live:
    """What a ledger has in one process."""

    def __init__(self, path: str, share: SharedMisses | None, clock: Callable[[], float]) -> None:
        # Two connections: a reader does not wait for a writer that waits for another process.
        self.path = path
        self.reading = MissFile(path, clock=clock)
        self.writing = MissFile(path, clock=clock)
        self.sender = None if share is None else Sender(share, self.writing)
        self.recorder = Recorder(self.writing, self.sender)
        # Places and lifetimes of the sources that are in the file.
        self.introduced: dict[SourceName, tuple[str, float]] = {}


class MissLedger(ChecksOptions, KeepsPerProcess):
    """A durable record of what sources have said they lack, in a file that all processes of a machine share.

    `RemembersMisses(source, ledger, name=...)` is a source that asks it first. A miss is in the file before the lookup
    ends that has met it, so a process that is killed loses none that it has reported. The file is SQLite with a
    write-ahead log; it must be on a disk of the machine itself, and not on a network. Of 10 million misses it takes
    about 550 MB.

    A file that cannot be read is no empty one: paid sources are not asked then (`StoreNotAvailable` names the file),
    and free ones are asked with a warning. Where the disk is full or the file cannot be written, lookups go on with a
    warning, and remember no more. A put is refused then: its blob could count as missing afterwards.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there. A `~` is expanded where the file is opened.
    share
        Where the nodes of a cluster share what they know; None: the ledger is that of one machine.
    clock
        Seconds since 1970; for tests.

    Attributes
    ----------
    path, share
        As given.
    """

    path = Fixed[str]()
    share = Fixed["SharedMisses | None"]()

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        share: SharedMisses | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        text: Any = os.fspath(path)
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise ValueError(f"path={path!r}: name a file")
        if share is not None and not isinstance(share, SharedMisses):
            raise TypeError(f"share={share!r}: expected SharedMisses(raw, prefix)")
        self.path = text if text.startswith("~") else os.path.abspath(text)  # noqa: PTH100
        self.share = share
        self._clock = clock
        self._live: PerProcess[_Live] = PerProcess()

    # ------------------------------------------------------------------ for people and programs

    def sources(self) -> list[MissSource]:
        """What is known of each source, by its name. Raises `StoreNotAvailable`."""
        return self._here().reading.sources()

    def misses(self, source: str | None = None) -> Iterator[Miss]:
        """All misses that the file holds, by source and digest; also expired ones.

        Parameters
        ----------
        source
            Name of the source; None: all sources.

        Raises
        ------
        ValueError
            There is no such source.
        StoreNotAvailable
            The ledger cannot be read.
        """
        names = {each.name for each in self._named(source)}
        return self._here().reading.misses(names)

    def export(self, path: str | os.PathLike[str], *, source: str | None = None) -> int:
        """Write the misses to a file, which is whole or not there; returns how many there are. Expired ones are marked.

        Parameters
        ----------
        path
            The file: a table if it ends in `.parquet`, `.csv` or `.jsonl`, with the columns of `Miss`; digests alone,
            one a line, if it ends in `.txt`.
        source
            Name of the source; None: all sources.

        Raises
        ------
        ValueError
            The name of the file says no format, or there is no such source.
        OSError
            It cannot be written.
        StoreNotAvailable
            The ledger cannot be read.
        """
        return export(Path(path), self.misses(source))

    def forget(self, digests: Iterable[Any] | None = None, *, source: str | None = None) -> None:
        """Let sources be asked again. Other processes see it at once, other nodes when they read the share again.

        Parameters
        ----------
        digests
            Which misses are forgotten; None: all.
        source
            Name of the source; None: all sources.

        Raises
        ------
        ValueError
            There is no such source, or a digest is none of its algorithm.
        StoreNotAvailable
            The ledger cannot be written.
        """
        if isinstance(digests, (str, bytes)):
            digests = [digests]
        known = self._named(source)
        now = self.now() - 1  # what is asked from now on counts
        if digests is None:
            entries = [Entry(each, EVERY, now, None) for each in known]
        else:
            given = list(digests)
            entries = [Entry(each, bytes.fromhex(digest), now, None) for each in known for digest in _all(each, given)]
        self._write(entries, must=True)

    def _named(self, source: str | None) -> list[SourceName]:
        """The sources of this name, of all algorithms; None: all sources. ValueError where there is none."""
        known = self._here().reading.names()
        named = [each for each in known if source in (None, each.name)]
        if source is not None and not named:
            names = ", ".join(sorted({each.name for each in known})) or "none"
            raise ValueError(f"source={source!r}: the ledger {self.path} has no such source (it has: {names})")
        return named

    def forget_expired(self) -> int:
        """Delete the misses whose lifetime is over; returns how many there were. Raises `StoreNotAvailable`."""
        return self._here().writing.drop_expired()

    def check(self) -> None:
        """Read all of the file. Raises `StoreNotAvailable` where it is damaged."""
        self._here().reading.check()

    # ------------------------------------------------------------------ for the stores that use it; all may block

    def now(self) -> int:
        """The time, in microseconds since 1970."""
        return int((self._clock or time.time)() * 1_000_000)

    def look(self, source: SourceName, place: str, lifetime: float, digest: bytes) -> Known:
        """Whether it is known that a source lacks a digest. Raises `StoreNotAvailable`."""
        live = self._here()
        try:
            if live.introduced.get(source) != (place, lifetime):
                self._introduce(live, source, place, lifetime)
            if live.sender is not None:
                live.sender.refresh_when_due()
            found = live.reading.find(source, digest)
        except Full as error:
            if _has_content(live.path):
                raise
            self._warn(error)  # there is no room to begin the file, so nothing is known
            found = None
        now = self.now()
        if found is None:
            return Known(None, False, now)
        return Known(found[0], now - lifetime * 1_000_000 <= found[0] <= now + _AHEAD, now)

    def add(self, source: SourceName, digest: bytes, asked: int, reason: str) -> None:
        """Record that a source lacks a digest, of which it was asked at the time `asked`. Warns where that fails."""
        if self.now() < asked:
            return  # the clock was set back meanwhile: it is not known whether a put came before or after
        self._write([Entry(source, digest, asked, reason)], must=False)

    def withdraw(self, source: SourceName, digest: bytes, *, must: bool) -> None:
        """Record that a source has a digest, or will have it in a moment.

        Where that fails, it raises `StoreNotAvailable` if it `must` not, else it warns.
        """
        self._write([Entry(source, digest, self.now() + _SKEW, None)], must=must)

    def _introduce(self, live: _Live, source: SourceName, place: str, lifetime: float) -> None:
        live.reading.find(source, EVERY)  # whether it can be read at all
        with live.recorder.lock:
            try:
                live.writing.introduce(source, place, lifetime)
            except Unwritten as error:  # what it knows serves all the same
                self._warn(error)
            else:
                self._send(live)  # what a process that was killed could not send
        live.introduced[source] = (place, lifetime)

    def _send(self, live: _Live) -> None:
        if live.sender is not None:
            try:
                live.sender.send()
            except StoreNotAvailable as error:
                self._warn(error)

    def _write(self, entries: list[Entry], *, must: bool) -> None:
        error = self._here().recorder.record(entries)
        if error is not None and must:
            raise error
        if error is not None:
            self._warn(error)

    def _warn(self, error: StoreNotAvailable) -> None:
        text = "misses are not remembered for now: %s (said once)"
        warn_once(logger, ("misses", self.path, type(error), error.definite), text, error.reason)

    def _here(self) -> _Live:
        live = self._live.get()
        if live is None:
            path = str(Path(self.path).expanduser())
            live = self._live.set_once(_Live(path, self.share, self._clock or time.time))
        return live

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}{'' if self.share is None else f', share={self.share!r}'})"


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0  # noqa: PTH116
    except FileNotFoundError:
        return False


def _all(source: SourceName, digests: Iterable[Any]) -> Iterator[str]:
    kind = digest_algorithm(source.algorithm)
    for value in digests:
        digest, reason = kind.read(value)
        if digest is None:
            raise ValueError(f"{value!r} is no {kind.name} digest: {reason}")
        yield digest
