"""The composite: an ordered chain of sources and caches, itself a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bitstore._lookup.asking import steps_of_exists, steps_of_get
from bitstore._lookup.download import steps_of_download
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._support.checks import ChecksOptions
from bitstore._support.compat import warn_of_unused
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.question import Question, Said
from bitstore._tiers.runtime import Live
from bitstore._tiers.stats import TierStats
from bitstore._tiers.tier import Tier, costs, keepers_of
from bitstore._tiers.views import free_part
from bitstore.errors import InvalidDataFound, LookupFailed, LookupTimedOut, NotFoundInStore
from bitstore.steps import Cancelled, Found, Steps, Wait
from bitstore.store import Store

if TYPE_CHECKING:
    pass

__all__ = ["Composite"]


class Composite(ChecksOptions, KeepsPerProcess, Store):
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

    # Each tier, and the caches that keep what it returns.
    _chain: tuple[tuple[Tier, tuple[Tier, ...]], ...] = ()

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
        data: bytes = run(self.get_steps(uri), timeout=timeout).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether a tier holds `uri`. Paid tiers are not asked, so False means "not to be had for free".

        Raises `InvalidURI` and `LookupFailed` as `get` does.
        """
        return run(self.exists_steps(uri))

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
        # Made at first use, because subclasses may not call `__init__`.
        current: PerProcess[Live] = self.__dict__.get("_current") or self.__dict__.setdefault("_current", PerProcess())
        return current.get() or current.set_once(Live())

    def get_steps(self, uri: Any) -> Steps[Found]:
        return self.key_steps(self.canonical(uri))

    def key_steps(
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

    def download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        key = self.canonical(uri)
        led = False

        def bring(store: Store, key: Any) -> Steps[Found]:
            nonlocal led
            led = True
            return self._bring(store, key, partial)

        if not costs(self):
            return (yield from self._walk(key, self._live(), bring))
        # Where it may have to be paid for, one lookup at a time, as in `get`.
        found = yield from self.key_steps(key, look=bring)
        if not led:
            yield from self._bring(_Answer(found), key, partial)  # type: ignore[arg-type]
        return found

    def _bring(self, store: Store, key: Any, partial: Partial) -> Steps[Found]:
        return steps_of_download(store, key, partial)

    def _walk(
        self,
        key: Any,
        live: Live,
        look: Callable[[Store, Any], Steps[Found]] = steps_of_get,
        paid_for: frozenset[str] = frozenset(),
    ) -> Steps[Found]:
        """Ask tier after tier; the first that has the blob ends it. What the others said becomes the error."""
        said = Said(self, key)
        for tier, keepers in self._chain:
            if not tier.read:
                continue
            question = Question(tier, live, said)
            try:
                store = self._store_to_ask(question, key, paid_for)
                if store is None:
                    continue
                found = yield from look(store, key)
                if type(found) is not Found and tier.is_cache and self._must_match(tier):
                    raise InvalidDataFound(tier.name, key, "its bytes never matched the digest, and the sources verify")
            except InvalidDataFound as error:
                question.answered_wrong(error)
            except NotFoundInStore:
                question.answered_no(all_of_it=store is tier.store)
            except Exception as error:  # whatever a user's store raises means that we do not know
                question.failed(error)
            except GeneratorExit:
                question.abandon()
                raise
            except Cancelled:
                question.abandon()
                raise said.timed_out(tier) from None
            else:
                question.answered(found)
                if keepers and not isinstance(found.data, Partial):
                    yield from keep_steps(live, tier, keepers, key, found.data, said.bad)
                return found if found.source == tier.name else found._replace(source=tier.name)
        raise said.error(live, self._tiers)

    def _store_to_ask(self, question: Question, key: Any, paid_for: frozenset[str]) -> Store | None:
        """The tier's store, or what may be asked of it now; None: nothing, and `question` knows why."""
        tier, said = question.tier, question.said
        if not tier.store.is_valid(key):
            return None
        if tier.name in paid_for:
            said.missing += (tier.name,)
            return None
        store: Store | None = tier.store
        if said.failures and not self.call_when_uncertain and costs(tier.store):
            store = free_part(tier.store)  # of a composite, what costs nothing is still asked
            if store is None:
                question.skip()
                return None
        return store if question.admitted() else None

    def _must_match(self, tier: Tier) -> bool:
        """Whether bytes in a cache that do not match their digest cannot be right."""
        return False

    def exists_steps(self, uri: Any) -> Steps[bool]:
        key = self.canonical(uri)
        failures: list[tuple[str, BaseException]] = []
        for tier in self._tiers:
            try:
                if (
                    tier.read
                    and not tier.paid
                    and tier.store.is_valid(key)
                    and (yield from steps_of_exists(tier.store, key))
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
