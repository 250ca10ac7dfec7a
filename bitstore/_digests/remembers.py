"""A source whose absences are remembered for longer than a process lives."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from bitstore._digests.definite import Remembered, absence_in, leniency
from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._lookup.asking import (
    counts_of,
    label_of,
    methods_of,
    scope_of,
    steps_of_describe,
    steps_of_exists,
    steps_of_get,
    steps_of_put,
    steps_of_version,
)
from bitstore._lookup.download import steps_of_download
from bitstore._lookup.opened import steps_of_open
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._misses.entries import SourceName, day_of
from bitstore._misses.ledger import Known, MissLedger
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.fixed import Fixed
from bitstore._support.once import warn_once
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.spans import format_span, parse_span
from bitstore._tiers.chain import Chain, costs, has_index
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable
from bitstore.index._membership import Denial
from bitstore.outline import Outline, outline_of
from bitstore.steps import OVERWRITE, Call, Found, RequestCounts, Scope, Steps, Stored, Write
from bitstore.store import Store

__all__ = ["LIFETIME", "RemembersMisses", "unwrapped"]

logger = logging.getLogger("bitstore")

LIFETIME = "30 days"


class RemembersMisses(DigestFormatMixin, VerifyDigestMixin, KeepsPerProcess, Store):
    """A source that is not asked again for what it said it lacks: `RemembersMisses(VirusTotal(), ledger, name="vt")`.

    The second run of a job makes no call for a blob that the first one was told is missing. Only definite answers are
    remembered: the source itself was asked just now, and said that it lacks the blob. Failures, refusals, bytes that do
    not match and what an index or a cache of absences knows are not. What is put through this store is withdrawn from
    the ledger first; a blob that comes into the source in another way counts as missing until the lifetime is over, or
    until it is forgotten (`MissLedger.forget`, `bitstore misses forget`).

    Parameters
    ----------
    base_store
        The source, free or paid, addressed by digest.
    ledger
        Where its misses are recorded. Several sources may share one.
    name
        Name of the source in the ledger. Sources with equal names count as one, so it should tell the account or the
        bucket.
    lifetime
        For how long a miss counts: seconds, or a text such as `"30 days"` or `"12h"`.
    recheck
        Ask the source although a miss is known. Its answers are recorded as always.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`, for a source that does not say it itself.

    Raises
    ------
    TypeError
        `base_store` is a composite (each of its sources may have a ledger), or does not say its algorithm.
    ValueError
        `name` is empty, `lifetime` is no span of time, or `base_store` takes refusals for absences
        (`forbidden_is_missing`, `missing_bucket="missing"`), which are no definite answers.
    """

    ledger = Fixed[MissLedger]()
    name = Fixed[str]()

    def __init__(
        self,
        base_store: Store,
        ledger: MissLedger,
        *,
        name: str,
        lifetime: float | str = LIFETIME,
        recheck: bool = False,
        algorithm: str | None = None,
    ) -> None:
        if isinstance(base_store, Chain):
            raise TypeError(f"{base_store!r} is a composite: give a ledger to each of its sources that should have one")
        if isinstance(base_store, type) or not callable(getattr(base_store, "get", None)):
            raise TypeError(f"expected a source with 'is_valid' and 'get', got {base_store!r}")
        if not isinstance(ledger, MissLedger):
            raise TypeError(f"ledger={ledger!r}: expected MissLedger(path)")
        if not (str(name).strip() and str(name).isprintable()):
            raise ValueError(f"name={name!r}: a source needs a name in its ledger, such as that of its account")
        known = algorithm or getattr(base_store, "algorithm", None)
        if not isinstance(known, str):
            raise TypeError(f"{base_store!r} does not say by which digests it is asked: give algorithm='sha256', say")
        self.algorithm = digest_algorithm(known).name
        if (lenient := leniency(base_store)) is not None:
            raise ValueError(f"{base_store!r} has {lenient}, and what it means is no definite absence to be remembered")
        self.base_store = base_store
        self.ledger = ledger
        self.name = name
        self.lifetime = parse_span(lifetime, name="lifetime")
        self.recheck = recheck
        self._source = SourceName(name, self.algorithm)
        self._live: PerProcess[Remembered] = PerProcess()

    # ------------------------------------------------------------------ what the source is

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a digest that the source takes."""
        return super().is_valid(uri) and bool(self.base_store.is_valid(uri))

    @property
    def label(self) -> str:
        """That of the source."""
        return label_of(self.base_store)

    @property
    def paid(self) -> bool:  # type: ignore[override]
        """Whether asking the source costs money or quota."""
        return costs(self.base_store)

    @property
    def verify(self) -> bool:
        """Whether the source checks what it returns."""
        return isinstance(self.base_store, VerifyDigestMixin) and bool(getattr(self.base_store, "verify", False))

    @verify.setter
    def verify(self, verify: bool) -> None:
        self.base_store.verify = verify  # type: ignore[attr-defined]

    @property
    def bytes_only(self) -> bool:  # type: ignore[override]
        """That of the source."""
        return bool(getattr(self.base_store, "bytes_only", False))

    @property
    def takes_files(self) -> bool:
        """Whether the source takes files in place of bytes."""
        return bool(getattr(self.base_store, "takes_files", False))

    @property
    def scope(self) -> Scope:  # type: ignore[override]
        """That of the source."""
        return scope_of(self.base_store)

    @property
    def index(self) -> str | None:
        """Path of the source's membership index; None: it has none."""
        path: str | None = getattr(self.base_store, "index", None) if has_index(self.base_store) else None
        return path

    def denial(self, digest: str) -> Denial | None:
        """What makes the digest surely absent in the source, as its index says. The store has one then (`index`)."""
        base: Any = self.base_store
        denial: Denial | None = base.denial(digest)
        return denial

    def without_index(self) -> RemembersMisses:
        """The store itself, as it is asked for each blob. It has an index (`index`)."""
        base: Any = self.base_store
        asked = base.without_index()
        if asked is base:
            return self
        twin = copy.copy(self)
        twin.base_store, twin._live = asked, self._live
        return twin

    def remembered(self, digests: Iterable[Any]) -> set[str]:
        """Those of `digests` (in lower case) that the ledger knows to be missing, so that the source is not asked.

        Raises
        ------
        InvalidURI
            One of them is no digest.
        StoreNotAvailable
            The ledger cannot be read.
        """
        place = self._place()
        return {
            digest
            for digest in map(self.canonical, digests)
            if self.ledger.look(self._source, place, self.lifetime, bytes.fromhex(digest)).counts
        }

    def counts(self) -> RequestCounts:
        """The requests of the source, and the lookups that the ledger has answered."""
        return self._here().beside(counts_of(self.base_store))

    def outline(self) -> Outline:
        """The source, and for how long its misses are remembered where."""
        below = outline_of(self.base_store)
        own: dict[str, Any] = {
            "misses in": self.ledger.path,
            "as": self.name,
            "remembered for": format_span(self.lifetime),
        }
        own |= {} if self.ledger.share is None else {"misses shared in": self.ledger.share.shown}
        own |= {"recheck": True} if self.recheck else {}
        return replace(below, facts={**below.facts, **own})

    # ------------------------------------------------------------------ lookups

    def get(self, digest: str) -> Any:
        """What the source's `get` returns. `NotFoundInStore` also where it said so before, within the lifetime.

        Raises what the source's `get` raises; and `StoreNotAvailable` where the source is paid and the ledger cannot be
        read.
        """
        self._check_valid(digest)
        return run(self.get_steps(digest)).data

    def exists(self, digest: str) -> bool:
        """What the source's `exists` says, unless a miss is known."""
        self._check_valid(digest)
        return run(self.exists_steps(digest))

    def put(self, digest: str, data: bytes) -> None:
        """What the source's `put` does, after a miss of the digest was withdrawn.

        Raises
        ------
        StoreNotAvailable
            The ledger cannot be written: nothing was put then, because it would count as missing.
        """
        self._check_valid(digest)
        run(self.put_steps(digest, data, OVERWRITE))

    def get_steps(self, digest: str) -> Steps[Found]:
        found: Found = yield from self._asked(digest, "get", partial(steps_of_get, self.base_store, digest))
        return found

    def download_steps(self, digest: str, file: Partial) -> Steps[Found]:
        found: Found = yield from self._asked(
            digest, "download", partial(steps_of_download, self.base_store, digest, file)
        )
        return found

    def open_steps(self, digest: str, verify: bool | None = None) -> Steps[Found]:
        found: Found = yield from self._asked(digest, "open", partial(steps_of_open, self.base_store, digest, verify))
        return found

    def exists_steps(self, digest: str) -> Steps[bool]:
        def ask() -> Steps[Any]:
            if not (yield from steps_of_exists(self.base_store, digest)):
                raise absence_in(self.base_store, digest)
            return True

        try:
            return bool((yield from self._asked(digest, "exists", ask)))
        except InvalidDataFound:
            raise
        except NotFoundInStore:
            return False

    def describe_steps(self, digest: str) -> Steps[Stored | None]:
        """What the source says. Where the ledger knows a miss, `NotFoundInStore` says how, for `Store.locate`."""

        def ask() -> Steps[Any]:
            stored = yield from steps_of_describe(self.base_store, digest)
            if stored is None:
                raise absence_in(self.base_store, digest)
            return stored

        try:
            stored: Stored = yield from self._asked(digest, "exists", ask)
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            if error.why:
                raise
            return None
        return stored

    def remembers_steps(self, digest: str) -> Steps[bool]:
        """Whether a miss of `digest` is known that counts, so that a lookup does not ask the source."""
        known = None if self.recheck else (yield from self._look(self._raw(digest)))
        return known is not None and known.counts and known.at is not None

    def put_steps(self, digest: str, data: Any, write: Write) -> Steps[None]:
        base = self.base_store
        if getattr(type(base), "put", Store.put) is Store.put and not methods_of(base).put_steps:
            raise NotImplementedError(f"{type(base).__name__} does not implement the 'put' method")
        # First: what is put when the process is killed in between would count as missing else.
        yield Call(partial(self.ledger.withdraw, self._source, self._raw(digest), must=True))
        yield from steps_of_put(base, digest, data, write)

    def version_steps(self, digest: str) -> Steps[str | None]:
        return (yield from steps_of_version(self.base_store, digest))

    def _asked(self, digest: Any, question: str, ask: Callable[[], Steps[Any]]) -> Steps[Any]:
        """What the source answers; `NotFoundInStore` without asking it, where a miss counts."""
        raw = self._raw(digest)
        known = yield from self._look(raw)
        if known is not None and known.counts and known.at is not None and not self.recheck:
            self._here().add()
            why = f"said so on {day_of(known.at)}, remembered for {format_span(self.lifetime)}"
            raise NotFoundInStore(self.base_store, digest, why=why)
        try:
            found = yield from ask()
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            if known is not None and not error.why and leniency(self.base_store) is None:
                yield Call(self.ledger.add, self._source, raw, known.asked, f"answered {question}")
            raise
        if known is not None and known.at is not None:
            yield Call(partial(self.ledger.withdraw, self._source, raw, must=False))
        return found

    def _look(self, raw: bytes) -> Steps[Known | None]:
        """What the ledger says; None: it cannot be read, and asking the source costs nothing."""
        try:
            known: Known = yield Call(self.ledger.look, self._source, self._place(), self.lifetime, raw)
        except StoreNotAvailable as error:
            if self.paid:
                raise
            text = "%s is asked for what it may have said it lacks: %s (said once)"
            warn_once(logger, ("no ledger", self.label, type(error)), text, self.label, error.reason)
            return None
        return known

    def _raw(self, digest: Any) -> bytes:
        return bytes.fromhex(self._text(digest))

    def _place(self) -> str:
        """What tells the source from others under the same name."""
        service = getattr(getattr(self.base_store, "base_store", None), "endpoint_url", None)
        return self.label if service is None else f"{self.label} at {service}"

    def _here(self) -> Remembered:
        return self._live.get() or self._live.set_once(Remembered())

    def __repr__(self) -> str:
        lifetime = "" if self.lifetime == parse_span(LIFETIME) else f", lifetime={format_span(self.lifetime)!r}"
        recheck = ", recheck=True" if self.recheck else ""
        return f"{type(self).__name__}({self.base_store!r}, {self.ledger!r}, name={self.name!r}{lifetime}{recheck})"


def unwrapped(store: Any) -> Any:
    """The source itself, for what looks after it: old misses do not matter there."""
    return unwrapped(store.base_store) if isinstance(store, RemembersMisses) else store
