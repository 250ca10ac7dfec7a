"""What an index and the writes since say about one digest: the index of a store, opened when it is first asked."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from bitstore._support.once import warn_once
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.index._file import DamagedIndex
from bitstore.index._index import Index, IndexInfo
from bitstore.index._noted import Noted, identity_of
from bitstore.index._writes import note, place_of

__all__ = ["Denial", "Membership", "MembershipState", "why_no_proof"]

logger = logging.getLogger("bitstore")

_READ_FROM = re.compile(r" \((?:inventory|keys) .*\)$")  # what stands behind the key template of a source
_OF_FILES = re.compile("^file://(?:localhost)?/", re.IGNORECASE)
_TRIES = 3  # times that files which are replaced under a lookup are opened again for it
_CLOCKS = 300.0  # seconds by which the clock that an index was made by may be ahead


class Denial(NamedTuple):
    """An index denies a digest, and nothing that was noted since holds it."""

    # Up to when the index covers the source.
    covers_up_to: datetime
    # Whether that is the last word; else the source is asked after all, as late as possible.
    is_proof: bool

    def __str__(self) -> str:
        return f"not in the index of {self.covers_up_to.isoformat(timespec='seconds')}, nor among the writes since"


@dataclass(frozen=True, kw_only=True)
class MembershipState:
    """What is known of a store's index now.

    Attributes
    ----------
    info
        What the index says of itself; None: it is not used.
    noted
        Digests that were noted since it was made.
    bytes
        Size of the file.
    trouble
        Why the index is not used, or why it only orders; None: it proves absences.
    """

    info: IndexInfo | None
    noted: int
    bytes: int
    trouble: str | None


class _Opened:
    """The files as they were when they were last opened."""

    def __init__(self, path: Path, algorithm: str, pattern: str, raw: Any, identity: bytes | None) -> None:
        self.pattern = pattern
        self.address = getattr(raw, "endpoint_url", None)
        # The writes first: what was taken out of them is in the index that is opened next.
        self.noted = Noted(place_of(path))
        self.stamp = _stamp(str(path))
        self.index: Index | None = None
        self.why_not: str | None = None  # why it is no proof, whatever its age
        self.trouble: Exception | None = None  # why it is not used
        self.misfit = False  # whether it is the index of another store
        self.elsewhere: str | None = None  # why it may be the index of a store of this name at another service
        if self.stamp is None:
            self.trouble = FileNotFoundError(f"there is no index {path}: `bitstore index build` makes one")
            return
        try:
            index = Index(path)
        except (DamagedIndex, OSError) as error:
            self.trouble = error
            return
        reason = _misfit(index.info, algorithm, pattern)
        if reason is not None:
            self.misfit = True
            self.trouble = ValueError(f"index {path}: {reason}")
            return
        self.index = index
        self.covers_up_to = index.info.covers_up_to
        self.covers = index.info.covers_up_to.timestamp()
        self.elsewhere = _elsewhere(index.info, raw)
        self.why_not = self.elsewhere or why_no_proof(index.info, self.noted)
        if path.is_symlink():  # where it leads may change, and the notes with it
            self.why_not = "its name is a link: name the file itself, in all stores"
        if self.why_not is None and identity is not None and identity != self.noted.identity:
            self.why_not = "the process that this store comes from notes its writes in another file"

    def is_current(self, path: str) -> bool:
        """Whether both files are those that were opened; what was noted since is read. Raises OSError, DamagedIndex."""
        return _stamp(path) == self.stamp and self.noted.is_current()


class Membership(KeepsPerProcess):
    """The index of one store. Pickles as its path.

    Parameters
    ----------
    path
        The file of the index, or the index.
    algorithm
        The algorithm of the store's digests.
    """

    def __init__(self, path: str | os.PathLike[str] | Index, algorithm: str) -> None:
        named: Any = path.path if isinstance(path, Index) else path
        if not isinstance(named, (str, os.PathLike)) or not os.fspath(named):
            raise TypeError(f"index={path!r}: expected the path of an index, or an Index")
        self.path = Path(named).absolute()
        self._name = str(self.path)
        self._algorithm = algorithm
        # That of the file of writes where this object was pickled; None: it was not, or there was none.
        self._identity: bytes | None = None
        self._here: PerProcess[tuple[threading.Lock, list[_Opened]]] = PerProcess()

    def check(self, pattern: str, raw: Any) -> None:
        """Raise ValueError if the index is that of another store; warn if there is none.

        Parameters
        ----------
        pattern
            The key template of the store, in full.
        raw
            The raw store that is asked.
        """
        try:
            opened = self._opened(pattern, raw)
        except OSError as error:
            if self.path.is_dir():
                raise ValueError(f"index {self.path}: it is a folder: name the file of an index") from error
            self._warn(error)
        else:
            if opened.misfit:
                raise ValueError(str(opened.trouble))

    def denial(self, digest: str, pattern: str, raw: Any, max_age: float) -> Denial | None:
        """Whether the index denies the lower-case `digest`; None: it may be there, or the index cannot say.

        Parameters
        ----------
        digest
            The digest.
        pattern
            The key template of the store, in full.
        raw
            The raw store that is asked.
        max_age
            Seconds beyond which an index is no proof.
        """
        key = bytes.fromhex(digest)
        try:
            opened = self._opened(pattern, raw)
            for _ in range(_TRIES):
                # Before its memory is looked at: a file that another one was copied into may have become shorter.
                if not opened.is_current(self._name):
                    opened = self._opened(pattern, raw, stale=opened)
                elif opened.index is None or opened.index.holds_raw(key) or key in opened.noted:
                    return None
                else:
                    age = time.time() - opened.covers
                    return Denial(opened.covers_up_to, opened.why_not is None and -_CLOCKS <= age <= max_age)
        except (DamagedIndex, OSError) as error:
            self._warn(error)
        return None

    def note(self, digest: str) -> None:
        """Note that the blob of `digest` is written next. It may block. Raises OSError or `DamagedIndex`."""
        note(self.path, bytes.fromhex(digest))

    def state(self, pattern: str, raw: Any, max_age: float) -> MembershipState:
        """What is known of the index now."""
        try:
            opened = self._opened(pattern, raw)
            if not opened.is_current(self._name):
                opened = self._opened(pattern, raw, stale=opened)
        except (DamagedIndex, OSError) as error:
            return MembershipState(info=None, noted=0, bytes=0, trouble=str(error))
        if opened.index is None:
            trouble = None if opened.trouble is None else str(opened.trouble)
            return MembershipState(info=None, noted=len(opened.noted), bytes=0, trouble=trouble)
        age = time.time() - opened.covers
        trouble = opened.why_not
        if trouble is None and age > max_age:
            trouble = f"it covers up to {age:,.0f} seconds ago, and is no proof after {max_age:,.0f} (index_max_age)"
        elif trouble is None and age < -_CLOCKS:
            trouble = "it covers up to a moment in the future: a clock is wrong"
        size = 0 if opened.stamp is None else opened.stamp[2]
        return MembershipState(info=opened.index.info, noted=len(opened.noted), bytes=size, trouble=trouble)

    def _opened(self, pattern: str, raw: Any, *, stale: _Opened | None = None) -> _Opened:
        """The opened files; in place of `stale`, which is not current, those that are there now."""
        here = self._here.get() or self._here.set_once((threading.Lock(), []))
        lock, held = here
        address = getattr(raw, "endpoint_url", None)
        if held and (opened := held[0]) is not stale and opened.pattern == pattern and opened.address == address:
            return opened
        with lock:
            if held and (opened := held[0]) is not stale and opened.pattern == pattern and opened.address == address:
                return opened
            opened = _Opened(self.path, self._algorithm, pattern, raw, self._identity)
            held[:] = [opened]
        if opened.trouble is not None:
            self._warn(opened.trouble)
        elif opened.elsewhere is not None:
            warn_once(logger, ("index", self.path, opened.elsewhere), "index %s: %s", self.path, opened.elsewhere)
        return opened

    def _warn(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, OSError) and error.errno is not None:
            text = f"index {self.path}: {error.strerror}"
        warn_once(logger, ("index", self.path, type(error)), "%s; the store is asked as if it had no index", text)

    def __getstate__(self) -> dict[str, Any]:
        identity = self._identity
        with contextlib.suppress(OSError):
            identity = identity or identity_of(place_of(self.path))
        return {**self.__dict__, "_here": PerProcess(), "_identity": identity}


def why_no_proof(info: IndexInfo, noted: Noted) -> str | None:
    """Why an index is no proof of an absence, whatever its age; None: it is, with what was noted since."""
    if info.coverage != "whole":
        return f"it covers a part of the source: {info.coverage}"
    if noted.begins is None:
        return noted.why_not
    if noted.begins > info.covers_up_to:
        since = noted.begins.isoformat(timespec="seconds")
        return f"what is written is noted since {since}, and the index covers less: build it again"
    return None


def _elsewhere(info: IndexInfo, raw: Any) -> str | None:
    """Why an index may be that of another service; None: it is not, or one of the two services is not known."""
    service = getattr(raw, "known_service", None)
    if not info.service or service is None or (asked := service()) is None or asked in info.service.split("; "):
        return None
    return f"{info.service} was listed, and the store asks {asked}: until it is built of that it only orders"


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    """What changes when a file is replaced or written; None: there is none. Raises OSError."""
    try:
        status = os.stat(path)  # noqa: PTH116 - several times as fast as that of a Path, and done for each lookup
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _misfit(info: IndexInfo, algorithm: str, pattern: str) -> str | None:
    """Why an index is not that of a store; None: it is, or nothing says that it is not."""
    if info.algorithm != algorithm:
        return f"it is of {info.algorithm} digests, and the store of {algorithm}"
    # As `bitstore index build` names sources; other texts are words of the user.
    sources = [_READ_FROM.sub("", source) for source in info.source.split("; ")]
    urls = [source for source in sources if "://" in source]
    cut = info.source.endswith(("…", " more"))
    if not urls or len(urls) < len(sources) or cut or any(_same(url, pattern) for url in urls):
        return None
    return f"it is of {', '.join(urls)}, and the store of {pattern}"


def _same(url: str, pattern: str) -> bool:
    return _plain(url if "{" in url else url + "{digest}") == _plain(pattern)


def _plain(url: str) -> str:
    """A URL as it is compared: of files, without percent-encoding and the name of this machine."""
    if not url.lower().startswith("file://"):
        return url
    return unquote(_OF_FILES.sub("file:///", url), errors="surrogateescape")
