"""The chain of a composite: its tiers in order, which of them keep what another returns, and views of it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from bitstore._limits.budget import Budget
from bitstore._lookup.asking import counts_of, label_of, methods_of
from bitstore._lookup.locating import all_of, steps_of_location
from bitstore._support.fingerprint import set_or_drop
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._tiers.order import LearnedOrder, Order, check_hedge, order_of
from bitstore._tiers.runtime import Live
from bitstore._tiers.stats import Stats
from bitstore.errors import StoreNotAvailable
from bitstore.location import Location
from bitstore.observe._answer import OnAnswer, check_callback
from bitstore.observe._watch import Observer, Watch
from bitstore.outline import Outline, outline_of
from bitstore.steps import Scope, Steps
from bitstore.store import Store

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Chain", "Tier", "costs", "has_index", "is_paid"]


@dataclass(frozen=True, eq=False)
class Tier:
    """One store in a composite, and its role there."""

    store: Store
    # The name in statistics, errors and `Blob.source`; unique in the composite.
    name: str
    # Whether the store is written: a cache keeps what the tiers below it return.
    is_cache: bool
    # Whether lookups ask the store.
    read: bool = True
    # Whether caches keep what the store returns; None: those above it do. True: the last cache does if none is above.
    keep_result: bool | None = None

    @property
    def role(self) -> str:
        """`"source"`, `"cache"`, or `"cache, only written"`."""
        return "source" if not self.is_cache else "cache" if self.read else "cache, only written"

    @property
    def paid(self) -> bool:
        """Whether asking the store costs money or quota. False for a composite, of which only some tiers may."""
        return is_paid(self.store)


class Chain(KeepsPerProcess, Store):
    """What a composite consists of. `bitstore._tiers.composite` says how it is asked."""

    # Whether this is the free part of a composite, of which the rest may be asked for money.
    _is_free_part = False
    # Each tier, and the caches that keep what it returns.
    _chain: tuple[tuple[Tier, tuple[Tier, ...]], ...] = ()
    # Whether a tier has a membership index, so that what it surely lacks is asked for last.
    _indexed = False
    # The configuration that describes the composite: a path, or what errors call it; None: a program made it.
    configured_in: str | None = None
    # What its sources pay from; None: nothing is counted against a budget.
    _budget: Budget | None = None
    # How the order of free sources is learned; None: they are asked in the order in which they were appended.
    _order: LearnedOrder | None = None
    # The largest share of the lookups that are hedged; None: none is.
    _hedge: float | None = None
    # The observers of lookups; None: there are none, which costs nothing.
    _watch: Watch | None = None

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

        Raises
        ------
        TypeError
            `cache` has no `put`.
        ValueError
            `cache.scope` is not one of `"process"`, `"node"` and `"shared"`.
        """
        if getattr(type(cache), "put", Store.put) is Store.put and not methods_of(cache).put_steps:
            raise TypeError(f"{cache!r} cannot be a cache: {type(cache).__name__} does not implement 'put'")
        scope: Any = getattr(cache, "scope", "shared")
        if scope not in get_args(Scope):
            raise ValueError(
                f"{cache!r} cannot be a cache: its attribute 'scope' is {scope!r}, and must say how far its blobs can "
                f"be seen: one of {', '.join(map(repr, get_args(Scope)))}"
            )
        self._append(cache, is_cache=True, read=read, name=name)

    def _append(self, store: Store, *, name: str | None, **how: Any) -> None:
        if isinstance(store, type) or not (callable(getattr(store, "get", None)) and hasattr(store, "is_valid")):
            raise TypeError(f"expected a store with 'is_valid' and 'get', got {store!r}")
        name = name or label_of(store)
        taken = {tier.name for tier in self.tiers}
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        if self._budget is not None:
            pay_from(store, self._budget, unique)
        tiers = [*self.tiers, Tier(store, unique, **how)]
        # A new tuple rather than an append: a walk in progress goes on over the chain it began with.
        self._chain = tuple((tier, _keepers_of(tiers, tier)) for tier in tiers)
        self._indexed = self._indexed or has_index(store)

    @property
    def budget(self) -> Budget | None:
        """The budget that all calls and requests of its tiers are paid from; None: there is none.

        It may be set at any time. It is then the budget of the stores themselves, also where other composites have
        them too. What users' own stores ask of servers by themselves is not counted.

        Raises
        ------
        TypeError
            It is no `Budget`.
        ValueError
            It cannot hold: a paid source has no price, or one in another currency; or a store is not counted at all.
        """
        return self._budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        if budget is not None and not callable(getattr(budget, "till", None)):
            raise TypeError(f"budget={budget!r}: expected a Budget, such as Budget('25 USD')")
        for tier in self.tiers:
            pay_from(tier.store, budget, tier.name)
        before = self._budget
        set_or_drop(self, "_budget", budget)
        if before is not None and before is not budget:
            with contextlib.suppress(StoreNotAvailable):  # what it has set aside counts as spent then
                before.settle()

    @property
    def order(self) -> LearnedOrder | str:
        """How the order of its free sources is learned; `"written"`: they are asked as they were appended.

        It may be set at any time.

        Raises
        ------
        ValueError
            It is neither `"written"` nor `"learned"`, nor a `LearnedOrder`.
        """
        return "written" if self._order is None else self._order

    @order.setter
    def order(self, order: Order) -> None:
        set_or_drop(self, "_order", order_of(order))

    @property
    def hedge(self) -> float | None:
        """The largest share of the lookups in which a slow free source is not waited for; None: it is always.

        It may be set at any time.

        Raises
        ------
        ValueError
            It is no share above 0 and up to 0.5.
        """
        return self._hedge

    @hedge.setter
    def hedge(self, share: float | None) -> None:
        set_or_drop(self, "_hedge", check_hedge(share))

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers in the order in which they were appended, in which lookups ask them unless `order` is learned."""
        return tuple(tier for tier, _ in self._chain)

    def keepers_of(self, tier: Tier) -> tuple[Tier, ...]:
        """The caches that keep what `tier` returns."""
        return next((keepers for each, keepers in self._chain if each is tier), ())

    @property
    def sources(self) -> tuple[Store, ...]:
        """The stores that lookups ask, in order; `append_source` and `append_cache` add to them."""
        return tuple(tier.store for tier in self.tiers if tier.read)

    @property
    def cache(self) -> Store | None:
        """The cache appended last, if any."""
        caches = [tier.store for tier in self.tiers if tier.is_cache]
        return caches[-1] if caches else None

    def view(
        self,
        change: Callable[[Tier], Tier | None],
        *,
        keep: bool = True,
        own_stats: bool = False,
        free_part: bool = False,
    ) -> Self:
        """A composite with the same options and other tiers, which shares its circuit breakers with this one.

        Lookups in progress are not shared: the two may give different answers.

        Parameters
        ----------
        change
            For each tier the one that takes its place (`dataclasses.replace(tier, store=...)`), or None to leave it
            out. Changed caches keep what the original ones kept.
        keep
            Whether the caches are written.
        own_stats
            Whether the view counts for itself; else both count in the same statistics.
        free_part
            Whether what is left out costs money: then a key that no tier of the view takes is missing for free.
        """
        changed = {tier: replacement for tier in self.tiers if (replacement := change(tier)) is not None}
        part = copy.copy(self)
        part._chain = tuple(
            (changed[tier], tuple(changed[keeper] for keeper in keepers if keeper in changed) if keep else ())
            for tier, keepers in self._chain
            if tier in changed
        )
        part._indexed = any(has_index(tier.store) for tier in part.tiers)
        part._is_free_part = free_part or self._is_free_part
        part._live().share(self._live(), own_stats=own_stats)
        return part

    def locate_steps(self, uri: Any, paid: bool = False) -> Steps[list[Location]]:
        key = self.canonical(uri)
        return (
            yield from all_of(
                {tier.name: steps_of_location(tier.store, tier.name, key, paid=paid) for tier in self.tiers}
            )
        )

    def stats(self) -> Stats:
        """Counts of each tier in this process as they are now, by tier name in lookup order.

        The result is a dict; `as_frame()` and `prometheus()` make a table and a text of it.
        """
        live = self._live()
        return Stats(
            {
                tier.name: live.counts[tier.name].now(live.breakers[tier.name].state, counts_of(tier.store))
                for tier in self.tiers
            }
        )

    @property
    def on_answer(self) -> OnAnswer | None:
        """What is called with an `Answer` whenever a tier has answered a lookup. May be set at any time; None: nothing.

        It is called in the thread that performs the lookup, which for batches is the transfer thread: so it should be
        quick, and must not look up blobs itself. What it raises is logged, and ends no lookup.
        """
        return None if self._watch is None else self._watch.on_answer

    @on_answer.setter
    def on_answer(self, function: OnAnswer | None) -> None:
        self._observe(check_callback(function), None if self._watch is None else self._watch.observer)

    def observe_with(self, observer: Observer | None) -> None:
        """Let `observer` see the lookups; None: end that. `bitstore.observe.otel` calls this."""
        before = None if self._watch is None else self._watch.observer
        if before is not None:
            before.stop(self)
        self._observe(self.on_answer, observer)
        if observer is not None:
            observer.watch(self)

    def _observe(self, on_answer: OnAnswer | None, observer: Observer | None) -> None:
        # A new object rather than a change: a lookup in progress goes on with the one it began with.
        self._watch = None if on_answer is None and observer is None else Watch(on_answer, observer)

    def outline(self) -> Outline:
        """The tiers in their order: what keeps what, which are paid, and how they fare in this process."""
        counts = self.stats()
        parts = []
        for tier in self.tiers:
            inner, stats = outline_of(tier.store), counts[tier.name]
            kept = [] if tier.is_cache else [keeper.name for keeper in self.keepers_of(tier)]
            facts: dict[str, Any] = {**inner.facts}
            if not tier.is_cache:
                facts["kept by"] = ", ".join(kept) or "no cache"
            facts["breaker"] = stats.breaker
            parts.append(replace(inner, title=tier.name, role=tier.role, facts=facts))
        own: dict[str, Any] = {} if self.configured_in is None else {"configured in": self.configured_in}
        own |= {"algorithm": self.algorithm} if isinstance(getattr(self, "algorithm", None), str) else {}  # type: ignore[attr-defined]
        own |= {name: True for name in ("call_when_uncertain", "pay_unkept") if getattr(self, name, False)}
        kind = type(self).__name__
        return Outline(kind, kind, facts=own, parts=tuple(parts))

    def _live(self) -> Live:
        # Per process, because after a fork the flights of the parent's threads never land here.
        # Made at first use, because subclasses may not call `__init__`.
        current: PerProcess[Live] = self.__dict__.get("_current") or self.__dict__.setdefault("_current", PerProcess())
        return current.get() or current.set_once(Live())

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_current"}

    def __repr__(self) -> str:
        chain = ", ".join(f"{'cache ' if tier.is_cache else ''}{tier.store!r}" for tier in self.tiers)
        return f"{type(self).__name__}[{chain}]"


def pay_from(store: Any, budget: Budget | None, name: str) -> None:
    """Let `store` pay from `budget` as the tier `name`. Raises ValueError where a paid store cannot be counted."""
    if isinstance(store, Chain):
        for tier in store.tiers:
            pay_from(tier.store, budget, f"{name}/{tier.name}")
        set_or_drop(store, "_budget", budget)
    elif hasattr(store, "pay_from"):
        store.pay_from(budget, name)
    elif (below := getattr(store, "base_store", None) or getattr(store, "raw", None)) is not None:
        pay_from(below, budget, name)
        # A ledger of misses that nodes share is read and written by requests as well.
        share = getattr(getattr(store, "ledger", None), "share", None)
        if share is not None:
            pay_from(share.raw, budget, f"{name}/misses")
    elif budget is not None and is_paid(store):
        raise ValueError(f"{name} costs money or quota, and only calls of API sources (Sha1APISource) can be counted")


def is_paid(store: Any) -> bool:
    """Whether asking `store`, or the store below it, costs money or quota. False for a composite."""
    below = getattr(store, "base_store", None)
    return bool(getattr(store, "paid", False)) or (below is not None and costs(below))


def costs(store: Any) -> bool:
    """Whether `store`, or a tier of it, costs money or quota."""
    return is_paid(store) or (isinstance(store, Chain) and any(costs(tier.store) for tier in store.tiers))


def has_index(store: Any) -> bool:
    """Whether `store` has a membership index (`bitstore.index`)."""
    return getattr(store, "denial", None) is not None and getattr(store, "index", None) is not None


def _keepers_of(tiers: list[Tier], origin: Tier) -> tuple[Tier, ...]:
    """The caches that keep what `origin` returned: those above it."""
    if origin.keep_result is False:
        return ()
    above = [tier for tier in tiers[: tiers.index(origin)] if tier.is_cache]
    if not above and origin.keep_result:
        above = [tier for tier in tiers if tier.is_cache][-1:]
    return tuple(tier for tier in above if tier.store is not origin.store)
