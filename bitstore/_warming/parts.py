"""Which tiers of a store a warming fills, and the parts of it that move no more bytes than needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeAlias

from bitstore._lookup.asking import scope_of, steps_of_exists
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._tiers.chain import Tier
from bitstore._tiers.composite import Composite
from bitstore.errors import NotFoundInStore
from bitstore.steps import Found, Scope, Steps
from bitstore.store import Store

__all__ = ["Target", "There", "check_target", "dry_part", "filled", "keepers", "lean_part"]

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


# The scopes of the caches that a target means.
_SCOPES: dict[Target, frozenset[Scope]] = {
    "here": frozenset(("node", "shared")),
    "shared": frozenset(("shared",)),
    "owner": frozenset(("node",)),
    "local": frozenset(("node",)),
}
_CALLED: dict[Target, str] = {
    "here": "cache that outlives this process",
    "shared": "cache that all nodes share",
    "owner": "cache of a node (such as DiskCache)",
    "local": "cache of a node (such as DiskCache)",
}


def filled(store: Composite, target: Target) -> dict[str, Store]:
    """The caches that `target` means, by their names."""
    scopes = _SCOPES[target]
    return {tier.name: tier.store for tier in store.tiers if tier.is_cache and scope_of(tier.store) in scopes}


def keepers(store: Composite, names: set[str]) -> dict[str, tuple[str, ...]]:
    """For each tier those of the caches called `names` that keep what it returns."""
    return {
        tier.name: tuple(keeper.name for keeper in store.keepers_of(tier) if keeper.name in names)
        for tier in store.tiers
    }


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
    if target not in _SCOPES:
        raise ValueError(f"target={target!r}: choose one of {', '.join(map(repr, _SCOPES))}")
    algorithm = ALGORITHMS.get(getattr(store, "algorithm", ""))
    if not isinstance(store, Composite) or algorithm is None:
        raise TypeError(f"only a composite of digests (such as Sha1Composite) has caches to be warmed, not {store!r}")
    if not filled(store, target):
        names = ", ".join(tier.name for tier in store.tiers) or "no tiers"
        if target == "here":
            raise ValueError(
                f"there is nothing to fill: the store has no {_CALLED[target]} (it has: {names}); "
                "put a disk cache above its sources (--cache DIR at the command line)"
            )
        raise ValueError(f"target={target!r} fills each {_CALLED[target]}, and the store has none (it has: {names})")
    needed: Target = "shared" if target in ("shared", "local") else "here"
    for tier in store.tiers:
        if tier.paid and not any(scope_of(keeper.store) in _SCOPES[needed] for keeper in store.keepers_of(tier)):
            what = _CALLED[needed]
            raise ValueError(f"target={target!r}: '{tier.name}' costs money, and no {what} keeps what it returns")
    return algorithm


def lean_part(store: Composite) -> Composite:
    """`store`, asked only whether it has a blob, where no cache would keep it."""

    def lean(tier: Tier) -> Tier:
        # What a composite says exists leaves out what it would pay for: that one is asked for the blob.
        if store.keepers_of(tier) or tier.paid or isinstance(tier.store, Composite):
            return tier
        return replace(tier, store=_Presence(tier.store))

    return store.view(lean)


def dry_part(store: Composite) -> Composite:
    """`store`, asked only whether it has a blob, at no price; a paid tier is taken to have what all above it lack."""

    def dry(tier: Tier) -> Tier:
        if isinstance(tier.store, Composite) and not tier.paid:  # it may have paid tiers of its own
            return replace(tier, store=dry_part(tier.store))
        return replace(tier, store=_Unasked(tier.store) if tier.paid else _Presence(tier.store))

    return store.view(dry, keep=False, own_stats=True)
