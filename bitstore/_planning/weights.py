"""From samples to numbers: how many lookups meet each tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bitstore._planning.interval import NONE, Interval, exactly, of_others, of_share
from bitstore._planning.route import Kind, Leg

__all__ = ["Totals"]

_SURE: dict[Kind, Interval] = {"held": exactly(1.0), "lacked": NONE}


class Totals:
    """How many lookups ask each tier, and how many of them it answers with the blob.

    Parameters
    ----------
    rates
        Of how many earlier lookups each tier has answered how many: for paid tiers, and for all where nothing may be
        asked.
    """

    def __init__(self, rates: Mapping[int, tuple[int, int]]) -> None:
        self._rates = rates
        # By the number of a tier.
        self.asked: dict[int, Interval] = {}
        self.hits: dict[int, Interval] = {}
        # Lookups that no tier answers.
        self.missing = NONE

    def add_sample(self, population: int, route: Sequence[Leg], answers: Sequence[tuple[Leg, ...]]) -> None:
        """Count `population` lookups that go one way, of which `answers` are a random sample, with no leg left open."""
        sure = set()  # tiers that all of them ask
        for leg in route:
            sure.add(leg.part)
            if leg.kind in ("open", "paid"):
                break
        # Each by the tier and the paid tiers that come before it: whether these have the blob, no sample tells.
        asked: Counter[tuple[int, tuple[int, ...]]] = Counter()
        hits: Counter[tuple[int, tuple[int, ...]]] = Counter()
        ended: Counter[tuple[int, ...]] = Counter()
        for legs, count in Counter(answers).items():
            paid: tuple[int, ...] = ()
            for leg in legs:
                if leg.kind == "skipped":
                    continue
                asked[leg.part, paid] += count
                if leg.kind == "held":
                    hits[leg.part, paid] += count
                    break
                if leg.kind == "paid":
                    paid += (leg.part,)
            else:
                ended[paid] += count

        def many(count: int, paid: tuple[int, ...]) -> Interval:
            share = of_share(count, len(answers), population)
            number = share.times(exactly(population))
            return number.times(self._passed(paid, number.expected))

        bought = {leg.part for legs in answers for leg in legs if leg.kind == "paid"}
        for (part, paid), count in asked.items():
            number = exactly(population) if part in sure else many(count, paid)
            self._add(self.asked, part, number)
            if part in bought:
                self._add(self.hits, part, number.times(self._rate(part, number.expected)))
        for (part, paid), count in hits.items():
            self._add(self.hits, part, many(count, paid))
        for paid, count in ended.items():
            self.missing = self.missing.plus(many(count, paid))

    def add_unknown(self, population: int, legs: Sequence[Leg]) -> None:
        """Count `population` lookups that go these ways, of which some are open, by the rates alone."""
        left = exactly(population)
        for leg in legs:
            if leg.kind == "skipped":
                continue
            self._add(self.asked, leg.part, left)
            rate = _SURE[leg.kind] if leg.kind in _SURE else self._rate(leg.part, left.expected)
            self._add(self.hits, leg.part, left.times(rate))
            left = left.times(rate.rest())
        self.missing = self.missing.plus(left)

    def _rate(self, part: int, lookups: float) -> Interval:
        """What part of so many lookups the tier answers."""
        hits, asked = self._rates[part]
        return of_others(hits, asked, lookups)

    def _passed(self, paid: tuple[int, ...], lookups: float) -> Interval:
        """What part of so many lookups goes on behind these paid tiers."""
        left = exactly(1.0)
        for part in paid:
            left = left.times(self._rate(part, lookups).rest())
        return left

    @staticmethod
    def _add(totals: dict[int, Interval], part: int, more: Interval) -> None:
        totals[part] = totals.get(part, NONE).plus(more)
