"""The express lane of one batch: what its lookups have in common, and those of them that begin and end together.

What they have in common is looked at once a millisecond and not for each lookup. Tiers, order and observers of the
composite that are changed while a batch runs are seen by the next lookup. The level of the logger and options of the
raw stores act a millisecond later on that batch, as if its lookups had begun before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from bitstore._lookup.task import Lane, Task
from bitstore._support import clock
from bitstore._tiers.plain import Plan, Way, plan_of
from bitstore._tiers.runtime import Live
from bitstore._transport.scheduler import Outcome
from bitstore.steps import Found, Request, Response

__all__ = ["ExpressLane"]

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


class ExpressLane(Lane):
    """The express lane of one batch. For the transfer thread it begins and ends lookups many at a time."""

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
        maker = self._maker(way, self.glance(now))
        try:
            return None if maker is None else maker(key)
        except Exception:  # the steps meet the same error, and know what it means
            return None

    def _maker(self, way: Way, glance: _Glance) -> _Maker | None:
        """What makes the requests to a plain tier; None: there is nothing now."""
        makers = glance.makers
        if way.name not in makers:
            try:
                makers[way.name] = way.store.first_requests() if way.raw is way.store.base_store else None
            except Exception:  # as in `request`
                makers[way.name] = None
        return makers[way.name]

    def begin(self, tasks: Iterable[Task], begin: Callable[[Task, Request, float | None], None]) -> Iterable[Task]:
        """Ask the first tier of the chain for the keys of `tasks`, where it is one that is asked by requests."""
        now = clock.monotonic()
        try:
            glance = self.glance(now)
        except Exception:  # of a store of the chain: the steps of these lookups meet it as well, and no others
            return tasks
        live, plan = glance.live, glance.plan
        if plan is None or not glance.is_open or not plan.ways or plan.ways[0].raw is None:
            return tasks
        way, latencies, lead = plan.ways[0], live.latencies, live.flights.lead
        ticket = way.breaker.admit_if_closed()
        maker = self._maker(way, glance)
        if ticket is None or maker is None:
            return tasks
        left: list[Task] = []
        begun = 0
        for task in tasks:
            steps: Any = task.steps  # an `Express`
            request = None
            if not steps.paid_for and (latencies is None or latencies.passes(way.store)):
                try:
                    request = maker(steps.key)
                except Exception:  # as in `request`
                    request = None
            if request is None or lead(steps.key) is not None:
                left.append(task)
                continue
            steps.begun(live, plan, ticket, request, now)
            task.ticket += 1
            begin(task, request, task.until)
            begun += 1
        way.tally.requests += begun
        return left

    def end(self, outcomes: Iterable[Outcome], finish: Callable[[Task, Any, None], None]) -> Iterator[Outcome]:
        """End the lookups whose answer is the blob, where no cache is to keep it.

        Those in a row end together, and the steps of others go on in between: a breaker counts failures in a row.
        """
        for way, alike in groupby(outcomes, _hit_in):
            if way is None:
                yield from alike
                continue
            ended: list[tuple[Task, Any]] = list(alike)
            way.breaker.succeeded()
            way.counts.add(hits=len(ended), bytes=sum(len(answer.body) for _, answer in ended))
            for task, answer in ended:
                steps: Any = task.steps
                found = Found(answer.body, way.name)
                steps.end(found)
                finish(task, found, None)


def _hit_in(outcome: Outcome) -> Way | None:
    task, answer = outcome
    way: Way | None = task.steps.hit_in(answer) if isinstance(answer, Response) else None
    return way
