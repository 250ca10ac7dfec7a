"""Where a blob lies, as one process knows it: in a journal of this machine, or in a pack."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import Any

from bitstore._lookup.run import run
from bitstore._packs.catalog import Catalog
from bitstore._packs.gather import Gather
from bitstore._packs.journal import Neighbours
from bitstore._packs.listing import fetch_steps, list_packs, rebuilt
from bitstore._packs.writer import Writer
from bitstore._support import clock
from bitstore._tiers.single_flight import Flights
from bitstore.errors import NotFoundInStore, StoreNotAvailable
from bitstore.references._table import DamagedReferences, Reference
from bitstore.steps import Call, Found, Steps, Wait

__all__ = ["GAP", "Finder", "failed"]

logger = logging.getLogger("bitstore")

GAP = 64 * 1024  # bytes between two parts that are read along with them
_PACK = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{12}\.tar").fullmatch


def failed(label: str, error: OSError) -> StoreNotAvailable:
    """What an error of this machine's disk means."""
    where = f"{error.filename}: " if error.filename else ""
    return StoreNotAvailable(label, f"{where}{error.strerror or error}")


class Finder:
    """What one process knows of the journals and packs of a cache. Threads may share it.

    Parameters
    ----------
    label
        What errors call the cache.
    raw, prefix
        Where the packs are.
    folder
        The cache's folder on this machine.
    writer
        The journals of this process.
    algorithm
        Of the digests.
    refresh
        Seconds after which a digest that is not found lets the packs be listed again.
    read_ahead
        Bytes of memory for what is read ahead.

    Attributes
    ----------
    bad
        Digests whose copy does not match.
    """

    def __init__(
        self,
        label: str,
        raw: Any,
        prefix: str,
        folder: Path,
        writer: Writer,
        algorithm: str,
        refresh: float,
        read_ahead: int,
    ) -> None:
        self.label, self.raw, self.prefix = label, raw, prefix
        self.writer, self.algorithm, self.refresh = writer, algorithm, refresh
        self.catalog = Catalog(folder / "tables", algorithm)
        self.catalog.reload()
        self.bad: set[str] = set()
        self.lock = threading.Lock()
        self.neighbours = Neighbours(writer.journals)
        self.gather = Gather(GAP, read_ahead)
        self.flights = Flights()
        self.listed = float("-inf")  # when the packs were listed last, on the monotonic clock

    def here(self, key: str) -> bytes | None:
        """A blob that is in a journal of this process."""
        held = self.writer.find(key)
        if held is None:
            return None
        journal, member = held
        try:
            data = journal.read(member.offset, member.size)
        except OSError as error:
            raise failed(self.label, error) from error
        if len(data) != member.size:
            raise StoreNotAvailable(self.label, f"{journal.path} was cut by another program")
        return data

    def known(self, key: str) -> Reference | None:
        """Where a blob lies in the packs that are known; None: in none of them."""
        try:
            return self.catalog.find(key)
        except DamagedReferences as error:
            # It is fetched again.
            with self.lock:
                self.catalog.drop(error)
            self.listed = float("-inf")
            return None

    def found_late(self, key: str) -> Steps[tuple[Reference | None, bytes | None]]:
        """Where a blob lies that nothing is known of: in a journal of another process, or in a new pack."""
        for listed in (False, True):
            data = self._at_neighbours(key)
            if data is not None:
                return None, data
            place = self.known(key)  # a neighbour may have published it
            if listed and self.listed == float("-inf"):
                raise StoreNotAvailable(self.label, "the tables of its packs are damaged again and again")
            if place is not None:
                return place, None
            if listed or clock.monotonic() - self.listed < self.refresh:
                break
            yield from self._list()
        for name in self.catalog.cut - self.catalog.gone:
            reason = f"{name} is damaged and its index is lost, so that it may have held {key}: delete it"
            raise StoreNotAvailable(self.label, reason)
        return None, None

    def _at_neighbours(self, key: str) -> bytes | None:
        try:
            with self.lock:
                self.neighbours.look(self.writer.own())
                # The table of a pack comes before its journal goes: whatever has gone by now is in a table.
                if self.catalog.has_changed():
                    self.catalog.reload()
                found = self.neighbours.find(key)
            data = None if found is None else found[0].read(found[1])
            return data if found is not None and data is not None and len(data) == found[1].size else None
        except OSError as error:
            raise failed(self.label, error) from error

    def fetched(self, key: str, place: Reference | None) -> Steps[tuple[Reference | None, bytes | None]]:
        """The bytes at a place, or at another known one where its pack was deleted; and which place it was.

        None: all packs that are known to have the blob were deleted. Raises what the raw store raises.
        """
        while place is not None:
            url = self.prefix + place.url
            try:
                data = yield from self.gather.read(self.raw, url, place.offset, place.offset + (place.length or 0))
            except NotFoundInStore:
                self.catalog.gone.add(place.url)  # the pack was deleted, and all of its blobs with it
                place = self.known(key)
            else:
                return place, data
        return None, None

    def _list(self) -> Steps[None]:
        """List the packs, once for all lookups that wait for it, and fetch the tables of new ones."""
        while (flight := self.flights.lead(None)) is not None:
            yield Wait(flight)
            if flight.result is not None:  # else the lookup that has listed was given up
                return
        outcome: Exception | Found | None = None
        try:
            begun = clock.monotonic()
            with self.lock:
                self.catalog.reload()
                before = self.catalog.packs
            names = [name for name in (yield from list_packs(self.raw, self.prefix)) if _PACK(name)]
            with self.lock:
                new = [name for name in names if name not in self.catalog.packs]
                # A pack that was published since the listing began need not be in it.
                self.catalog.gone = before - set(names)
            yield from fetch_steps(self.raw, self.prefix, new, self.catalog.folder, self.algorithm)
            yield Call(self.reload_and_compact)
            self.listed = begun
            outcome = Found(None, self.label)
        except DamagedReferences as error:
            with self.lock:
                self.catalog.drop(error)
            outcome = StoreNotAvailable(self.label, f"{error}; it was deleted, and the next lookup fetches it again")
            raise outcome from error
        except OSError as error:
            if isinstance(error, StoreNotAvailable):
                outcome = error
                raise
            outcome = failed(self.label, error)
            raise outcome from error
        except Exception as error:
            outcome = error
            raise
        finally:
            self.flights.land(None, outcome)

    def reload_and_compact(self) -> None:
        """Open what has come into the folder, and put small tables together. Raises what `Catalog.compact` raises."""
        self.reload()
        self.catalog.compact(self.lock)

    def compact(self) -> None:
        """Put small tables together where there are many, after packs of this process were published.

        A process that only writes never lists, and each put looks into all tables. Where the disk fails, they stay.
        """
        try:
            self.catalog.compact(self.lock)
        except DamagedReferences as error:
            with self.lock:
                self.catalog.drop(error)  # it is fetched again
            self.listed = float("-inf")
        except OSError as error:
            logger.debug("tables of %s stay as they are: %s", self.label, error)

    def forget(self, place: Reference) -> None:
        """Drop what was read ahead of a pack, whose bytes do not match."""
        self.gather.forget(self.raw, self.prefix + place.url)

    def reload(self) -> None:
        """Open what has come into the folder. Raises OSError."""
        with self.lock:
            self.catalog.reload()

    def rebuild(self) -> tuple[int, list[str]]:
        """Make all tables again of the packs; returns how many, and the names of packs that are damaged.

        Raises
        ------
        StoreNotAvailable
            The raw store could not say.
        OSError
            The disk fails.
        """
        names = [name for name in run(list_packs(self.raw, self.prefix)) if _PACK(name)]
        with self.lock:
            self.listed = float("-inf")
            self.catalog.clear()
            broken = rebuilt(self.raw, self.prefix, names, self.catalog.folder, self.algorithm)
            self.catalog.reload()
        return len(names), broken
