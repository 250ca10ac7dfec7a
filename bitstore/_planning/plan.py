"""What a job will come to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bitstore._money.money import Money
from bitstore._planning.interval import Interval
from bitstore._support.sizes import rounded_size

if TYPE_CHECKING:
    from bitstore._limits.budget import Spent
    from bitstore._tiers.stats import TierStats

__all__ = ["Beside", "MoneyRange", "Plan", "PlannedTier"]


class MoneyRange(NamedTuple):
    """Money between two bounds.

    Attributes
    ----------
    low, expected, high
        The least, what is most likely, and the most.
    """

    low: Money
    expected: Money
    high: Money

    def __str__(self) -> str:
        if self.low == self.high:
            return self.expected.rounded()
        numbers = [each.rounded().rpartition(" ")[0] for each in (self.low, self.high)]
        return f"{self.expected.rounded()} ({numbers[0]} to {numbers[1]})"


@dataclass(frozen=True, kw_only=True)
class PlannedTier:
    """What a job will come to at one tier.

    Attributes
    ----------
    name
        Name of the tier; of a composite within the composite: `"outer/inner"`.
    role
        `"source"`, `"paid source"`, `"cache"`, or `"cache, only written"`.
    asked
        Lookups that ask the tier, by a request, a call or a look at the disk.
    hits
        Blobs that it has, of those.
    calls
        Calls of a paid source; 0 for others.
    requests
        HTTP requests, with those that write what the cache keeps, and without tries again.
    bytes
        Bytes that come from there, as they are stored; None: no size is known.
    money
        What it costs; None: there is no price.
    basis
        How it is known, in words.
    """

    name: str
    role: str
    asked: Interval
    hits: Interval
    calls: Interval
    requests: Interval
    bytes: Interval | None
    money: MoneyRange | None
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """The values by name; intervals as lists of three numbers, money as texts."""
        return {
            "name": self.name,
            "role": self.role,
            **{key: list(getattr(self, key)) for key in ("asked", "hits", "calls", "requests")},
            "bytes": None if self.bytes is None else list(self.bytes),
            **_money_keys(self.money),
            "basis": self.basis,
        }


class Beside(NamedTuple):
    """What was planned for one tier, beside what it came to.

    Attributes
    ----------
    tier
        Name of the tier.
    what
        `"hits"`, `"calls"`, `"requests"`, `"bytes"` or `"money"`.
    planned
        The expected number; of money the amount.
    fact
        What it came to.
    """

    tier: str
    what: str
    planned: float
    fact: float

    @property
    def off(self) -> float | None:
        """By what part of the fact the plan is off; None: the fact is 0."""
        return None if not self.fact else (self.planned - self.fact) / self.fact


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What looking up a list of digests will come to.

    Attributes
    ----------
    digests
        Different digests.
    invalid
        Entries that are no digests.
    sampled
        Digests that were looked for in free tiers.
    tiers
        What it comes to at each tier, in the order in which lookups ask them.
    missing
        Digests that no tier has.
    bytes
        Of all tiers; None: no size is known.
    money
        Of all tiers; None: nothing has a price.
    notes
        What the numbers rest on, and what speaks against the job.
    """

    digests: int
    invalid: int
    sampled: int
    tiers: tuple[PlannedTier, ...]
    missing: Interval
    bytes: Interval | None
    money: MoneyRange | None
    notes: tuple[str, ...]
    # Seconds that limits of tiers (calls a minute, requests a second) make the job take at the least.
    limited_to: Interval

    @property
    def requests(self) -> Interval:
        """HTTP requests to all tiers."""
        total = Interval(0.0, 0.0, 0.0)
        for tier in self.tiers:
            total = total.plus(tier.requests)
        return total

    def hours(self, per_second: float) -> Interval:
        """Hours at a rate of so many blobs a second, or as the limits of tiers allow, where that takes longer.

        Raises
        ------
        ValueError
            The rate is not above 0.
        """
        if not per_second > 0:
            raise ValueError(f"per_second={per_second!r}: must be more than 0 blobs a second")
        seconds = self.digests / per_second
        return Interval(*(max(seconds, limit) / 3600 for limit in self.limited_to))

    def beside(self, stats: Mapping[str, TierStats], receipt: Mapping[str, Spent] | None = None) -> list[Beside]:
        """What was planned beside what it came to, by tier.

        Parameters
        ----------
        stats
            The counts of the run: `store.stats()` of a store that did nothing else.
        receipt
            What the run has spent: `budget.receipt()`; None: only hits are compared.
        """
        rows = []
        for tier in self.tiers:
            if (fact := stats.get(tier.name)) is not None:
                rows.append(Beside(tier.name, "hits", tier.hits.expected, fact.hits))
            spent = (receipt or {}).get(tier.name)
            if spent is None:
                continue
            # What an API source transfers by itself is on no receipt.
            for what in ("calls",) if tier.role == "paid source" else ("requests", "bytes"):
                planned, came = getattr(tier, what), getattr(spent, what)
                if planned is not None and (planned.expected or came):
                    rows.append(Beside(tier.name, what, planned.expected, came))
            if tier.money is not None and spent.money is not None:
                rows.append(Beside(tier.name, "money", float(tier.money.expected.amount), float(spent.money.amount)))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The values by name; intervals as lists of three numbers, money as texts."""
        return {
            "digests": self.digests,
            "invalid": self.invalid,
            "sampled": self.sampled,
            "missing": list(self.missing),
            "requests": list(self.requests),
            "bytes": None if self.bytes is None else list(self.bytes),
            **_money_keys(self.money),
            "limited_to": list(self.limited_to),
            "tiers": [tier.as_dict() for tier in self.tiers],
            "notes": list(self.notes),
        }

    def as_json(self) -> str:
        """The values as a JSON object."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("tier", "asked", "hits", "requests", "calls", "bytes", "money", "known by")]
        for tier in self.tiers:
            size = "?" if tier.bytes is None else _told(tier.bytes, rounded_size)
            money = "" if tier.money is None else str(tier.money)
            counts = [_told(getattr(tier, key)) for key in ("asked", "hits", "requests", "calls")]
            rows.append((tier.name, *counts, size, money, tier.basis))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"{self.digests:,} different digests, {self.sampled:,} of them sampled"]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines.append(f"missing: {_told(self.missing)}")
        if self.invalid:
            lines.append(f"not a digest: {self.invalid:,}")
        if self.money is not None:
            lines.append(f"money: {self.money}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def _told(interval: Interval, form: Any = lambda value: f"{value:,}") -> str:
    low, expected, high = (form(round(value)) for value in interval)
    return str(expected) if interval.is_exact else f"{expected} ({low} to {high})"


def _money_keys(money: MoneyRange | None) -> dict[str, Any]:
    amounts = None if money is None else [f"{each.amount:f}" for each in money]
    return {"money": amounts, "currency": None if money is None else money.expected.currency}
