"""What one tier costs: from the lookups that ask it to requests, bytes, money and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bitstore._money.amount import money_of, units_of
from bitstore._money.price import Price
from bitstore._planning.gathering import Gathered
from bitstore._planning.interval import NONE, Interval, exactly, of_mean
from bitstore._planning.plan import MoneyRange, PlannedTier
from bitstore._planning.route import Part
from bitstore._raw.parts import PART_BYTES
from bitstore._raw.wire import WireStore
from bitstore._tiers.chain import costs

__all__ = ["TierCost", "total_money"]

_SPANS = {"per_second": 1.0, "per_minute": 60.0, "per_day": 86400.0}


class TierCost:
    """What one tier costs.

    Parameters
    ----------
    part
        The tier.
    asked, hits
        Lookups that ask it, and those of them that it answers with the blob.
    written
        Blobs that it keeps, as a cache.
    sizes
        Bytes of some blobs, as they are stored; none where no size is known.
    places, raw
        Of a tier whose blobs are parts of objects: what it takes to read them, and the store that does.
    """

    def __init__(
        self,
        part: Part,
        asked: Interval,
        hits: Interval,
        written: Interval,
        sizes: Sequence[int],
        places: Gathered | None = None,
        raw: Any = None,
    ) -> None:
        self._part = part
        self._asked, self._hits, self._written = asked, hits, written
        self._paid = costs(part.store)
        below = part.store
        while (base := getattr(below, "base_store", None)) is not None:
            below = base
        in_parts = hasattr(part.store, "place_steps")
        if in_parts:
            below = raw if raw is not None else getattr(part.store, "raw", None)
        self._below: Any = below
        self._wire: WireStore[Any] | None = below if isinstance(below, WireStore) else None
        self._price: Price | None = (
            self._wire.known_price() if self._wire is not None else getattr(below, "price", None)
        )
        nothing = hits.high == 0 or part.is_local
        self._bytes = NONE if nothing else hits.times(of_mean(sizes)) if sizes else None
        more = [self._more_requests(size) for size in sizes]
        self._reads = NONE
        if self._wire is not None:
            self._reads = asked.plus(hits.times(exactly(sum(more) / len(more)))) if more else asked
        self._scattered = in_parts and raw is None and places is not None and places.requests.high > 0
        self._misses_asked = not in_parts  # else the table answers, without a request
        if in_parts and places is not None and not nothing:
            share = hits.times(exactly(1 / places.blobs))
            self._bytes = None if places.bytes is None else share.times(places.bytes)
            self._reads = share.times(places.requests)
        elif in_parts:  # nothing is known but by rates
            self._reads = NONE if self._wire is None else hits
        pack_size = getattr(part.store, "pack_size", None)
        self._writes = NONE if self._wire is None else written
        if pack_size and self._wire is not None:  # a pack, and its index
            mean = of_mean(sizes) if sizes else Interval(0.0, pack_size, pack_size)
            self._writes = Interval(*(2.0 * math.ceil(each / pack_size) for each in written.times(mean)))

    def _more_requests(self, size: int) -> int:
        """How many requests a blob of this size takes besides the first."""
        first, splits = self._wire.splits_at() if self._wire is not None else (0, False)
        return -(-size // PART_BYTES) if splits and size > first else 0

    def planned(self, basis: str) -> PlannedTier:
        """The numbers of the tier."""
        role = "paid source" if self._paid and not self._part.tier.is_cache else self._part.tier.role
        return PlannedTier(
            name=self._part.name,
            role=role,
            asked=self._asked,
            hits=self._hits,
            calls=self._asked if self._paid else NONE,
            requests=self._reads.plus(self._writes),
            bytes=self._bytes,
            money=self._money(),
            basis=basis,
        )

    def _money(self) -> MoneyRange | None:
        price = self._price
        if price is None or price.currency is None:
            return None
        currency = price.currency
        if self._paid:
            units = self._asked.times(exactly(price.call().units))
        else:
            billed = self._reads
            if not price.misses_billed and self._misses_asked:  # what is there is billed, with its further requests
                billed = Interval(*(max(0.0, reads - (asked - hits)) for reads, asked, hits in self._triples()))
            units = billed.times(exactly(price.read(0).units))
            units = units.plus(self._writes.times(exactly(price.write(0).units)))
            if self._bytes is not None:
                a_gib = price.bytes_units(1 << 30)
                units = units.plus(self._bytes.times(exactly(a_gib / (1 << 30))))
        return MoneyRange(*(money_of(round(value), currency) for value in units))

    def _triples(self) -> list[tuple[float, float, float]]:
        return list(zip(self._reads, self._asked, self._hits, strict=True))

    def seconds(self) -> Interval:
        """Seconds that the limits of the tier make the job take at the least."""
        limit = getattr(self._below, "limit", None)
        terms = getattr(limit, "terms", None)
        spans = [
            span / most for name, span in _SPANS.items() if terms is not None and (most := getattr(terms, name, None))
        ]
        if spans:
            return self._asked.times(exactly(max(spans)))
        rate = getattr(limit, "per_second", None)
        return self._reads.plus(self._writes).times(exactly(1 / rate)) if rate else NONE

    def notes(self) -> list[str]:
        """What speaks against the job, or is not in the numbers."""
        told = []
        terms = getattr(getattr(self._below, "limit", None), "terms", None)
        most = getattr(terms, "budget", None)
        if most is not None and self._asked.expected > most:
            told.append(
                f"{self._part.name} needs about {self._asked.expected:,.0f} calls, and its limit allows {most:,}"
            )
        if self._paid and self._price is None and self._asked.high:
            told.append(f"{self._part.name} costs money or quota, and has no price")
        if self._scattered:
            told.append(f"{self._part.name} has blobs at several services, and their prices are not in the money")
        if self._price is not None and self._price.dated is not None:
            told.append(
                f"{self._part.name} has list prices as noted on {self._price.dated}: compare {self._price.source}"
            )
        if self._bytes is None and self._price is not None and units_of(self._price.egress_per_gb):
            told.append(f"{self._part.name}: no size is known, so that its bytes are not in the money")
        return told


def total_money(amounts: Sequence[MoneyRange | None]) -> MoneyRange | None:
    """The sum of what is known; None: nothing is, or it is in several currencies."""
    known = [amount for amount in amounts if amount is not None]
    if not known or len({amount.expected.currency for amount in known}) > 1:
        return None
    total = known[0]
    for amount in known[1:]:
        total = MoneyRange(*(one + other for one, other in zip(total, amount, strict=True)))
    return total
