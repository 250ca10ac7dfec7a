"""The express lane: a lookup without generators, as long as plain tiers give plain answers.

The lane asks plain tiers (`bitstore._tiers.plain`): a cache at once, and a digest store by the request with which its
steps would begin (`first_requests`). It takes whole blobs that match and plain absences. Everything else is for the
steps of the composite, which stay the only authority: they begin where the lane is, and get the answer in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from bitstore._lookup.asking import steps_of_get
from bitstore._support import clock
from bitstore._tiers.chain import Tier
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.lane import Lane
from bitstore._tiers.plain import Way, plan_of, plan_of_turn, speaks
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
    lane = Lane(composite)
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
        "_key",
        "_lane",
        "_leads",
        "_live",
        "_missing",
        "_paid_for",
        "_place",
        "_plan",
        "_request",
        "_since",
        "_steps",
        "_ticket",
        "_turn",
    )

    def __init__(self, lane: Lane, key: Any, paid_for: frozenset[str] = frozenset()) -> None:
        self._lane = lane
        self._key = key
        self._paid_for = paid_for
        self._steps: Steps[Found] | None = None  # those of the composite, once they have taken over
        self._missing: tuple[str, ...] = ()  # names of the tiers that lack the blob
        self._turn: Turn | None = None  # the learned order in which the tiers are asked; None: as they were appended
        self._leads = False  # whether the flight of the key is to be landed here
        self._place = 0  # of the plain tier that is being asked
        self._ticket: int | None = None  # of its breaker; None: none is being asked

    def send(self, answer: Any) -> Any:
        steps = self._steps
        if steps is not None:
            return steps.send(answer)
        if self._ticket is None:
            return self._begin()
        way, key = self._plan.ways[self._place], self._key
        try:
            matches = answer.status == 200 and way.store.plainly_matches(answer, key)
            missing = answer.status in (404, 410) and way.store.plainly_missing(answer)
        except Exception:  # the steps meet the same error, and know what it means
            matches = missing = False
        if matches:
            return self._found(way, Found(answer.body, way.name))
        if missing:
            self._lacks(way)
            return self._ask(self._place + 1)
        return self._go_on(answer)

    def _begin(self) -> Any:
        composite, key = self._lane.composite, self._key
        _, _, live, plan, is_open, _ = self._lane.glance(clock.monotonic())
        if plan is None:
            turn = self._turn = composite._turn(key, live)
            plan = plan_of(composite, live) if turn is None else plan_of_turn(composite, live, turn)
        if (
            is_open
            and plan.ways
            and not self._paid_for
            and live.flights.lead(key) is None  # else another lookup is under way: the steps wait for it
        ):
            self._live, self._plan, self._leads = live, plan, True
            return self._ask(0)
        self._steps = composite.key_steps(key, self._paid_for, turn=self._turn)
        return self._steps.send(None)

    def _ask(self, place: int) -> Any:
        """Ask the plain tiers from `place` on: caches at once, up to the first request, which counts as sent."""
        ways, key, latencies = self._plan.ways, self._key, self._live.latencies
        for way in ways[place:]:
            self._place = place
            place += 1
            if way.raw is None and not way.store.is_valid(key):
                continue
            self._ticket = way.breaker.admit_if_closed()
            if self._ticket is None:
                return self._hand_over(way.position)
            now = clock.monotonic()
            request = None if way.raw is None else self._lane.request(way, key, now)
            if way.raw is not None and request is None:
                return self._hand_over(way.position)
            if latencies is not None and latencies.is_due(way.store):
                steps = steps_of_get(asked_now(way.store), key)
                return self._hand_over(way.position, latencies.measured(way.store, steps))
            if request is not None:
                self._request, self._since = request, now
                way.tally.requests += 1
                return request
            self._since = now
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
        if self._turn is not None:
            self._turn.in_vain(way.name, clock.monotonic() - self._since)
        self._missing += (way.name,)
        self._ticket = None

    def _found(self, way: Way, found: Found) -> Any:
        """End the lookup with what a plain tier has, when the caches above it have kept it."""
        way.breaker.succeeded()
        way.counts.hit(len(found.data))
        if self._turn is not None:
            self._turn.ended(way.name)
        self._ticket = None
        self._leads = False
        if way.keepers:
            self._steps = self._keep(way, found)
            return self._steps.send(None)
        self._live.flights.land(self._key, found)
        raise StopIteration(found)

    def _keep(self, way: Way, found: Found) -> Steps[Found]:
        outcome = None
        try:
            yield from keep_steps(self._live, way.tier, way.keepers, self._key, found.data, ())
            outcome = found
            return found
        finally:
            self._live.flights.land(self._key, outcome)

    def _hand_over(self, position: int, steps: Steps[Found] | None = None) -> Any:
        """Let the steps of the composite go on from this position in the chain."""
        begun = Begun(self._live, self._plan.chain[position:], self._ticket, self._missing, self._turn, steps)
        self._leads = False
        self._steps = self._lane.composite.key_steps(self._key, begun=begun)
        return self._steps.send(None)

    def _go_on(self, outcome: Response | BaseException) -> Any:
        """Let the steps of the composite go on from the request whose `outcome` is at hand."""
        way, request = self._plan.ways[self._place], self._request
        way.tally.requests -= 1  # they count the same request
        try:
            step = self._hand_over(way.position, steps_of_get(asked_now(way.store), self._key))
        except BaseException:
            way.tally.requests += 1
            raise
        steps: Any = self._steps
        if type(step) is Request and step.plain and step.profile is request.profile and step.url == request.url:
            step.sent_at = self._since
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
            if self._steps is not None:
                return self._steps.throw(error)
            if self._ticket is None:
                raise error
            return self._go_on(error)
        finally:
            del error

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()
        elif self._leads:
            self._leads = False
            if self._ticket is not None:
                self._plan.ways[self._place].breaker.abandoned(self._ticket)
            self._live.flights.land(self._key, None)


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
