"""A warming that follows a schedule: what a list has got since the last run, by a file that says how far that came."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bitstore._digests.hash_list import Entry, HashList, ListError
from bitstore._digests.lists.following import Following, Mark
from bitstore._support.atomic import Draft, target_of, write_whole
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._warming.outcome import Outcome
from bitstore.errors import BitstoreError

__all__ = ["Since", "SinceError"]

_VERSION = 1
_AGAIN = 100_000  # digests that are asked for again, at most; with more of them the next run reads the same lines again
# What logrotate calls a list that has got a successor: list.1, list-20261127, and so on, also compressed.
_ROTATED = re.compile(r"(?:\.[0-9]{1,4}|-[0-9]{8}(?:-?[0-9]{2,10})?)(?:\.(?:gz|zst|xz|bz2))?").fullmatch


class SinceError(BitstoreError, ValueError):
    """The file that says how far the last run came cannot be used: it is something else, or of another warming."""


class Since:
    """The part of a list that a warming has not dealt with: what is new, and what failed in the last run.

    The file is written at the end of a run that has asked for everything, whole or not at all. A run that was killed or
    stopped leaves it as it was, so that the next run reads the same lines again: what is in the caches, or in a ledger,
    is not fetched again. Digests that failed are noted in the file, and are part of the next run.

    A list that does not begin with what was read, because it was truncated, written again or rotated, is read from its
    beginning. What was added to it before it was rotated is looked for beside it (`list.1`, `list-20261127.gz`).

    Parameters
    ----------
    path
        The file; it is made by the first run.
    source
        Path of the list.
    target
        What is warmed.

    Attributes
    ----------
    told
        What the run begins with, in words.

    Raises
    ------
    SinceError
        The file cannot be read or written, is something else, or is of another target or list.
    """

    def __init__(self, path: str | os.PathLike[str], source: str | os.PathLike[str], *, target: str) -> None:
        self.path = Path(path)
        self._source = os.fspath(source)
        self._about = {
            "bitstore": "since-last",
            "version": _VERSION,
            "target": target,
            "list": os.path.abspath(source),  # noqa: PTH100 - of a link its own name
        }
        self.told = ""
        self._again: list[str] = []  # what this run asks for, from the last run
        self._failed: set[str] = set()  # what the next run is to ask for
        self._list: HashList | None = None
        self._earlier: list[tuple[str, HashList]] = []  # what is read before the list: its predecessors, by their paths
        self._store = ""
        told = self._read()
        try:
            self._known_store = "" if told is None else str(told["store"])
            self._known: dict[str, Any] = {} if told is None else dict(told["read"])
            self._at = "" if told is None else str(told["at"])
            if told is not None:
                is_digest = ALGORITHMS[self._known["algorithm"]].is_digest
                self._again = [str(digest).lower() for digest in told["again"] if is_digest(digest)]
            self._mark = self._mark_of(self._known)
        except (LookupError, TypeError, ValueError) as error:
            raise SinceError(
                f"{self.path} is damaged ({error!r}): delete it, and all of the list is read again"
            ) from error

    def bind(self, store: str) -> None:
        """Take what identifies the store's configuration, without secrets. Raises `SinceError`: it is another one."""
        self._store = store
        if self._known_store not in ("", store):
            raise SinceError(
                f"{self.path} is that of another store ({self._known_store}, not {store}): name another file"
            )

    def open(self, *, column: str | None, algorithm: str | None) -> HashList:
        """The list behind what the last run has dealt with.

        Raises
        ------
        ListError
            The list cannot be read.
        SinceError
            It is of another algorithm than before.
        """
        found = self._opened(self._source, column, algorithm)
        self._list = found
        mark = self._mark
        if mark is not None and self._again and found.algorithm.name != mark.algorithm:
            raise SinceError(
                f"{self.path} is of {mark.algorithm} digests, and {self._source} of {found.algorithm.name}"
            )
        following = found.following
        if mark is None or following is None:
            self.told = f"{self.path} is new: all of {self._source} is read"
        elif not following.changed:
            self.told = f"of {self._source} what is new since {self._at}"
        else:
            self._earlier = list(self._rotated(column, found.algorithm))
            places = ", ".join(path for path, _ in self._earlier)
            self.told = f"{self._source} is not the list that was read on {self._at}: it is read from its beginning" + (
                f", and before it what is new in {places}"
                if places
                else "; what was added to the old one after that day is not known"
            )
        return found

    @property
    def total(self) -> int | None:
        """About how many entries there are; None: unknown."""
        return None if self._list is None or self._list.total is None else self._list.total + len(self._again)

    def __iter__(self) -> Iterator[Entry]:
        """What the last run could not do, and what is new."""
        for digest in self._again:
            yield Entry(0, digest, digest)
        yield from self._entries()

    def _entries(self) -> Iterator[Entry]:
        """What is new."""
        assert self._list is not None
        yield from itertools.chain.from_iterable(entries for _, entries in self._earlier)
        yield from self._list

    def count(self, outcome: Outcome, *, retry_missing: bool) -> None:
        """Take in what became of a digest."""
        if outcome.kind == "failed" or (retry_missing and outcome.kind == "missing"):
            self._failed.add(outcome.digest)

    def save(self) -> None:
        """Note that all of the list was asked for, unless too many failed. Raises `SinceError`."""
        if len(self._failed) > _AGAIN:
            self.told += f"; more than {_AGAIN:,} digests failed: the next run reads the same lines again"
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        told = {
            **self._about,
            "store": self._store,
            "at": now,
            "read": self._made(),
            "again": sorted(self._failed),
        }
        try:
            write_whole(self.path, json.dumps(told, indent=1).encode())
        except OSError as error:
            raise SinceError(f"cannot write {self.path}: {error.strerror or error}") from error

    # ------------------------------------------------------------------ inside

    def _made(self) -> dict[str, Any]:
        """How far this run came."""
        assert self._list is not None
        return self._list.mark()._asdict()

    def _mark_of(self, known: dict[str, Any]) -> Mark | None:
        return Mark(**known) if known else None

    def _read(self) -> dict[str, Any] | None:
        try:
            with Draft(self.path) as draft:  # before anything is paid for, whose end could then not be noted
                draft.write(b"")
            data = target_of(self.path).read_bytes()
        except FileNotFoundError as error:
            if not target_of(self.path).parent.is_dir():
                raise SinceError(f"cannot write {self.path}: there is no such folder") from error
            return None
        except OSError as error:
            raise SinceError(f"cannot use {self.path}: {error.strerror or error}") from error
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or told.get("bitstore") != self._about["bitstore"]:
            raise SinceError(f"{self.path} does not say how far a warming came: name another file, or a new one")
        for name, here in self._about.items():
            if told.get(name) != here:
                what = "format" if name == "version" else name
                raise SinceError(
                    f"{self.path} is that of another {what} ({told.get(name)}, not {here}): name another file"
                )
        return told

    def _opened(self, path: str, column: str | None, algorithm: str | None) -> HashList:
        if path == "-":
            raise ListError("standard input cannot be read since the last run: name the file of the list")
        return HashList(path, column=column, algorithm=algorithm, following=Following(self._mark))

    def _rotated(self, column: str | None, algorithm: Algorithm) -> Iterator[tuple[str, HashList]]:
        """The rest of the list that was read, and the whole ones between that and today's, the oldest first."""
        name, folder = Path(self._source).name, Path(self._source).absolute().parent
        beside: list[tuple[int, str]] = []
        for path in folder.iterdir():
            if path.name.startswith(name) and _ROTATED(path.name[len(name) :]) and path.is_file():
                beside.append((path.stat().st_mtime_ns, str(path)))
        newer: list[tuple[str, HashList]] = []
        for _, place in sorted(beside, reverse=True):
            try:
                found = self._opened(place, column, algorithm.name)
            except ListError:  # it is no list, or empty
                continue
            newer.insert(0, (place, found))
            if found.following is not None and not found.following.changed:
                yield from newer
                return
