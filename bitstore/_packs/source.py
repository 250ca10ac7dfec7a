"""A source whose blobs lie where a table says: as parts of larger objects, or under any URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._lookup.asking import steps_of_get
from bitstore._lookup.run import run
from bitstore._packs.forms import forms
from bitstore._packs.gather import Gather
from bitstore._packs.opening import OpenedTable, mark_of, open_table
from bitstore._raw.file import FileRaw
from bitstore._raw.gs import GSRaw
from bitstore._raw.http import HTTPRaw
from bitstore._raw.s3 import S3Raw
from bitstore._support.checks import ChecksOptions
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.redact import redact_url
from bitstore._support.sizes import parse_size
from bitstore._tiers.chain import pay_from
from bitstore._tiers.single_flight import Flights
from bitstore.errors import InvalidDataFound, InvalidURI, NotFoundInStore, StoreNotAvailable
from bitstore.outline import Outline
from bitstore.references._names import check_columns
from bitstore.references._table import Reference
from bitstore.steps import Call, Found, Steps, Stored, Wait
from bitstore.store import Store

__all__ = ["DigestReferences", "Md5References", "Sha1References", "Sha256References"]

_RAW: dict[str, type[Store]] = {"s3": S3Raw, "gs": GSRaw, "http": HTTPRaw, "https": HTTPRaw, "file": FileRaw}
_HASH_INLINE = 1024 * 1024  # bytes; hashing more than this holds up the transfers of others for milliseconds


class _State:
    """What one process has."""

    def __init__(self, gap: int, room: int) -> None:
        self.gather = Gather(gap, room)
        self.opening = Flights()
        self.opened: OpenedTable | None = None


class DigestReferences(ChecksOptions, KeepsPerProcess, DigestFormatMixin, VerifyDigestMixin, Store):
    """A source of blobs that lie where a table says: a URL, and a part of the object there or all of it.

    A digest that the table does not name is absent. A table that is damaged is a failure; so is an object that is gone,
    or is shorter than the table says. In `get_many`, parts of one object that lie near each other come by one request.

    Parameters
    ----------
    table
        A file of this machine: SQLite, Parquet, Arrow (Feather), CSV, or what `bitstore.references.write_references`
        has written. Which of them it is, its first bytes tell.
    base_url
        What relative URLs of the table are appended to, as they are. None: the table has absolute ones alone.
    raw
        The store that reads the objects, or stores by the scheme of a URL (`{"s3": S3Raw.anonymous()}`). None, or a
        scheme that is not named: `S3Raw()`, `GSRaw()`, `HTTPRaw()`, `FileRaw()`.
    columns
        Names of the table's columns, by what they are: `digest`, `url`, `offset`, `length`. What is not named is found
        by usual names. A table without offsets, or a row without a length, means whole objects.
    sql_table
        Name of the table in a SQLite file; None: the only one.
    compiled
        Parquet, Arrow and CSV files are sorted into a file, which is mapped into memory; this one. It is made
        at the first lookup, and again where the table has changed since. None: beside the table, as `NAME.bitrefs`.
    verify
        Check that the bytes match their digest. Where they do not: what they expand to (gzip, zlib, zstd, a deflated
        member of a zip), and the payload of a WARC record. Without, the bytes are returned as they lie there.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`; default: that of the class.
    gap
        The most bytes between two parts that are read along with them, to save a request: a number or a size.
    read_ahead
        Memory for what is read ahead: an object of which several lookups want near parts is read by blocks of 1 MiB.
        0: only what is wanted is read. A number or a size.
    max_blob_size
        Bytes beyond which nothing is expanded: a number or a size.

    Raises
    ------
    ValueError
        A size is none, or `columns` or `raw` have a key that means nothing.
    """

    def __init__(
        self,
        table: str | os.PathLike[str],
        *,
        base_url: str | None = None,
        raw: Store | Mapping[str, Store] | None = None,
        columns: Mapping[str, str] | None = None,
        sql_table: str | None = None,
        compiled: str | os.PathLike[str] | None = None,
        verify: bool = True,
        algorithm: str | None = None,
        gap: int | str = "64KiB",
        read_ahead: int | str = "64MiB",
        max_blob_size: int | str = "5TiB",
    ) -> None:
        if algorithm is not None:
            self.algorithm = digest_algorithm(algorithm).name
        self.table = Path(os.path.abspath(table))  # noqa: PTH100 - a link stays one
        self.base_url = base_url
        if base_url is not None and "://" not in base_url:
            raise ValueError(f"base_url={base_url!r} is no URL: give one such as 's3://bucket/folder/'")
        self.raw: Store | dict[str, Store] = _stores(raw)
        self.columns = dict(columns or {})
        check_columns(self.columns)
        self.sql_table = sql_table
        self.compiled = None if compiled is None else Path(os.path.abspath(compiled))  # noqa: PTH100
        self.verify = verify
        self._gap = parse_size(gap, name="gap")
        self._room = parse_size(read_ahead, name="read_ahead")
        self._max_blob_size = parse_size(max_blob_size, name="max_blob_size")
        self._states: PerProcess[_State] = PerProcess()

    # The budget that requests are paid from, and the name of the tier; None: they are counted against none.
    _paying: tuple[Any, str] | None = None

    @property
    def label(self) -> str:
        """`references:` and the table's file name."""
        return f"references:{self.table.name}"

    def pay_from(self, budget: Any, name: str) -> None:
        """Count the requests of the stores that read objects against `budget` (None: against none)."""
        self._paying = None if budget is None else (budget, name)
        for store in {
            id(each): each for each in (self.raw.values() if isinstance(self.raw, dict) else [self.raw])
        }.values():
            pay_from(store, budget, name)

    # ------------------------------------------------------------------ lookups

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`.

        Raises
        ------
        InvalidURI
            `digest` is not one.
        NotFoundInStore
            The table does not name it; `InvalidDataFound` if what lies there does not match.
        StoreNotAvailable
            The table cannot be read, its object is gone or shorter than it says, or the store could not say.
        """
        self._check_valid(digest)
        data: bytes = run(self.get_steps(digest)).data
        return data

    def exists(self, digest: str) -> bool:
        """Whether the table names `digest`; no request is made. Raises what `get` raises for the table."""
        self._check_valid(digest)
        return run(self.exists_steps(digest))

    def get_steps(self, digest: str) -> Steps[Found]:
        key = self._text(digest).lower()
        place = yield from self._found(key)
        if place is None:
            raise NotFoundInStore(self, key)
        store, url = self._object(place)
        try:
            if place.length is None:
                data = (yield from steps_of_get(store, url)).data
            else:
                data = yield from self._gather().read(store, url, place.offset, place.offset + place.length)
        except (NotFoundInStore, InvalidURI) as error:
            gone = "there is nothing" if isinstance(error, NotFoundInStore) else "that is no URL of its store"
            raise self._definite(f"{key} lies at {redact_url(url)} as the table says, and {gone}") from error
        if not self.verify:
            return Found(data, self.label)
        try:
            if len(data) <= _HASH_INLINE:
                return Found(self._matching(data, key), self.label)
            return Found((yield Call(self._matching, data, key)), self.label)
        except InvalidDataFound:
            self._gather().forget(store, url)  # another lookup gets what is there then
            raise

    def _matching(self, data: bytes, digest: str) -> bytes:
        try:
            self._verify_data(data, digest)
        except InvalidDataFound:
            of = digest_algorithm(self.algorithm).of
            for form in forms(data, self._max_blob_size):
                if of(form) == digest:
                    return form
            raise
        return data

    def exists_steps(self, digest: str) -> Steps[bool]:
        return (yield from self._found(digest)) is not None

    def describe_steps(self, digest: str) -> Steps[Stored | None]:
        """Where the blob lies, by the table alone."""
        place = yield from self._found(digest)
        return None if place is None else Stored(redact_url(self._object(place)[1]), place.length)

    def place_steps(self, digest: str) -> Steps[tuple[Store, str, int, int | None] | None]:
        """The store, the URL and the bytes of a blob, by the table alone; None: the table does not name it."""
        place = yield from self._found(digest)
        if place is None:
            return None
        store, url = self._object(place)
        return store, url, place.offset, None if place.length is None else place.offset + place.length

    @property
    def read_ahead_room(self) -> tuple[int, int]:
        """Bytes between two parts that are read along with them, and of memory for what is read ahead."""
        return self._gap, self._room

    def reference(self, digest: str) -> Reference | None:
        """Where the blob of `digest` lies; None: the table does not name it. Raises what `exists` raises."""
        self._check_valid(digest)
        return run(self._found(digest))

    def _found(self, digest: str) -> Steps[Reference | None]:
        """Where the blob of a digest lies. None: the table that is there now does not name it."""
        key = self._text(digest).lower()
        state = self._states.get() or self._states.set_once(_State(self._gap, self._room))
        while True:
            opened = state.opened
            if opened is None:
                yield from self._open(state)
                continue
            try:
                place = opened.table.lookup(key)
                if place is not None or mark_of(self.table, opened.table) == opened.mark:
                    return place
            except (OSError, ValueError) as error:
                raise self._definite(f"its table cannot be read: {error}") from error
            if state.opened is opened:
                state.opened = None

    # ------------------------------------------------------------------ the table, and stores for its URLs

    def _open(self, state: _State) -> Steps[None]:
        """Open the table, once for all lookups that wait for it."""
        while state.opened is None:
            flight = state.opening.lead(None)
            if flight is not None:
                yield Wait(flight)
                flight.result  # noqa: B018 - raises what the opening has raised
                continue
            outcome: Exception | Found | None = None
            try:
                state.opened = yield Call(
                    open_table, self.table, self.algorithm, self.columns, self.sql_table, self.compiled
                )
                outcome = Found(None, self.label)
            except TimeoutError as error:  # a later lookup may find it compiled
                outcome = StoreNotAvailable(self, f"its table cannot be read yet: {error.strerror}")
                raise outcome from error
            except (OSError, ValueError, ImportError) as error:
                outcome = self._definite(f"its table cannot be read: {error}")
                raise outcome from error
            finally:
                state.opening.land(None, outcome)

    def _gather(self) -> Gather:
        return (self._states.get() or self._states.set_once(_State(self._gap, self._room))).gather

    def _object(self, place: Reference) -> tuple[Store, str]:
        url = place.url
        scheme, separator, _ = url.partition("://")
        if not separator:
            if self.base_url is None:
                raise self._definite(
                    f"the URL {url!r} of {place.digest} is relative: name what it begins with (base_url)"
                )
            url = self.base_url + url
            scheme = url.partition("://")[0]
        scheme = scheme.lower()
        if not isinstance(self.raw, dict):
            store: Store | None = self.raw
        elif (store := self.raw.get(scheme)) is None and scheme in _RAW:
            kind = _RAW[scheme]
            store = next((each for each in self.raw.values() if type(each) is kind), None)
            if store is None:
                store = kind()
                if self._paying is not None:
                    pay_from(store, *self._paying)
            store = self.raw.setdefault(scheme, store)
        if store is None or not store.is_valid(url):
            reason = (
                f"no store for {scheme}:// URLs: raw={{{scheme!r}: ...}}" if store is None else "no URL of its store"
            )
            raise self._definite(f"{place.digest} lies at {redact_url(url)} as the table says: {reason}")
        return store, url

    def _definite(self, reason: str) -> StoreNotAvailable:
        failure = StoreNotAvailable(self, reason)
        failure.definite = True
        return failure

    def outline(self) -> Outline:
        """The table, and what is said about it."""
        facts: dict[str, Any] = {"table": str(self.table), "verify": bool(self.verify)}
        if self.base_url is not None:
            facts["base URL"] = redact_url(self.base_url)
        return Outline(self.label, type(self).__name__, facts=facts)

    def __repr__(self) -> str:
        base = "" if self.base_url is None else f", base_url={redact_url(self.base_url)!r}"
        return f"{type(self).__name__}({str(self.table)!r}{base})"


def _stores(raw: Store | Mapping[str, Store] | None) -> Store | dict[str, Store]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        if not callable(getattr(raw, "get", None)):
            raise TypeError(f"raw={raw!r}: expected a store addressed by URL, such as S3Raw(), or stores by scheme")
        return raw
    for scheme, store in raw.items():
        if not scheme or "/" in scheme or ":" in scheme or scheme != scheme.lower():
            raise ValueError(f"raw: {scheme!r} is no scheme such as 's3'")
        if not callable(getattr(store, "get", None)):
            raise TypeError(f"raw[{scheme!r}]={store!r}: expected a store addressed by URL, such as S3Raw()")
    return dict(raw)


class Sha1References(DigestReferences):
    """`DigestReferences` of SHA-1."""

    algorithm = "sha1"


class Sha256References(DigestReferences):
    """`DigestReferences` of SHA-256."""

    algorithm = "sha256"


class Md5References(DigestReferences):
    """`DigestReferences` of MD5."""

    algorithm = "md5"


for _kind in (Sha1References, Sha256References, Md5References):
    if _kind.__doc__:  # there is none with python -OO
        _kind.__doc__ += "\n" + (DigestReferences.__doc__ or "").partition("\n")[2]
