"""The express lane: a lookup without generators, as long as plain tiers give plain answers.

The lane asks plain tiers (`bitstore._tiers.plain`): a cache at once, and a digest store by the request with which its
steps would begin (`first_requests`). It takes plain absences and whole blobs, which match where the store verifies.
Everything else is for the steps of the composite, which stay the only authority: they begin where the lane is, and get
the answer in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from bitstore._lookup.asking import steps_of_get
from bitstore._support import clock
from bitstore._tiers.chain import Tier
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.lane import ExpressLane
from bitstore._tiers.plain import Plan, Way, plan_of, plan_of_turn, speaks
from bitstore._tiers.putting_off import asked_now
from bitstore._tiers.question import Said
from bitstore._tiers.runtime import Live
from bitstore._tiers.turns import Turn
from bitstore.errors import NotFoundInStore
from bitstore.steps import Found, Request, Response, Steps, TransferError

__all__ = ["Begun", "Express", "express"]


def express(composite: Any) -> Callable[..., Steps[Found]] | None:
    """What makes the lookup of a canonical key by the express lane; None: no tier of `composite` is plain."""
    if composite._watch is not None or composite._hedge is not None:
        return None
    lane = ExpressLane(composite)
    plan = lane.glance(clock.monotonic()).plan
    # With a learned order, which tier comes first is another matter for each lookup.
    is_plain = speaks(composite.__class__, "takes_express") if plan is None else bool(plan.ways)
    return partial(Express, lane) if is_plain else None


class Begun(NamedTuple):
    """Where the lane is with a lookup, for the steps that go on with it."""

    live: Live  # the lookup leads the flight of its key there
    chain: tuple[tuple[Tier, tuple[Tier, ...]], ...]  # the tiers that are still to answer, and what keeps their blobs
    ticket: int | None  # of the breaker of the first of them, where that was asked already
    missing: tuple[str, ...]  # names of the tiers that lack the blob
    turn: Turn | None  # the learned order in which the tiers are asked; None: they are asked as they were appended
    steps: Steps[Found] | None = None  # of the lookup in the first of them, where it was begun already
    said: Said | None = None  # what other tiers have said, where only these are asked; None: they are all the rest


class Express(Generator[Any, Any, Found]):
    """The lookup of one key: as steps, for drivers. Whichever driver begins it has to end or close it."""

    __slots__ = (
        "_missing",
        "key",
        "lane",
        "leads",
        "live",
        "paid_for",
        "place",
        "plan",
        "request",
        "since",
        "steps",
        "ticket",
        "turn",
    )

    def __init__(self, lane: ExpressLane, key: Any, paid_for: frozenset[str] = frozenset()) -> None:
        self.lane = lane
        self.key = key
        self.paid_for = paid_for
        self.steps: Steps[Found] | None = None  # those of the composite, once they have taken over
        self._missing: tuple[str, ...] = ()  # names of the tiers that lack the blob
        self.turn: Turn | None = None  # the learned order in which the tiers are asked; None: as they were appended
        self.leads = False  # whether the flight of the key is to be landed here
        self.place = 0  # of the plain tier that is being asked
        self.ticket: int | None = None  # of its breaker; None: none is being asked

    def begun(self, live: Live, plan: Plan, ticket: int, request: Request, since: float) -> None:
        """Be where the first plain tier is asked by `request`, which the lane sends."""
        self.live, self.plan, self.leads = live, plan, True
        self.ticket, self.request, self.since = ticket, request, since

    def hit_in(self, answer: Any) -> Way | None:
        """The tier of which `answer` is the blob, so that nothing else is to be done; None: the steps go on with it."""
        if self.ticket is None or self.steps is not None or self.turn is not None or answer.status != 200:
            return None
        way = self.plan.ways[self.place]
        try:
            return None if way.keepers or not way.store.plainly_found(answer, self.key) else way
        except Exception:  # the steps meet the same error, and know what it means
            return None

    def end(self, found: Found) -> None:
        """Be at the end of the lookup, whose result is `found`."""
        self.ticket = None
        self.leads = False
        self.live.flights.land(self.key, found)

    def send(self, answer: Any) -> Any:
        steps = self.steps
        if steps is not None:
            return steps.send(answer)
        if self.ticket is None:
            return self._begin()
        way, key = self.plan.ways[self.place], self.key
        try:
            matches = answer.status == 200 and way.store.plainly_found(answer, key)
            missing = answer.status in (404, 410) and way.store.plainly_missing(answer)
        except Exception:  # the steps meet the same error, and know what it means
            matches = missing = False
        if matches:
            return self._found(way, Found(answer.body, way.name))
        if missing:
            self._lacks(way)
            return self._ask(self.place + 1)
        return self._go_on(answer)

    def _begin(self) -> Any:
        composite, key = self.lane.composite, self.key
        _, _, live, plan, is_open, _ = self.lane.glance(clock.monotonic())
        if plan is None:
            turn = self.turn = composite._turn(key, live)
            plan = plan_of(composite, live) if turn is None else plan_of_turn(composite, live, turn)
        if (
            is_open
            and plan.ways
            and not self.paid_for
            and live.flights.lead(key) is None  # else another lookup is under way: the steps wait for it
        ):
            self.live, self.plan, self.leads = live, plan, True
            return self._ask(0)
        self.steps = composite.key_steps(key, self.paid_for, turn=self.turn)
        return self.steps.send(None)

    def _ask(self, place: int) -> Any:
        """Ask the plain tiers from `place` on: caches at once, up to the first request, which counts as sent."""
        ways, key, latencies = self.plan.ways, self.key, self.live.latencies
        for way in ways[place:]:
            self.place = place
            place += 1
            if way.raw is None and not way.store.is_valid(key):
                continue
            self.ticket = way.breaker.admit_if_closed()
            if self.ticket is None:
                return self._hand_over(way.position)
            now = clock.monotonic()
            request = None if way.raw is None else self.lane.request(way, key, now)
            if way.raw is not None and request is None:
                return self._hand_over(way.position)
            if latencies is not None and latencies.is_due(way.store):
                steps = steps_of_get(asked_now(way.store), key)
                return self._hand_over(way.position, latencies.measured(way.store, steps))
            if request is not None:
                self.request, self.since = request, now
                way.tally.requests += 1
                return request
            self.since = now
            looked = _looked(way.store, key)
            if type(looked) is Found and looked.matched and type(looked.data) is bytes:
                return self._found(way, looked if looked.source == way.name else looked._replace(source=way.name))
            if type(looked) is not NotFoundInStore:
                steps = steps_of_get(way.store, key) if looked is None else _said(looked)
                return self._hand_over(way.position, steps)
            self._lacks(way)
        return self._hand_over(ways[-1].position + 1)

    def _lacks(self, way: Way) -> None:
        """A plain tier has said that it lacks the blob."""
        way.breaker.succeeded()
        way.counts.count("misses")
        if self.turn is not None:
            self.turn.in_vain(way.name, clock.monotonic() - self.since)
        self._missing += (way.name,)
        self.ticket = None

    def _found(self, way: Way, found: Found) -> Any:
        """End the lookup with what a plain tier has, when the caches above it have kept it."""
        way.breaker.succeeded()
        way.counts.hit(len(found.data))
        if self.turn is not None:
            self.turn.ended(way.name)
        self.ticket = None
        self.leads = False
        if way.keepers:
            self.steps = self._keep(way, found)
            return self.steps.send(None)
        self.live.flights.land(self.key, found)
        raise StopIteration(found)

    def _keep(self, way: Way, found: Found) -> Steps[Found]:
        outcome = None
        try:
            yield from keep_steps(self.live, way.tier, way.keepers, self.key, found.data, ())
            outcome = found
            return found
        finally:
            self.live.flights.land(self.key, outcome)

    def _hand_over(self, position: int, steps: Steps[Found] | None = None) -> Any:
        """Let the steps of the composite go on from this position in the chain."""
        begun = Begun(self.live, self.plan.chain[position:], self.ticket, self._missing, self.turn, steps)
        self.leads = False
        self.steps = self.lane.composite.key_steps(self.key, begun=begun)
        return self.steps.send(None)

    def _go_on(self, outcome: Response | BaseException) -> Any:
        """Let the steps of the composite go on from the request whose `outcome` is at hand."""
        way, request = self.plan.ways[self.place], self.request
        way.tally.requests -= 1  # they count the same request
        try:
            step = self._hand_over(way.position, steps_of_get(asked_now(way.store), self.key))
        except BaseException:
            way.tally.requests += 1
            raise
        steps: Any = self.steps
        if type(step) is Request and step.plain and step.profile is request.profile and step.url == request.url:
            step.sent_at = self.since
        else:  # a setting was changed meanwhile: they ask by what holds now
            way.tally.requests += 1
            if isinstance(outcome, (Response, TransferError)):
                return step
        try:
            return steps.send(outcome) if isinstance(outcome, Response) else steps.throw(outcome)
        finally:
            del outcome  # its traceback may refer to this frame: such a cycle would keep a blob in memory

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        try:
            if self.steps is not None:
                return self.steps.throw(error)
            if self.ticket is None:
                raise error
            return self._go_on(error)
        finally:
            del error

    def close(self) -> None:
        if self.steps is not None:
            self.steps.close()
        elif self.leads:
            self.leads = False
            if self.ticket is not None:
                self.plan.ways[self.place].breaker.abandoned(self.ticket)
            self.live.flights.land(self.key, None)


def _looked(cache: Any, key: str) -> Found | Exception | None:
    """What a cache answers at once; None: its steps have to say."""
    steps = cache.get_steps(key)
    try:
        steps.send(None)
    except StopIteration as end:
        found: Found = end.value
        return found
    except Exception as error:
        return error
    steps.close()  # the blob is large, and read elsewhere
    return None


def _said(answer: Found | Exception) -> Steps[Found]:
    """The steps of a lookup that has ended so."""
    yield from ()
    if isinstance(answer, Exception):
        raise answer
    return answer
