"""A cache that keeps blobs in packs: many blobs by one request, each of them durable on this machine before."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bitstore._caches.root import absolute, default_folder
from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._lookup.asking import counts_of
from bitstore._lookup.run import run
from bitstore._packs import publisher
from bitstore._packs.finder import GAP, Finder, failed
from bitstore._packs.writer import Writer
from bitstore._support.checks import ChecksOptions, check_seconds
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.redact import redact_url
from bitstore._support.sizes import format_size, parse_size
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable
from bitstore.outline import Outline
from bitstore.references._table import Reference
from bitstore.steps import OVERWRITE, Call, Found, RequestCounts, Steps, Stored, Write
from bitstore.store import Store

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PackCache"]

_INLINE = 1024 * 1024  # bytes; reading or hashing more than this holds up the transfers of others for milliseconds


class _State:
    """What one process has of a cache."""

    __slots__ = ("finder", "hits", "lock", "misses", "present", "thread", "writer", "written")

    def __init__(self, cache: PackCache, folder: Path) -> None:
        self.writer = Writer(
            cache.raw,
            cache.prefix,
            folder,
            cache.algorithm,
            pack_size=cache.pack_size,
            max_waiting=cache.max_waiting,
            publish_after=cache.publish_after,
            sync=cache.sync,
        )
        self.finder = Finder(
            cache.label, cache.raw, cache.prefix, folder, self.writer, cache.algorithm, cache.refresh, cache.read_ahead
        )
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.hits = self.misses = self.written = self.present = 0


class PackCache(ChecksOptions, KeepsPerProcess, DigestFormatMixin, VerifyDigestMixin, Store):
    """A cache for many small blobs: they are written into packs of about 64 MB, each of them one object.

    A blob that was put is in a file of this machine when `put` returns: it survives the end of the process, however
    that ends, and is found by all processes of the machine. A thread publishes packs in the background; others see
    those when they list them. What a killed process has left is published by the next one that writes. A pack is a tar
    file; its index, beside it, is a table of references, which can be made again of the pack.

    Parameters
    ----------
    raw
        A store addressed by URL that can list: `S3Raw`, `GSRaw` or `FileRaw`.
    prefix
        URL prefix of the packs, such as `"s3://bucket/packs/"`. Nothing else should lie there.
    folder
        Of this machine, on a local file system: journals, and the tables of all packs. For one `prefix` of one service
        alone. None: beside the folder of `DiskCache`, asked again wherever the cache is unpickled.
    pack_size
        Bytes above which a pack is published: a number or a size.
    publish_after
        Seconds after which a pack is published although it is smaller.
    refresh
        Seconds after which a digest that is not found lets the packs be listed again.
    verify
        Check that the bytes match their digest, on get and put.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`. A digest store's composite tells the cache by itself.
    sync
        Wait for the disk at each blob, so that it survives a power cut, too.
    max_waiting
        Bytes that may wait on this machine to be published, above which `put` fails: a number or a size.
    read_ahead
        Memory for what is read ahead; 0: only what is wanted is read. A number or a size.

    Raises
    ------
    TypeError
        `raw` is no store, or cannot list.
    ValueError
        `prefix` is no URL of `raw` or does not end in a slash, or a number makes no sense.
    """

    bytes_only = True

    def __init__(
        self,
        raw: Store,
        prefix: str,
        *,
        folder: str | os.PathLike[str] | None = None,
        pack_size: int | str = "64MB",
        publish_after: float = 300.0,
        refresh: float = 60.0,
        verify: bool = True,
        algorithm: str | None = None,
        sync: bool = False,
        max_waiting: int | str = "10GB",
        read_ahead: int | str = "64MiB",
    ) -> None:
        if not callable(getattr(raw, "list_steps", None)):
            raise TypeError(f"raw={raw!r}: packs are found by listing, which S3Raw, GSRaw and FileRaw can")
        given: Any = prefix
        url = isinstance(given, str) and given.endswith("/") and "{" not in given
        if not (url and raw.is_valid(f"{given}x.tar")):
            shown = redact_url(given) if isinstance(given, str) else given
            raise ValueError(
                f"prefix={shown!r}: expected a URL of {type(raw).__name__} that ends in '/', and no template"
            )
        check_seconds("publish_after", publish_after)
        check_seconds("refresh", refresh, or_zero=True)
        self.raw, self.prefix = raw, prefix
        self._given = None if folder is None else absolute(folder)
        self.pack_size = parse_size(pack_size, name="pack_size")
        self.max_waiting = parse_size(max_waiting, name="max_waiting")
        self.read_ahead = parse_size(read_ahead, name="read_ahead")
        if not self.pack_size:
            raise ValueError("pack_size 0 leaves no room for a blob: give a size such as '64MB'")
        self.publish_after, self.refresh = publish_after, refresh
        self.verify, self.sync = verify, sync
        self._told: str | None = None  # the algorithm that was given
        if algorithm is not None:
            self.use_algorithm(algorithm)
        self._states: PerProcess[_State] = PerProcess()

    def use_algorithm(self, name: str) -> None:
        """Take the keys for digests of the algorithm `name`. ValueError: unknown, or another than before."""
        name = digest_algorithm(name).name
        if self._told not in (None, name):
            raise ValueError(f"{self!r} holds {self._told} digests: make another PackCache for {name}")
        self._told = self.algorithm = name

    @property
    def label(self) -> str:
        """`packs:` and the prefix."""
        return f"packs:{redact_url(self.prefix)}"

    @property
    def folder(self) -> Path:
        """The folder on this machine, absolute. Raises StoreNotAvailable where the process has none."""
        if self._given is not None:
            return Path(self._given)
        root, trouble = default_folder()
        if trouble is not None:
            raise StoreNotAvailable(self.label, f"there is no folder for its journals: {trouble}; name one (folder)")
        # Two services may have a bucket of one name, and neither is to get the packs of the other.
        place = f"{getattr(self.raw, 'endpoint_url', None)} {self.prefix}"
        return Path(f"{root}-packs") / hashlib.sha256(place.encode()).hexdigest()[:16]

    def counts(self) -> RequestCounts | None:
        """The counts of the raw store."""
        return counts_of(self.raw)

    # ------------------------------------------------------------------ reading

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`.

        Raises
        ------
        InvalidURI
            `digest` is not one.
        NotFoundInStore
            No pack has it, as of the last listing; `InvalidDataFound` if what is there does not match.
        StoreNotAvailable
            The raw store or the disk could not say.
        """
        self._check_valid(digest)
        data: bytes = run(self.get_steps(digest)).data
        return data

    def exists(self, digest: str) -> bool:
        """Whether a journal or a pack has `digest`. Raises what `get` raises, except `NotFoundInStore`."""
        self._check_valid(digest)
        return run(self.exists_steps(digest))

    def get_steps(self, digest: str) -> Steps[Found]:
        key = self._text(digest).lower()
        state = self._states.get() or self._start()
        place = None
        data = state.finder.here(key)
        if data is None:
            place, data = yield from state.finder.fetched(key, state.finder.known(key))
        if data is None:
            place, data = yield from state.finder.found_late(key)
            if data is None:
                place, data = yield from state.finder.fetched(key, place)
        if data is None:
            state.misses += 1
            raise NotFoundInStore(self, key)
        if self.verify:
            try:
                if len(data) <= _INLINE:
                    self._verify_data(data, key)
                else:
                    yield Call(self._verify_data, data, key)
            except InvalidDataFound:
                state.finder.bad.add(key)  # the next put replaces it
                if place is not None:
                    state.finder.forget(place)
                raise
        state.hits += 1
        return Found(data, self.label)

    def exists_steps(self, digest: str) -> Steps[bool]:
        return (yield from self.describe_steps(digest)) is not None

    def describe_steps(self, digest: str) -> Steps[Stored | None]:
        key = self._text(digest).lower()
        state = self._states.get() or self._start()
        data = state.finder.here(key)
        if data is None:
            place = state.finder.known(key)
            if place is None:
                place, data = yield from state.finder.found_late(key)
            if place is not None:
                return Stored(redact_url(self.prefix + place.url), place.length)
        return None if data is None else Stored(size=len(data))

    def place_steps(self, digest: str) -> Steps[tuple[Store | None, str, int, int | None] | None]:
        """The raw store, the pack and the bytes of a blob; no store: it is on this machine; None: it is nowhere."""
        key = self._text(digest).lower()
        state = self._states.get() or self._start()
        place, data = state.finder.known(key), state.finder.here(key)
        if place is None and data is None:
            place, data = yield from state.finder.found_late(key)
        if data is not None:
            return None, "", 0, 0
        return None if place is None else (self.raw, self.prefix + place.url, *_span(place))

    @property
    def read_ahead_room(self) -> tuple[int, int]:
        """Bytes between two parts that are read along with them, and of memory for what is read ahead."""
        return GAP, self.read_ahead

    def rebuild(self) -> int:
        """Make the tables of all packs again, of the packs alone, here and beside the packs; returns how many.

        Raises
        ------
        StoreNotAvailable
            The raw store could not give a pack, or take a table; the disk fails.
        InvalidDataFound
            A pack is damaged. The others are done.
        """
        state = self._states.get() or self._start()
        try:
            count, broken = state.finder.rebuild()
        except StoreNotAvailable:
            raise
        except OSError as error:
            raise failed(self.label, error) from error
        if broken:
            raise InvalidDataFound(self, broken[0], f"{len(broken)} packs are damaged")
        return count

    # ------------------------------------------------------------------ writing

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`: it survives the end of this process when this returns.

        Raises
        ------
        InvalidURI
            `digest` is not one.
        TypeError
            `data` is not bytes.
        InvalidDataFound
            With `verify`: the bytes do not match.
        StoreNotAvailable
            The disk does not take it, or too much waits there to be published.
        """
        self._put(digest, data)

    def put_steps(self, digest: str, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
        if self.sync or len(data) > _INLINE:
            yield Call(self._put, digest, data)
        else:
            self._put(digest, data)

    def _put(self, digest: str, data: bytes) -> None:
        if type(data) is not bytes:
            self._check_valid(digest)
            if not isinstance(data, bytes):
                raise TypeError(f"{type(self).__name__} holds bytes only, not {type(data).__name__} (for '{digest}')")
            data = bytes(memoryview(data))
        kind = digest_algorithm(self.algorithm)
        given: Any = digest
        if isinstance(given, str) and kind.is_digest(given):
            key = given.lower()
        else:
            self._check_valid(given)
            key = self._text(given).lower()
        if self.verify and (actual := kind.of(data)) != key:
            self._verify_digest(actual, key)
        state = self._states.get() or self._start()
        bad = key in state.finder.bad
        if not bad and state.finder.known(key) is not None:
            state.present += 1
            return
        try:
            kept = state.writer.append(key, data, again=bad)
        except OSError as error:
            raise failed(self.label, error) from error
        if bad:
            state.finder.bad.discard(key)
        if kept:
            if not publisher.holds(self):
                publisher.hold(self)
            state.written += 1
        else:
            state.present += 1
        if state.thread is None:
            self._start_publishing(state)

    def flush(self) -> None:
        """Publish all blobs that wait on this machine: those of this process, and of processes that are gone.

        Raises
        ------
        StoreNotAvailable
            The raw store did not take a pack, or the disk fails: the blobs stay where they are, for another try.
        """
        state = self._states.get() or self._start()
        self._publish(state, everything=True)
        publisher.hold(self)

    def _publish(self, state: _State, *, everything: bool) -> None:
        try:
            state.writer.publish(everything=everything, published=state.finder.reload)
            state.finder.compact()
        except StoreNotAvailable:
            raise
        except OSError as error:
            raise failed(self.label, error) from error

    def _start_publishing(self, state: _State) -> None:
        with state.lock:
            if state.thread is None:
                state.thread = publisher.start(self, state.writer.wake)

    @property
    def is_waiting(self) -> bool:
        """Whether blobs that this process has put are not published yet."""
        state = self._states.get()
        return state is not None and state.writer.is_waiting

    def publish_what_is_due(self) -> float:
        """Publish full packs, and those that have waited long enough; returns the seconds until the next one is due.

        Raises
        ------
        StoreNotAvailable
            As `flush` does.
        """
        state = self._states.get() or self._start()
        self._publish(state, everything=False)
        due = state.writer.due()
        return self.publish_after if due is None else due

    def finish(self) -> None:
        """`flush` at the end of the process, where this process has written: what fails is logged."""
        state = self._states.get()
        if state is not None:
            state.writer.publish_all(state.finder.reload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    # ------------------------------------------------------------------ state

    def stats(self) -> dict[str, int | None]:
        """Counters of this process, and what waits on this machine.

        `hits`, `misses`; `written`, `present` (was there already); `packs` and `blobs` that this process has published;
        `waiting` (bytes of all processes that are not published yet; None: the disk does not say).
        """
        state = self._states.get() or self._start()
        try:
            waiting: int | None = state.writer.waiting()
        except OSError:
            waiting = None
        return {
            "hits": state.hits,
            "misses": state.misses,
            "written": state.written,
            "present": state.present,
            "packs": state.writer.packs,
            "blobs": state.writer.blobs,
            "waiting": waiting,
        }

    def _start(self) -> _State:
        try:
            return self._states.set_once(_State(self, self.folder))
        except StoreNotAvailable:
            raise
        except OSError as error:
            raise failed(self.label, error) from error

    def outline(self) -> Outline:
        """Where the packs lie, and how large they are."""
        facts: dict[str, Any] = {
            "packs": redact_url(self.prefix),
            "pack size": format_size(self.pack_size),
            "verify": bool(self.verify),
        }
        return Outline(self.label, type(self).__name__, facts=facts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw!r}, {redact_url(self.prefix)!r})"


def _span(place: Reference) -> tuple[int, int]:
    return place.offset, place.offset + (place.length or 0)
