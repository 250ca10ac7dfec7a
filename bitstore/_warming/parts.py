"""Which tiers of a store a warming fills, and the parts of it that move no more bytes than needed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from bitstore._caches.disk import DiskCache
from bitstore._caches.memory import MemoryCache
from bitstore._lookup.asking import steps_of_exists
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._tiers.composite import Composite
from bitstore._tiers.tier import Tier
from bitstore.errors import NotFoundInStore
from bitstore.steps import Found, Steps
from bitstore.store import Store

__all__ = ["Target", "There", "check_target", "dry_part", "filled", "is_lasting", "is_shared", "keepers", "lean_part"]

Target: TypeAlias = Literal["here", "shared", "owner", "local"]


class There:
    """Stands for bytes that were left where they are."""


class _Presence(Store):
    """A store that is asked whether it has a blob, and not for it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.paid = False

    def is_valid(self, uri: Any) -> bool:
        return bool(self._store.is_valid(uri))

    def get(self, uri: Any) -> Any:
        raise NotImplementedError("it is looked up by its steps")

    def get_steps(self, uri: Any) -> Steps[Found]:
        if not (yield from steps_of_exists(self._store, uri)):
            raise NotFoundInStore(self._store, uri)
        return Found(There(), self.label)


class _Unasked(_Presence):
    """A paid store, which is taken to have what all others lack."""

    def get_steps(self, uri: Any) -> Steps[Found]:
        yield from ()
        return Found(There(), self.label)


def is_shared(cache: Any) -> bool:
    """Whether all nodes see the same of it."""
    return not isinstance(cache, (DiskCache, MemoryCache))


def is_lasting(cache: Any) -> bool:
    """Whether it outlives the process that fills it."""
    return not isinstance(cache, MemoryCache)


_FILLED: dict[Target, Callable[[Any], bool]] = {
    "here": is_lasting,
    "shared": is_shared,
    "owner": lambda cache: isinstance(cache, DiskCache),
    "local": lambda cache: isinstance(cache, DiskCache),
}
_CALLED: dict[Target, str] = {
    "here": "cache that outlives this process",
    "shared": "cache that all nodes share",
    "owner": "DiskCache",
    "local": "DiskCache",
}


def filled(store: Composite, target: Target) -> dict[str, Store]:
    """The caches that `target` means, by their names."""
    return {tier.name: tier.store for tier in store._tiers if tier.is_cache and _FILLED[target](tier.store)}


def keepers(store: Composite, names: set[str]) -> dict[str, tuple[str, ...]]:
    """For each tier those of the caches called `names` that keep what it returns."""
    return {tier.name: tuple(keeper.name for keeper in above if keeper.name in names) for tier, above in store._chain}


def check_target(store: Any, target: Target) -> Algorithm:
    """The digests' algorithm of a store that can be warmed.

    Raises
    ------
    TypeError
        The store is no composite of digests.
    ValueError
        It has no cache of the kind that `target` means; or what a paid tier returns would be paid for in vain, or more
        than once.
    """
    if target not in _FILLED:
        raise ValueError(f"target={target!r}: choose one of {', '.join(map(repr, _FILLED))}")
    algorithm = ALGORITHMS.get(getattr(store, "algorithm", ""))
    if not isinstance(store, Composite) or algorithm is None:
        raise TypeError(f"only a composite of digests (such as Sha1Composite) has caches to be warmed, not {store!r}")
    if not filled(store, target):
        names = ", ".join(tier.name for tier in store._tiers) or "no tiers"
        if target == "here":
            raise ValueError(
                f"there is nothing to fill: the store has no {_CALLED[target]} (it has: {names}); "
                "put a disk cache above its sources (--cache DIR at the command line)"
            )
        raise ValueError(f"target={target!r} fills each {_CALLED[target]}, and the store has none (it has: {names})")
    needed = is_shared if target in ("shared", "local") else is_lasting
    for tier, above in store._chain:
        if tier.paid and not any(needed(keeper.store) for keeper in above):
            what = _CALLED["shared" if needed is is_shared else "here"]
            raise ValueError(f"target={target!r}: '{tier.name}' costs money, and no {what} keeps what it returns")
    return algorithm


def lean_part(store: Composite) -> Composite:
    """`store`, asked only whether it has a blob, where no cache would keep it."""

    def lean(tier: Tier, above: tuple[Tier, ...]) -> tuple[Tier, tuple[Tier, ...]]:
        # What a composite says exists leaves out what it would pay for: that one is asked for the blob.
        if above or tier.paid or isinstance(tier.store, Composite):
            return tier, above
        return replace(tier, store=_Presence(tier.store)), above

    part = _changed(store, lean)
    part._live().stats = store._live().stats
    return part


def dry_part(store: Composite) -> Composite:
    """`store`, asked only whether it has a blob, at no price; a paid tier is taken to have what all above it lack."""

    def dry(tier: Tier, above: tuple[Tier, ...]) -> tuple[Tier, tuple[Tier, ...]]:
        if isinstance(tier.store, Composite) and not tier.paid:  # it may have paid tiers of its own
            return replace(tier, store=dry_part(tier.store)), ()
        return replace(tier, store=_Unasked(tier.store) if tier.paid else _Presence(tier.store)), ()

    return _changed(store, dry)


def _changed(store: Composite, change: Callable[[Tier, tuple[Tier, ...]], tuple[Tier, tuple[Tier, ...]]]) -> Composite:
    part = copy.copy(store)  # it has no lookups in progress, and statistics of its own
    part._chain = tuple(change(tier, above) for tier, above in store._chain)
    part._live().breakers = store._live().breakers
    return part
