"""What the lookups of one batch by the express lane have in common.

It is looked at once a millisecond and not for each lookup. Tiers, order and observers of the composite that are changed
while a batch runs are seen by the next lookup. The level of the logger and options of the raw stores act a millisecond
later on that batch, as if its lookups had begun before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from bitstore._tiers.plain import Plan, Way, plan_of
from bitstore._tiers.runtime import Live
from bitstore.steps import Request

__all__ = ["Lane"]

logger = logging.getLogger("bitstore")

_FRESH = 0.001  # seconds

_Maker = Callable[[str], "Request | None"]


class _Glance(NamedTuple):
    """What holds at one moment, in one object that threads replace at once."""

    until: float  # seconds on the clock of pauses
    settings: tuple[Any, Any, Any]  # the chain, order and watch of the composite that it was made of
    live: Live
    plan: Plan | None  # None: each lookup has a plan of its own, as the order of the tiers is learned
    is_open: bool  # whether lookups may take the lane at all
    makers: dict[str, _Maker | None]  # by tier, as far as they were asked for: see `DigestStore.first_requests`


class Lane:
    """The express lane of one batch."""

    __slots__ = ("_latest", "composite")

    def __init__(self, composite: Any) -> None:
        self.composite = composite
        self._latest: _Glance | None = None

    def glance(self, now: float) -> _Glance:
        """What holds `now`, in seconds on the clock of pauses."""
        composite, latest = self.composite, self._latest
        if latest is not None and now < latest.until:
            chain, order, watch = latest.settings
            if composite._chain is chain and composite._order is order and composite._watch is watch:
                return latest
        settings = composite._chain, composite._order, composite._watch
        live = composite._live()
        plan = plan_of(composite, live) if settings[1] is None else None
        is_open = settings[2] is None and not logger.isEnabledFor(logging.DEBUG)
        latest = self._latest = _Glance(now + _FRESH, settings, live, plan, is_open, {})
        return latest

    def request(self, way: Way, key: str, now: float) -> Request | None:
        """The request to a plain tier; None: it cannot be asked so now."""
        makers = self.glance(now).makers
        try:
            if way.name in makers:
                maker = makers[way.name]
            else:
                maker = makers[way.name] = way.store.first_requests() if way.raw is way.store.base_store else None
            return None if maker is None else maker(key)
        except Exception:  # the steps meet the same error, and know what it means
            return None
