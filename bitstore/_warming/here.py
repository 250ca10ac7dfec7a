"""Warming from one process, without a cluster."""

from __future__ import annotations

from functools import partial

from bitstore._tiers.composite import Composite
from bitstore._warming.keeping import keep, keep_dry
from bitstore._warming.run import Fill

__all__ = ["fill_here"]


def fill_here(store: Composite, *, dry_run: bool, timeout: float | None, in_flight: int | None) -> Fill:
    """What fills all lasting caches of `store` from this process."""
    return partial(keep_dry if dry_run else keep, store, target="here", timeout=timeout, in_flight=in_flight)
