"""A hedge against slow answers: where a free source is slow, the sources after it are asked as well.

The first answer with the blob counts. The pattern: https://doi.org/10.1145/2408776.2408794 (Dean, Barroso: the tail at
scale, 2013).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from bitstore._support import clock
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.question import Said
from bitstore._tiers.runtime import Live
from bitstore.steps import Cancelled, Found, Sleep, Steps, Together

__all__ = ["Hedge", "hedged_steps"]

Link: TypeAlias = tuple[Tier, tuple[Tier, ...]]  # a tier, and the caches that keep what it returns
Ask: TypeAlias = Callable[[Link], Steps[Found | None]]

_KEPT: Final = 256  # answers of a source of which the seconds are kept
_KNOWN: Final = 20  # answers below which nothing is known of a source
_NEWS: Final = 32  # answers after which the pause is found out again
_SHORTEST: Final = 0.001
_MOST: Final = 10.0  # lookups that may be hedged one after another


class Hedge:
    """When lookups of one composite are hedged in this process.

    Parameters
    ----------
    share
        The largest share of its lookups.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        # Seconds after which an answer is slow; None: not known yet.
        self.pause: float | None = None
        self._lock = threading.Lock()
        self._credit = 0.0  # lookups that may be hedged now
        self._seconds: dict[str, deque[float]] = {}  # of the last answers, by the name of a source
        self._news = 0  # answers since the pause was found out

    def began(self) -> float | None:
        """Count a lookup. Returns the pause after which it may be hedged; None: it may not."""
        with self._lock:
            self._credit = min(_MOST, self._credit + self.share)
            return self.pause if self._credit >= 1 else None

    def spend(self) -> bool:
        """Whether one more lookup may be hedged, which counts as such."""
        with self._lock:
            if self._credit < 1:
                return False
            self._credit -= 1
            return True

    def note(self, name: str, seconds: float) -> None:
        """A source has answered after so many seconds, or has not answered for so long."""
        with self._lock:
            self._seconds.setdefault(name, deque(maxlen=_KEPT)).append(seconds)
            self._news += 1
            if self._news >= _NEWS or self.pause is None:
                self._news = 0
                self.pause = self._usual()

    def _usual(self) -> float | None:
        """The seconds within which all but `share` of the answers come: of most sources, so that one may be slow."""
        slow = sorted(
            sorted(times)[min(len(times) - 1, int(len(times) * (1 - self.share)))]
            for times in self._seconds.values()
            if len(times) >= _KNOWN
        )
        return max(_SHORTEST, slow[(len(slow) - 1) // 2]) if slow else None


class _Won(Exception):
    """A question has brought the blob: it ends the others."""

    def __init__(self, found: Found, link: Link) -> None:
        super().__init__()
        self.found = found
        self.link = link


class _Over(Exception):
    """The first question was answered in time, without the blob."""


def hedged_steps(
    links: Iterator[Link], ask: Ask, live: Live, said: Said, key: Any, hedge: Hedge
) -> Steps[tuple[Found, Link, bool] | None]:
    """Ask tier after tier, as a walk does, and the next free sources as well where one is slow.

    They end in what was found, the tier, and whether that had been asked before a slower one had answered.

    Parameters
    ----------
    links
        The tiers in the order in which they are asked.
    ask
        Makes the steps that ask one tier; they end in None where it does not bring the blob.
    live, said, key
        Those of the lookup.
    hedge
        When it is hedged.
    """
    race = _Race(links, ask, live, said, hedge)
    pause = hedge.began()
    while (link := race.next()) is not None:
        tier, keepers = link
        if not _may_race(link):
            if (found := (yield from ask(link))) is not None:
                return found, link, False
            continue
        if pause is None or not race.has_rival():
            found = yield from race.timed((tier, ()))
        else:
            try:
                race.begin()
                yield Together([race.front(link), race.behind(pause)])
                found = None
            except _Over:
                found = None
            except _Won as won:
                found, (tier, keepers) = won.found, won.link
            except Cancelled:
                raise said.timed_out(tier) from None
        if found is not None:
            if keepers:
                yield from keep_steps(live, tier, keepers, key, found.data, said.bad)
            return found, (tier, keepers), race.hedged
        if race.hedged:
            pause = None
    return None


class _Race:
    """The sources of one lookup, of which several may be asked at once."""

    def __init__(self, links: Iterator[Link], ask: Ask, live: Live, said: Said, hedge: Hedge) -> None:
        self.hedged = False
        self._links = links
        self._ask = ask
        self._live = live
        self._said = said
        self._hedge = hedge
        self._ahead: Link | None = None
        self._over = False  # whether the first source has answered in time

    def next(self) -> Link | None:
        """The tier that is asked next; None: all have been."""
        link, self._ahead = self._ahead, None
        return link if link is not None else next(self._links, None)

    def has_rival(self) -> bool:
        """Whether the tier that is asked next may be asked already now."""
        self._ahead = self.next()
        link = self._ahead
        return link is not None and _may_race(link) and link[0].name not in self._said.spared

    def begin(self) -> None:
        """Begin with another first source."""
        self._over = False

    def timed(self, link: Link) -> Steps[Found | None]:
        """Steps that ask a source, of which the seconds are noted."""
        begin = clock.monotonic()
        try:
            return (yield from self._ask(link))
        finally:
            self._hedge.note(link[0].name, clock.monotonic() - begin)

    def front(self, link: Link) -> Steps[None]:
        """Ask the source whose turn it is."""
        found = yield from self.timed((link[0], ()))
        if found is not None:
            raise _Won(found, link)
        if not self.hedged:
            self._over = True
            raise _Over

    def behind(self, pause: float) -> Steps[None]:
        """Ask the sources after it, when the pause is over."""
        yield Sleep(pause)
        if self._over or not self._hedge.spend():  # over: in the same moment, so that this is given up next
            return
        self.hedged = True
        while self.has_rival() and (link := self.next()) is not None:
            counts = self._live.counts[link[0].name]
            counts.count("hedged")
            found = yield from self.timed((link[0], ()))
            if found is not None:
                counts.count("hedges_won")
                raise _Won(found, link)


def _may_race(link: Link) -> bool:
    tier = link[0]
    return tier.read and not tier.is_cache and not costs(tier.store)
