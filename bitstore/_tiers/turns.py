"""The turns of the sources: in which order one lookup asks them, and what is learned of it when it ends."""

from __future__ import annotations

import logging
import math
import random
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Final, TypeAlias

from bitstore._support.once import warn_once
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.learned import MOST_COHORTS, CohortCounts, Learned, SourceCounts
from bitstore._tiers.learned_file import kept_in
from bitstore._tiers.order import LearnedOrder
from bitstore._tiers.ranking import RankedTier, ranked, ranking, worth_of
from bitstore.errors import described

__all__ = ["Links", "Turn", "Turns", "runs_of"]

logger = logging.getLogger("bitstore")

Links: TypeAlias = tuple[tuple[Tier, tuple[Tier, ...]], ...]  # tiers, each with the caches that keep what it returns

_SOON: Final = 8  # lookups after which the order of a cohort is made for the first time; then after twice as many
_OFTEN: Final = 256  # lookups after which it is made again at the latest


def runs_of(links: Links) -> list[tuple[int, int]]:
    """Where free sources stand together, with no cache and no paid source between them: first place, and that after."""
    runs: list[tuple[int, int]] = []
    begin = 0
    for place, (tier, _) in enumerate((*links, (None, ()))):
        if tier is not None and tier.read and not tier.is_cache and not costs(tier.store):
            continue
        if place - begin > 1:
            runs.append((begin, place))
        begin = place + 1
    return runs


class Turn:
    """The order in which lookups of one cohort ask the tiers; many lookups have the same."""

    __slots__ = ("_cohort", "_counts", "_explores", "_places", "_runs", "_turns", "links", "plan")

    def __init__(self, turns: Turns, cohort: _Cohort, links: Links, explores: int | None) -> None:
        self.links = links
        # What the express lane knows of the tiers in this order; None: nothing yet.
        self.plan: Any = None
        self._turns = turns
        self._cohort = cohort
        self._runs = turns.runs
        # The number of the run whose first source is explored; None: none is.
        self._explores = explores
        self._places = {tier.name: place for place, (tier, _) in enumerate(links)}
        self._counts = [cohort.counts.source(tier.name) for tier, _ in links]

    def in_vain(self, name: str, seconds: float) -> None:
        """A source has answered without the blob after so many seconds."""
        counts = self._counts[self._places[name]]
        with self._turns.learned.lock:
            counts.vain += 1
            counts.seconds += seconds

    def ended(self, name: str | None, spared: Collection[str] = ()) -> None:
        """A lookup in this order has ended.

        Parameters
        ----------
        name
            Name of the tier that had the blob; None: no tier had it.
        spared
            Names of tiers that lack the blob, and did not need to be asked to know it.
        """
        stop = len(self._counts) if name is None else self._places[name]
        late = name in spared  # it had the blob all the same, when all others of its run had been asked
        with self._turns.learned.lock:
            for number, (begin, end) in enumerate(self._runs):
                if stop < begin:
                    break
                self._count(begin, end, stop, late, spared, explored=number == self._explores)
            self._cohort.done += 1
        if self._cohort.is_due:
            self._turns.arrange(self._cohort)

    def _count(self, begin: int, end: int, stop: int, late: bool, spared: Collection[str], *, explored: bool) -> None:
        first = self._counts[begin]
        if not spared or self.links[begin][0].name not in spared:
            first.first += 1
            first.first_hits += stop == begin
        if explored:
            return  # the others have been asked for less than usual
        for place in range(begin, end):
            counts = self._counts[place]
            counts.lookups += 1
            if place <= stop or late:
                counts.reached += 1
                if not spared or self.links[place][0].name not in spared:
                    counts.asked += 1
                    counts.hits += place == stop


class _Cohort:
    """The present order of one cohort."""

    __slots__ = (
        "begun",
        "chosen_until",
        "counts",
        "done",
        "explore_at",
        "explored",
        "first",
        "next_at",
        "pace",
        "turn",
        "turns",
        "version",
    )

    def __init__(self, counts: CohortCounts) -> None:
        self.counts = counts
        # Lookups that have begun, and that have ended.
        self.begun = self.done = 0
        # Lookups by their numbers: the one that explores next, and the last of those among which it was chosen.
        self.explore_at = self.chosen_until = 0
        # How many lookups have explored.
        self.explored = 0
        # The lookup, by its number, after which the order is made again, and how many come before that of the next.
        self.next_at = self.pace = _SOON
        # The first source of each run.
        self.first: list[Tier] = []
        # Turns by the source that they explore, its run first; of this order.
        self.turns: dict[tuple[int, Tier], Turn] = {}
        # The version of the counts by which the order was made.
        self.version = counts.version

    turn: Turn

    @property
    def is_due(self) -> bool:
        """Whether the order is to be made again."""
        return self.done >= self.next_at or self.version != self.counts.version


class Turns:
    """The orders of all cohorts of one composite in one process, as long as its chain stays.

    Parameters
    ----------
    links
        The chain as it was appended.
    learned
        The counts, which views of the composite share; where `order` names a file, those of the file count.
    order
        How the order is learned.
    is_up
        Says by the name of a tier whether it answers: others are not explored.
    """

    def __init__(self, links: Links, learned: Learned, order: LearnedOrder, is_up: Any) -> None:
        self.links = links
        self.order = order
        self.learned = learned if order.path is None else kept_in(order.path)
        self.runs = runs_of(links)
        self._is_up = is_up
        self._cohorts: OrderedDict[str, _Cohort] = OrderedDict()
        self._random = random.Random(order.seed)
        # One in so many lookups explores; 0: none does.
        self._every = math.ceil(1 / order.explore) if order.explore and self.runs else 0

    def turn(self, key: Any) -> Turn:
        """The order for the lookup of `key`."""
        cohort = self._cohort(self.name_of(key))
        with self.learned.lock:
            cohort.begun += 1
            if self._every and cohort.begun > cohort.chosen_until:
                # At random, because lookups may come in a pattern.
                cohort.explore_at = cohort.begun + self._random.randrange(self._every)
                cohort.chosen_until = cohort.begun + self._every - 1
            if cohort.begun != cohort.explore_at:
                return cohort.turn
            return self._explore(cohort) or cohort.turn

    def present(self, key: Any) -> Turn:
        """The order for `key` at present, for what nothing is learned of."""
        return self._cohort(self.name_of(key)).turn

    def name_of(self, key: Any) -> str:
        """Name of the cohort of `key`."""
        cohort = self.order.cohort
        if cohort is None or isinstance(cohort, str):
            return cohort or ""
        try:
            name = cohort(key)
            if not isinstance(name, str):
                raise TypeError(f"it returned {type(name).__name__}, and not a text")
        except Exception as error:  # the order of the tiers must not end a lookup
            text = "no cohort for a lookup, which goes without: %s (said once)"
            warn_once(logger, ("no cohort", type(error)), text, described(error))
            return ""
        return name

    def arrange(self, cohort: _Cohort) -> None:
        """Make the order of a cohort again, by what its counts say now."""
        with self.learned.lock:
            if not cohort.is_due:
                return
            while cohort.next_at <= cohort.done:
                cohort.next_at += cohort.pace
                cohort.pace = min(_OFTEN, 2 * cohort.pace)
            cohort.version = cohort.counts.version
            cohort.counts.fade()
            links = list(self.links)
            for number, (begin, end) in enumerate(self.runs):
                tiers = [tier for tier, _ in self.links[begin:end]]
                keepers = dict(self.links[begin:end])
                before = cohort.first[number]
                order = ranked(tiers, before, worth_of(tiers, self._counts(cohort, tiers)))
                links[begin:end] = [(tier, keepers[tier]) for tier in order]
                if order[0] is not before:
                    cohort.first[number] = order[0]
                    self._forget(cohort, tiers)
            if tuple(links) != cohort.turn.links:
                self._take(cohort, tuple(links))

    def ranking(self) -> tuple[RankedTier, ...]:
        """Where each free source stands in each cohort, and why, in the order of their names and places."""
        rows = []
        for name in sorted(self.learned.names()) or [""]:
            cohort = self._cohort(name)
            self.arrange(cohort)
            with self.learned.lock:
                places = {tier: place for place, (tier, _) in enumerate(cohort.turn.links, start=1)}
                for begin, end in self.runs:
                    tiers = [tier for tier, _ in self.links[begin:end]]
                    counts = self._counts(cohort, tiers)
                    rows += ranking(name, tiers, begin + 1, counts, places)
        return tuple(rows)

    def _counts(self, cohort: _Cohort, tiers: list[Tier]) -> dict[str, SourceCounts]:
        return {tier.name: cohort.counts.both(tier.name) for tier in tiers}

    @staticmethod
    def _forget(cohort: _Cohort, tiers: list[Tier]) -> None:
        """What the sources had to answer behind another first one says little of what they will behind this one."""
        most = max(cohort.counts.source(tier.name).lookups for tier in tiers)
        if most > _OFTEN:
            for tier in tiers:
                counts = cohort.counts.source(tier.name)
                for name in ("lookups", "reached", "asked", "hits"):
                    setattr(counts, name, getattr(counts, name) * _OFTEN // most)

    def _cohort(self, name: str) -> _Cohort:
        cohort = self._cohorts.get(name)
        if cohort is None:
            cohort = _Cohort(self.learned.cohort(name))
            with self.learned.lock:
                cohort.first = [self.links[begin][0] for begin, _ in self.runs]
                self._take(cohort, self.links)
                cohort.next_at = 0  # what is known already counts at once
            self.arrange(cohort)
            with self.learned.lock:
                self._cohorts[name] = cohort
                if len(self._cohorts) > MOST_COHORTS:
                    self._cohorts.popitem(last=False)
        return cohort

    def _take(self, cohort: _Cohort, links: Links) -> None:
        cohort.turn = Turn(self, cohort, links, None)
        cohort.turns = {}

    def _explore(self, cohort: _Cohort) -> Turn | None:
        """The order in which another source comes first, of one run; None: there is none to explore."""
        links = cohort.turn.links
        others = [
            (number, place)
            for number, (begin, end) in enumerate(self.runs)
            for place in range(begin + 1, end)
            if self._is_up(links[place][0].name)
        ]
        if not others:
            return None
        # As they were appended, so that each has its turn although the order changes.
        others.sort(key=lambda each: self._written(links[each[1]][0]))
        number, place = others[cohort.explored % len(others)]
        cohort.explored += 1
        tier = links[place][0]
        turn = cohort.turns.get((number, tier))
        if turn is None:
            begin, _ = self.runs[number]
            moved = (*links[:begin], links[place], *links[begin:place], *links[place + 1 :])
            turn = cohort.turns[number, tier] = Turn(self, cohort, moved, number)
        return turn

    def _written(self, tier: Tier) -> int:
        return next(place for place, (each, _) in enumerate(self.links) if each is tier)
