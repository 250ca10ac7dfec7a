"""The tiers of a composite, and which of them keep what another returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bitstore.store import Store

__all__ = ["Tier", "costs", "is_paid", "keepers_of"]


@dataclass(frozen=True, eq=False)
class Tier:
    """One store in a composite.

    Attributes
    ----------
    store
        The store itself.
    name
        Its name in statistics, errors and `Blob.source`; unique in the composite.
    is_cache
        Whether it is written: it keeps what the tiers below it return.
    read
        Whether lookups ask it.
    keep_result
        Whether caches keep what it returns; None: those above it do.
    """

    store: Store
    name: str
    is_cache: bool
    read: bool = True
    keep_result: bool | None = None

    @property
    def paid(self) -> bool:
        """Whether asking it costs money or quota (of a composite: tiers of it may)."""
        return is_paid(self.store)


def is_paid(store: Any) -> bool:
    """Whether asking `store` costs money or quota, be it that of the store below it. A composite as such does not."""
    below = getattr(store, "base_store", None)
    return bool(getattr(store, "paid", False)) or (below is not None and costs(below))


def costs(store: Any) -> bool:
    """Whether `store`, or a tier of it, costs money or quota."""
    return is_paid(store) or any(costs(tier.store) for tier, _ in getattr(store, "_chain", ()))


def keepers_of(tiers: list[Tier], origin: Tier) -> tuple[Tier, ...]:
    """The caches that keep what `origin` returned: those above it."""
    if origin.keep_result is False:
        return ()
    above = [tier for tier in tiers[: tiers.index(origin)] if tier.is_cache]
    if not above and origin.keep_result:
        above = [tier for tier in tiers if tier.is_cache][-1:]
    return tuple(tier for tier in above if tier.store is not origin.store)
