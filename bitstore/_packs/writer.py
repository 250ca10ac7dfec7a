"""What one process writes into a pack cache: its journal, and its packs on their way to the raw store."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitstore._lookup.asking import steps_of_put
from bitstore._lookup.run import run
from bitstore._packs.catalog import SUFFIX, write_index
from bitstore._packs.journal import Journal, adopted
from bitstore._packs.tar import Member
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.once import warn_once
from bitstore._support.sizes import format_size
from bitstore.errors import described

__all__ = ["Writer"]

logger = logging.getLogger("bitstore")


class Writer:
    """The journal of one process and cache, and the journals that are full. Threads may share it.

    Parameters
    ----------
    raw
        Where packs are published.
    prefix
        URL prefix of the packs.
    folder
        The cache's folder of this machine, absolute.
    algorithm
        Of the digests.
    pack_size, max_waiting
        Bytes: of a pack, and of all journals in the folder.
    publish_after
        Seconds after which a journal that is not full is published.
    sync
        Wait for the disk at each blob.

    Attributes
    ----------
    packs, blobs
        How many were published by this process.
    """

    def __init__(
        self,
        raw: Any,
        prefix: str,
        folder: Path,
        algorithm: str,
        *,
        pack_size: int,
        max_waiting: int,
        publish_after: float,
        sync: bool,
    ) -> None:
        self._raw, self._prefix, self._algorithm = raw, prefix, algorithm
        self.journals = folder / "journals"
        self._tables = folder / "tables"
        self._pack_size, self._max_waiting = pack_size, max_waiting
        self._publish_after, self._sync = publish_after, sync
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._journal: Journal | None = None
        self._full: list[Journal] = []
        self._held: dict[str, tuple[Journal, Member]] = {}
        self.packs = self.blobs = 0
        self.wake = threading.Event()

    def find(self, digest: str) -> tuple[Journal, Member] | None:
        """The journal of this process that has a blob, and where in it."""
        return self._held.get(digest)

    def own(self) -> set[str]:
        """File names of this process's journals."""
        with self._lock:
            journals = [*self._full, *([] if self._journal is None else [self._journal])]
        return {journal.path.name for journal in journals}

    def append(self, digest: str, data: bytes, *, again: bool) -> bool:
        """Keep a blob; it survives the end of this process when this returns. False: it is there already.

        Parameters
        ----------
        digest, data
            The blob.
        again
            Whether it is kept although it is there, as that copy is bad.

        Raises
        ------
        OSError
            The disk does not take it, or too much waits there to be published.
        ValueError
            It is too large for a pack.
        """
        with self._lock:
            if digest in self._held and not again:
                return False
            journal = self._journal or self._new_journal()
            try:
                self._held[digest] = journal, journal.append(digest, data)
            except BaseException:
                if self._journal is None:  # an empty one would be published
                    journal.remove()
                raise
            self._journal = journal
            if journal.size >= self._pack_size:
                self._end_journal()
                self.wake.set()
        return True

    def _new_journal(self) -> Journal:
        for folder in (self.journals, self._tables):
            folder.mkdir(0o700, parents=True, exist_ok=True)
        waiting = self.waiting()
        if waiting + self._pack_size > self._max_waiting and waiting:
            raise OSError(
                errno.ENOSPC,
                f"{format_size(waiting)} wait in {self.journals} to be published, and no more than "
                f"{format_size(self._max_waiting)} may (max_waiting)",
            )
        for _ in range(10):
            try:
                return Journal(self.journals, sync=self._sync)
            except BlockingIOError:
                continue
        return Journal(self.journals, sync=self._sync)

    def waiting(self) -> int:
        """Bytes of all journals in the folder. Raises OSError."""
        try:
            entries = list(os.scandir(self.journals))
        except FileNotFoundError:
            return 0
        size = 0
        for entry in entries:
            try:
                size += entry.stat().st_size if entry.name.endswith(".tar") else 0
            except FileNotFoundError:
                continue
        return size

    def _end_journal(self) -> None:
        if self._journal is not None:
            self._full.append(self._journal)  # first, as `is_waiting` looks without the lock
            self._journal = None

    @property
    def is_waiting(self) -> bool:
        """Whether a journal of this process is not published."""
        return self._journal is not None or bool(self._full)

    def due(self) -> float | None:
        """Seconds until the journal is to be published although it is not full; None: there is none."""
        journal = self._journal
        return None if journal is None else max(0.0, journal.made + self._publish_after - time.monotonic())

    def publish(self, *, everything: bool, published: Callable[[], None]) -> None:
        """Publish full journals, one that has waited long enough, and those whose writers are gone.

        Parameters
        ----------
        everything
            Publish the present journal as well.
        published
            Called after each pack, when its table is in the folder, and before its journal goes.

        Raises
        ------
        StoreNotAvailable
            The raw store did not take a pack: it stays here, for another try.
        OSError
            The disk fails.
        """
        with self._publishing:
            with self._lock:
                if everything or self.due() == 0:
                    self._end_journal()
            for journal in list(self._full):
                journal.seal()
                self._send(journal)
                published()
                with self._lock:
                    self._full.remove(journal)
                    for member in journal.members:
                        if (held := self._held.get(member.digest)) is not None and held[0] is journal:
                            del self._held[member.digest]
                journal.remove()
            length = digest_algorithm(self._algorithm).length
            for journal in adopted(self.journals):
                if all(len(member.digest) == length for member in journal.members):
                    self._send(journal)
                    published()
                    journal.remove()
                journal.close()

    def _send(self, journal: Journal) -> None:
        table = self._tables / f"{journal.name}{SUFFIX}"
        self._tables.mkdir(0o700, parents=True, exist_ok=True)
        draft = table.with_suffix(".draft")
        write_index(draft, journal.name, journal.members, self._algorithm)
        url = f"{self._prefix}{journal.name}"
        # The table first: a reader that sees the pack finds its table.
        run(steps_of_put(self._raw, f"{url}{SUFFIX}", draft.read_bytes()))
        run(steps_of_put(self._raw, f"{url}.tar", journal.path.read_bytes()))
        draft.replace(table)
        self.packs += 1
        self.blobs += len(journal.members)

    def publish_all(self, published: Callable[[], None]) -> None:
        """`publish` all, at the end of the process: what fails is logged."""
        if not self.is_waiting:
            return
        try:
            self.publish(everything=True, published=published)
        except Exception as error:  # of whatever kind: the process ends, and its blobs are on its disk
            text = "blobs in %s are not published (%s): the next process that writes into this cache publishes them"
            warn_once(logger, ("unpublished", str(self.journals)), text, self.journals, described(error))
