"""Lookups whose blobs stay in the caches: all that comes back is what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from bitstore._lookup.asking import scope_of, size_of
from bitstore._tiers.composite import Composite
from bitstore._warming.outcome import Outcome, failed, outcome_of
from bitstore._warming.parts import Target, dry_part, filled, keepers
from bitstore.blob import Blob
from bitstore.errors import described
from bitstore.store import Store

__all__ = ["keep", "keep_dry"]

_MAX_BYTES = 64 << 20  # of the blobs that one call holds at a time


def keep(
    store: Composite,
    digests: Iterable[str],
    *,
    target: Target,
    timeout: float | None,
    in_flight: int | None,
) -> Iterator[Outcome]:
    """Look up `digests`, so that the caches which `target` means keep them; one outcome for each, as they come.

    A blob that was found and that one of these caches did not keep has failed.
    """
    kept = _Kept(store, target)
    blobs: Any = Store.get_many(
        store, digests, errors="return", timeout=timeout, in_flight=in_flight, max_bytes=_MAX_BYTES
    )
    with closing(blobs):
        for blob in blobs:
            outcome = outcome_of(blob)
            lost = kept.not_kept(blob) if outcome.kind == "found" else None
            del blob  # its bytes must not wait here for as long as the consumer takes
            yield outcome if lost is None else failed(outcome.digest, lost)


def keep_dry(
    store: Composite, digests: Iterable[str], *, target: Target, timeout: float | None, in_flight: int | None
) -> Iterator[Outcome]:
    """What `keep` would do, found out without a paid call and without a blob: `"warm"`, or `"found"` and where."""
    above = keepers(store, set(filled(store, target)))
    blobs: Any = Store.get_many(dry_part(store), digests, errors="return", timeout=timeout, in_flight=in_flight)
    with closing(blobs):
        for blob in blobs:
            outcome = outcome_of(blob)
            warm = outcome.kind == "found" and not above.get(outcome.tier or "")
            yield outcome._replace(kind="warm") if warm else outcome


class _Kept:
    """Whether caches keep what they are given.

    A write that fails is counted by its tier before the blob is handed out. As long as the counts say no more than what
    has been accounted for, a shared cache need not be asked. The cache of a node is asked always: that costs next to
    nothing, and it also leaves out, without any failure, what is larger than itself.
    """

    def __init__(self, store: Composite, target: Target) -> None:
        self._store = store
        self._caches: dict[str, Any] = filled(store, target)
        self._above = keepers(store, set(self._caches))
        self._accounted = self._failures()

    def _failures(self) -> dict[str, int]:
        stats = self._store.stats()
        return {name: stats[name].write_failures for name in self._caches}

    def not_kept(self, blob: Blob) -> str | None:
        """Why the caches did not keep the blob; None: they did."""
        told: str | None = None
        names = self._above.get(blob.source or "", ())
        failures = self._failures() if names else {}
        for name in names:
            cache = self._caches[name]
            suspect = failures[name] > self._accounted[name]
            local = scope_of(cache) != "shared"
            if not (suspect or local):
                continue
            try:
                if cache.exists(blob.uri):
                    continue
                reason = f"{name} did not keep it"
                most = getattr(cache, "max_size", None)
                if not cache.is_valid(blob.uri):
                    reason += " (it takes nothing in this process)"
                elif local and not suspect and isinstance(most, int):
                    reason += f" (it holds {most:,} bytes, and this blob has {size_of(blob.data):,})"
            except Exception as error:  # whatever a user's cache raises, we do not know that it has the blob
                reason = f"{name} could not keep it ({described(error)})"
            self._accounted[name] += suspect
            told = told or reason
        return told
