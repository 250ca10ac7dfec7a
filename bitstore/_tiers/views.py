"""A store without some of its tiers, such as those that cost money."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bitstore._tiers.tier import Tier, is_paid

__all__ = ["free_part", "without"]


def free_part(store: Any) -> Any | None:
    """The part of `store` that costs nothing; `store` itself if that is all of it; None if nothing is left.

    What the part says is missing may yet be had for money, from `store`. Both count in the same statistics and share
    their circuit breakers, but not their lookups in progress: one that pays and one that does not give different
    answers.
    """
    return without(store, is_paid)


def without(store: Any, unwanted: Callable[[Any], bool]) -> Any | None:
    """`store` without the tiers whose stores are `unwanted`; itself if none is; None if nothing is left."""
    if unwanted(store):
        return None
    if not hasattr(store, "_tiers"):
        return store
    kept: dict[Tier, Tier] = {}
    for tier in store._tiers:
        inner = without(tier.store, unwanted)
        if inner is not None:
            kept[tier] = tier if inner is tier.store else replace(tier, store=inner)
    if all(kept.get(tier) is tier for tier in store._tiers):
        return store
    if not kept:
        return None
    part = copy.copy(store)  # it has no lookups in progress
    part._chain = tuple(
        (kept[tier], tuple(kept[keeper] for keeper in keepers if keeper in kept))
        for tier, keepers in store._chain
        if tier in kept
    )
    whole = store._live()
    part._live().stats, part._live().breakers = whole.stats, whole.breakers
    return part
