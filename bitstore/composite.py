"""The composite: an ordered chain of sources and caches, itself a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from bitstore.breaker import PROBE_PAUSE, Breaker
from bitstore.chain import Tier, costs, keepers_of
from bitstore.download import download_steps
from bitstore.errors import (
    AccessDenied,
    InvalidDataFound,
    LimitReached,
    LookupFailed,
    LookupTimedOut,
    NotFoundInStore,
    StoreNotAvailable,
)
from bitstore.free import free_part
from bitstore.keep import keep_steps
from bitstore.live import Live
from bitstore.old import warn_of_unused
from bitstore.options import check_options
from bitstore.partial import Partial
from bitstore.process import PerProcess
from bitstore.stats import TierStats
from bitstore.asking import exists_steps, get_steps
from bitstore.store import Store
from bitstore.transfer.run import run
from bitstore.transfer.steps import Cancelled, Found, Steps, Wait

__all__ = ["Composite"]

logger = logging.getLogger("bitstore")

_NOT_ASKED = "not asked, because an earlier tier failed and may hold the blob (call_when_uncertain=False)"
_LEFT_ALONE = "left alone for now, after repeated failures"


class Composite(Store):
    """Sources and caches, asked in the order in which they were appended.

    `get` returns the bytes of the first tier that has them. It raises `NotFoundInStore` only when every
    tier said that it lacks the blob, and `LookupFailed` when none had it and at least one could not say.

    What a tier returns is kept by every cache *above* it (appended before it) that could not answer.

    Parameters
    ----------
    call_when_uncertain
        Ask paid tiers (API sources) although an earlier tier failed and may hold the blob after all.
        Off by default, so that an outage of a bucket never becomes a bill.
    """

    call_when_uncertain = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, {"_write_to_cache": "override `put` of the cache instead"})

    def __new__(cls, *args: Any, **kwargs: Any) -> Composite:
        """Set up the runtime state: here, because subclasses may not call `__init__`, and unpickling does not."""
        check_options(cls, kwargs)
        self = super().__new__(cls)
        self._chain = ()
        self._current = PerProcess()
        return self

    # Each tier, and the caches that keep what it returns.
    _chain: tuple[tuple[Tier, tuple[Tier, ...]], ...]
    _current: PerProcess[Live]

    def __init__(self, *, call_when_uncertain: bool = False) -> None:
        self.call_when_uncertain = call_when_uncertain

    def append_source(self, source: Store, cache_result: bool | None = None, *, name: str | None = None) -> None:
        """Add a store that is read.

        Parameters
        ----------
        source
            Any store.
        cache_result
            None: every cache appended before this source keeps what it returns. False: none does.
            True: as None, but where no cache was appended before, the last one appended keeps it.
        name
            Name in statistics and errors; default: the store's own label.
        """
        self._append(source, is_cache=False, keep_result=cache_result, name=name)

    append_store = append_source

    def append_cache(self, cache: Store, read: bool = True, *, name: str | None = None) -> None:
        """Add a store that keeps what the tiers appended after it return.

        Parameters
        ----------
        cache
            A store with `put`.
        read
            Whether lookups ask it; False: it is only written.
        name
            Name in statistics and errors; default: the store's own label.
        """
        if getattr(type(cache), "put", Store.put) is Store.put:
            raise TypeError(f"{cache!r} cannot be a cache: {type(cache).__name__} does not implement 'put'")
        self._append(cache, is_cache=True, read=read, name=name)

    def _append(self, store: Store, *, name: str | None, **how: Any) -> None:
        if isinstance(store, type) or not (callable(getattr(store, "get", None)) and hasattr(store, "is_valid")):
            raise TypeError(f"expected a store with 'is_valid' and 'get', got {store!r}")
        name = name or str(getattr(store, "label", type(store).__name__))
        taken = {tier.name for tier in self._tiers}
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        tiers = [*self._tiers, Tier(store, unique, **how)]
        # A new tuple rather than an append: a walk in progress goes on over the chain it began with.
        self._chain = tuple((tier, keepers_of(tiers, tier)) for tier in tiers)

    @property
    def _tiers(self) -> list[Tier]:
        return [tier for tier, _ in self._chain]

    @property
    def sources(self) -> tuple[Store, ...]:
        """The stores that lookups ask, in order; `append_source` and `append_cache` add to them."""
        return tuple(tier.store for tier in self._tiers if tier.read)

    @property
    def cache(self) -> Store | None:
        """The cache appended last, if any."""
        caches = [tier.store for tier in self._tiers if tier.is_cache]
        return caches[-1] if caches else None

    def is_valid(self, uri: Any) -> bool:
        """Whether any tier understands `uri`."""
        return any(tier.store.is_valid(uri) for tier in self._tiers if tier.read)

    def canonical(self, uri: Any) -> Any:
        """`uri` itself: what its spellings are, only the tiers know."""
        self._check_valid(uri)
        return uri

    def get(self, uri: Any, *, timeout: float | None = None) -> bytes:
        """The bytes of `uri` from the first tier that has them; what else a user's store returns passes as it is.

        Parameters
        ----------
        uri
            What to look up.
        timeout
            Seconds for the whole lookup; None: as long as the tiers' own limits allow.

        Raises
        ------
        InvalidURI
            No tier understands `uri`.
        NotFoundInStore
            Every tier that could hold the blob said that it does not.
        LookupFailed
            No tier had it and at least one could not say; `LookupTimedOut` when `timeout` was over.
        """
        data: bytes = run(self._get_steps(uri), timeout=timeout).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether a tier holds `uri`. Paid tiers are not asked, so False means "not to be had for free".

        Raises `InvalidURI` and `LookupFailed` as `get` does.
        """
        return run(self._exists_steps(uri))

    def stats(self) -> dict[str, TierStats]:
        """Counts of each tier in this process, by tier name in lookup order."""
        live = self._live()
        for tier in self._tiers:
            stats = live.stats[tier.name]
            stats.breaker = live.breakers[tier.name].state
            if (tally := getattr(tier.store, "_tally", None)) is not None:
                stats.requests, stats.retries = tally.requests, tally.retries
        return {tier.name: live.stats[tier.name] for tier in self._tiers}

    def _live(self) -> Live:
        # Per process, because after a fork the flights of the parent's threads never land here.
        return self._current.get() or self._current.set_once(Live())

    def _get_steps(self, uri: Any) -> Steps[Found]:
        return self._key_steps(self.canonical(uri))

    def _key_steps(
        self,
        key: Any,
        paid_for: frozenset[str] = frozenset(),
        look: Callable[[Store, Any], Steps[Found]] | None = None,
    ) -> Steps[Found]:
        live = self._live()
        while (flight := live.flights.lead(key)) is not None:
            try:
                yield Wait(flight)
            except Cancelled:
                waited = TimeoutError(
                    "another lookup of this blob was under way, and did not end within the time limit"
                )
                raise LookupTimedOut(self, key, [(self.label, waited)]) from None
            # A leader that was closed or ran out of its caller's time takes nobody with it: one of those
            # that waited fetches anew. What it found, or its error, is the answer for all.
            if (found := flight.result) is not None:
                return found
        outcome: Found | Exception | None = None
        try:
            found = yield from self._walk(key, live, look or live.look, paid_for)
            if not isinstance(found.data, Partial):  # what went to a file is no answer for others
                outcome = found
            return found
        except LookupTimedOut:
            raise
        except Exception as error:
            outcome = error
            raise
        finally:
            live.flights.land(key, outcome)

    def _download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        key = self.canonical(uri)
        led = False

        def bring(store: Store, key: Any) -> Steps[Found]:
            nonlocal led
            led = True
            return self._bring(store, key, partial)

        if not costs(self):
            return (yield from self._walk(key, self._live(), bring))
        # Where it may have to be paid for, one lookup at a time, as in `get`.
        found = yield from self._key_steps(key, look=bring)
        if not led:
            yield from self._bring(_Answer(found), key, partial)  # type: ignore[arg-type]
        return found

    def _bring(self, store: Store, key: Any, partial: Partial) -> Steps[Found]:
        return download_steps(store, key, partial)

    def _walk(
        self,
        key: Any,
        live: Live,
        look: Callable[[Store, Any], Steps[Found]] = get_steps,
        paid_for: frozenset[str] = frozenset(),
    ) -> Steps[Found]:
        # Tuples, because by far the most lookups have nothing to put in: so nothing is made for them.
        failures: tuple[tuple[str, BaseException], ...] = ()
        missing: tuple[str, ...] = ()
        bad: tuple[Tier, ...] = ()
        passing = False  # a failure that may be over by the next try
        for tier, keepers in self._chain:
            if not tier.read:
                continue
            stats = live.stats[tier.name]
            breaker = live.breakers[tier.name]
            ticket: int | None = None
            store = tier.store
            try:
                if not tier.store.is_valid(key):
                    continue
                if tier.name in paid_for:
                    missing += (tier.name,)
                    continue
                if failures and not self.call_when_uncertain and costs(tier.store):
                    part = free_part(tier.store)  # of a composite, what costs nothing is still asked
                    if part is None:
                        stats.count("skipped")
                        failures += ((tier.name, StoreNotAvailable(tier.name, _NOT_ASKED)),)
                        continue
                    store = part
                ticket = breaker.admit()
                if ticket is None:
                    stats.count("failures")
                    failures += ((tier.name, StoreNotAvailable(tier.name, f"{_LEFT_ALONE}: {breaker.reason}")),)
                    passing = True
                    continue
                found = yield from look(store, key)
                if type(found) is not Found and tier.is_cache and self._must_match(tier):
                    raise InvalidDataFound(tier.name, key, "its bytes never matched the digest, and the sources verify")
            except InvalidDataFound as error:
                breaker.succeeded()
                stats.count("invalid")
                if tier.is_cache:  # as good as missing: it can be had below, and is then replaced here
                    stats.count("misses")
                    bad += (tier,)
                    missing += (tier.name,)
                    logger.warning("cache %s: %s; it will be replaced", tier.name, error)
                else:
                    stats.count("failures")
                    failures += ((tier.name, error),)
            except NotFoundInStore:
                breaker.succeeded()
                if store is tier.store:
                    stats.count("misses")
                    missing += (tier.name,)
                else:  # the rest of it may have the blob
                    stats.count("skipped")
                    failures += ((tier.name, StoreNotAvailable(tier.name, _NOT_ASKED)),)
            except Exception as error:  # whatever a user's store raises means that we do not know
                stats.count("failures")
                failures += ((tier.name, error),)
                if isinstance(error, (AccessDenied, LookupFailed)):
                    # A refusal is an answer, and may concern this blob alone. A composite answers for its tiers, each
                    # of which has a breaker there: because of one of them the others must not be left alone.
                    breaker.succeeded()
                elif isinstance(error, LimitReached):
                    if ticket is not None:
                        breaker.abandoned(ticket)  # it was not asked, so nothing is known of it
                elif ticket is not None:
                    breaker.failed(ticket, error)
                    passing = True
            except GeneratorExit:
                if ticket is not None:
                    breaker.abandoned(ticket)
                raise
            except Cancelled:
                if ticket is not None:
                    breaker.abandoned(ticket)
                timeout = (tier.name, TimeoutError("no answer within the time limit of the lookup"))
                raise LookupTimedOut(self, key, [*failures, timeout], missing) from None
            else:
                breaker.succeeded()
                data = found.data
                streamed = isinstance(data, Partial)
                stats.hit(data.size if streamed else len(data) if isinstance(data, bytes) else 0)
                if keepers and not streamed:
                    yield from keep_steps(live, tier, keepers, key, data, bad)
                return found if found.source == tier.name else found._replace(source=tier.name)
        if not failures:
            raise NotFoundInStore(self, key)
        failed = LookupFailed(self, key, failures, missing)
        inner = [error for _, error in failures if isinstance(error, LookupFailed)]
        waits: list[Breaker | LookupFailed] = [*(live.breakers[name] for name, _ in failures), *inner]
        # Where a tier has come back since it failed this lookup, its breaker knows of nothing to wait for.
        soon = PROBE_PAUSE if passing else None
        if not any(error.paid_for for error in inner):  # else each try would be paid for, for nothing
            failed.retry_in = min((pause for each in waits if (pause := each.retry_in) is not None), default=soon)
        failed.down_for = max(each.down_for for each in waits)
        failed.paid_for = frozenset(tier.name for tier in self._tiers if tier.name in missing and costs(tier.store))
        raise failed from failures[-1][1]

    def _must_match(self, tier: Tier) -> bool:
        """Whether bytes in a cache that do not match their digest cannot be right."""
        return False

    def _exists_steps(self, uri: Any) -> Steps[bool]:
        key = self.canonical(uri)
        failures: list[tuple[str, BaseException]] = []
        for tier in self._tiers:
            try:
                if (
                    tier.read
                    and not tier.paid
                    and tier.store.is_valid(key)
                    and (yield from exists_steps(tier.store, key))
                ):
                    return True
            except Exception as error:  # as in _walk
                failures.append((tier.name, error))
        if failures:
            raise LookupFailed(self, key, failures) from failures[-1][1]
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_current"}

    def __repr__(self) -> str:
        chain = ", ".join(f"{'cache ' if tier.is_cache else ''}{tier.store!r}" for tier in self._tiers)
        return f"{type(self).__name__}[{chain}]"


class _Answer:
    """What another lookup has found, as a store."""

    def __init__(self, found: Found) -> None:
        self.label = found.source
        self._data = found.data

    def get(self, uri: Any) -> Any:
        return self._data
