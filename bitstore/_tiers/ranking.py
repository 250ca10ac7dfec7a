"""Which of several sources is asked first: hits over cost, from the counts of a cohort.

A source that comes first is worth its share of the blobs, also of those that others have too. One that comes later is
worth only what those before it lack: what it has answered in that place. Both are set against what a question costs.
Asking by the ratio of chance and cost is the best order for independent sources, and greedy for others:
https://doi.org/10.1007/s00453-004-1110-5 (Feige, Lovász, Tetali: approximating min sum set cover, 2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from bitstore._lookup.asking import scope_of
from bitstore._raw.file import FileRaw
from bitstore._tiers.chain import Chain, Tier, has_index
from bitstore._tiers.learned import SourceCounts

__all__ = ["RankedTier", "Worth", "ranked", "ranking", "requests_of", "worth_of"]

REQUEST_SECONDS: Final = 0.1
"""What one request counts as much as, in seconds of waiting."""

_LEAST_COST: Final = 1e-4
_TIMED: Final = 4  # answers below which the seconds of a source are taken for those of the others
_TRUST: Final = 8  # lookups that asked a source first, from which on what they showed outweighs what it showed later
_BETTER: Final = 1.1  # times the worth of the present first source that another must have to take its place


class Worth(NamedTuple):
    """What is known of one source, in the units in which sources are compared."""

    # Share of the lookups that it would answer, were it asked first.
    first: float
    # Share of the lookups that it answers of those which the sources before it leave, over all lookups.
    later: float
    # Seconds, with its requests in `REQUEST_SECONDS`.
    cost: float
    # Mean seconds of an answer without the blob; None: too few were timed.
    seconds: float | None


class RankedTier(NamedTuple):
    """Where a free source stands in the learned order of a cohort, and why.

    Attributes
    ----------
    cohort
        The cohort; empty: that of lookups without one.
    tier
        Name of the tier.
    place, written
        Its place among the tiers of the composite, from 1: as lookups ask them now, and as they were appended.
    lookups, asked, hits
        Lookups that came to the sources it is ordered among, those that asked it, and those that it answered with the
        blob. Old ones count less and less.
    rate
        Share of the lookups that it would answer, were it asked first.
    requests
        Requests that one question to it takes; 0: it is on this machine.
    seconds
        Mean seconds until it says that it lacks a blob; None: not known yet.
    why
        In words.
    """

    cohort: str
    tier: str
    place: int
    written: int
    lookups: int
    asked: int
    hits: int
    rate: float
    requests: int
    seconds: float | None
    why: str


def requests_of(store: Any) -> int:
    """How many requests one question to `store` takes when it lacks the blob."""
    if isinstance(store, Chain):
        return sum(requests_of(tier.store) for tier in store.tiers if tier.read)
    if isinstance(store, FileRaw) or scope_of(store) != "shared":
        return 0
    below = getattr(store, "base_store", None)
    return 1 if below is None else requests_of(below)


def worth_of(tiers: Sequence[Tier], counts: Mapping[str, SourceCounts]) -> dict[Tier, Worth]:
    """What each of `tiers` is worth, from counts by their names."""
    timed = [each.seconds / each.vain for each in counts.values() if each.vain >= _TIMED]
    usual = sum(timed) / len(timed) if timed else 0.0
    found = {}
    for tier in tiers:
        told = counts[tier.name]
        spared = told.reached - told.asked
        if has_index(tier.store) or spared > told.asked:
            later = told.hits / max(1, told.asked)  # what it lacks costs nothing
        else:
            later = told.hits / max(1, told.lookups)
        first = (told.first_hits + _TRUST * later) / (told.first + _TRUST)
        seconds = told.seconds / told.vain if told.vain >= _TIMED else None
        cost = max(_LEAST_COST, REQUEST_SECONDS * requests_of(tier.store) + (usual if seconds is None else seconds))
        found[tier] = Worth(first, later, cost, seconds)
    return found


def ranked(tiers: Sequence[Tier], now: Tier, worth: Mapping[Tier, Worth]) -> list[Tier]:
    """`tiers`, which are given as they were appended, in the order in which they are asked; `now` is the present first.

    What nothing is known of stays as it was appended.
    """
    best = max(tiers, key=lambda tier: worth[tier].first / worth[tier].cost)
    if worth[best].first / worth[best].cost <= _BETTER * worth[now].first / worth[now].cost:
        best = now
    others = sorted(
        (tier for tier in tiers if tier is not best), key=lambda tier: -worth[tier].later / worth[tier].cost
    )
    return [best, *others]


def ranking(
    cohort: str, tiers: Sequence[Tier], begin: int, counts: Mapping[str, SourceCounts], places: Mapping[Tier, int]
) -> list[RankedTier]:
    """The rows of sources that stand together, by their places now. They were appended from the place `begin` on."""
    worth = worth_of(tiers, counts)
    rows = []
    for written, tier in sorted(enumerate(tiers, start=begin), key=lambda each: places[each[1]]):
        told, requests = counts[tier.name], requests_of(tier.store)
        rows.append(
            RankedTier(
                cohort,
                tier.name,
                places[tier],
                written,
                told.lookups,
                told.asked,
                told.hits,
                worth[tier].first if told.lookups or told.first else 0.0,
                requests,
                worth[tier].seconds,
                _why(told, worth[tier], requests, is_first=places[tier] == begin),
            )
        )
    return rows


def _why(told: SourceCounts, worth: Worth, requests: int, *, is_first: bool) -> str:
    if not (told.lookups or told.first):
        return "nothing is known of it yet, so it stays where it was appended"
    costs = "no request" if not requests else "1 request" if requests == 1 else f"{requests} requests"
    waits = "" if worth.seconds is None else f" and {worth.seconds:.3g} s"
    if is_first:
        return f"has {worth.first:.1%} of the blobs, for {costs}{waits} a question: the most for its cost"
    if told.asked and told.asked * 2 < told.reached:
        return f"has {worth.later:.1%} of what it is asked for, for {costs}{waits}; it is seldom asked in vain"
    return f"has {worth.later:.1%} of the blobs that the sources before it lack, for {costs}{waits} a question"
