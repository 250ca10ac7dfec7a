"""A composite as other packages see it: without some of its tiers, watched or not, with what others count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bitstore._tiers.chain import Chain, Tier, is_paid

__all__ = ["count_hits", "free_part", "insert_cache", "is_under_way", "is_watched", "without"]


def free_part(store: Any) -> Any | None:
    """The part of `store` that costs nothing; `store` itself if that is all of it; None if nothing is left to ask.

    What the part says is missing may yet be had for money, from `store`.
    """
    return without(store, is_paid, free=True)


def without(store: Any, unwanted: Callable[[Any], bool], *, free: bool = False) -> Any | None:
    """`store` without the tiers whose stores are `unwanted`; itself if none is; None if nothing is left to ask."""
    if unwanted(store):
        return None
    if not isinstance(store, Chain):
        return store

    def change(tier: Tier) -> Tier | None:
        inner = inside[tier]
        return tier if inner is tier.store else None if inner is None else replace(tier, store=inner)

    inside = {tier: without(tier.store, unwanted, free=free) for tier in store.tiers}
    if all(inner is tier.store for tier, inner in inside.items()):
        return store
    left = any(tier.read for tier, inner in inside.items() if inner is not None)
    return store.view(change, free_part=free) if left else None


def is_watched(chain: Chain) -> bool:
    """Whether observers or a callback see the lookups of `chain`."""
    return chain._watch is not None


def count_hits(chain: Chain, tier: str, *, hits: int, size: int, invalid: int) -> None:
    """Count lookups of `chain` that another process has answered from the store of a tier.

    Parameters
    ----------
    tier
        Name of the tier.
    hits, size, invalid
        Blobs found, their bytes, and blobs that did not match.
    """
    chain._live().counts[tier].add(hits=hits, bytes=size, invalid=invalid)


def is_under_way(chain: Chain, key: Any) -> bool:
    """Whether a lookup of `key`, in canonical form, is in progress in `chain` in this process."""
    return key in chain._live().flights


def insert_cache(chain: Chain, above: Tier, store: Any, name: str) -> None:
    """Ask one more tier from the next lookup on, just after `above`: a cache in which lookups keep nothing.

    What it returns is kept by the caches down to `above`. Lookups in progress go on without it.

    Parameters
    ----------
    above
        A tier of `chain`.
    store
        The store of the new tier.
    name
        The name of the new tier; another where the chain has such a tier already.
    """
    taken = {tier.name for tier in chain.tiers}
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name} #{number}"
    position = chain.tiers.index(above) + 1
    keepers = tuple(tier for tier in chain.tiers[:position] if tier.is_cache)
    new = Tier(store, unique, is_cache=True)
    chain._chain = (*chain._chain[:position], (new, keepers), *chain._chain[position:])
