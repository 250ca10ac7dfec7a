"""The express lane: a lookup without generators, as long as plain tiers give plain answers.

A plain tier is a verifying digest store over a raw store of this library. The lane asks it for the request with which
its steps would begin (`first_request`), and takes whole blobs that match and plain absences. Everything else is for
the steps of the composite, which stay the only authority: they begin where the lane is, and get the answer in hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import lru_cache, partial
from typing import Any, NamedTuple

from bitstore._lookup.asking import steps_of_get
from bitstore._lookup.retry import TransferCounts
from bitstore._support import clock
from bitstore._tiers.breaker import Breaker
from bitstore._tiers.chain import Tier
from bitstore._tiers.runtime import Live
from bitstore._tiers.stats import TierCounts
from bitstore._tiers.turns import Links, Turn
from bitstore.steps import Found, Request, Response, Steps, TransferError

__all__ = ["Begun", "Express", "express"]

logger = logging.getLogger("bitstore")

# What a subclass may have of its own without changing how lookups are asked.
_HARMLESS = frozenset({"URI_HINT", "_abc_impl", "algorithm", "logger", "verify"})
_METHODS = ("canonical", "get", "get_steps", "is_valid", "key_steps")  # by which stores are asked
_ACCESS = {"__getattr__", "__getattribute__"}  # the special methods that may change it


def express(composite: Any) -> Callable[..., Steps[Found]] | None:
    """What makes the lookup of a canonical key by the express lane; None: no tier of `composite` is plain."""
    if composite._watch is not None:
        return None
    if composite._order is not None:  # which tier comes first is another matter for each lookup
        return partial(Express, composite) if _speaks(composite.__class__, "takes_express") else None
    if not _plan(composite, composite._live()).ways:
        return None
    return partial(Express, composite)


def _plan(composite: Any, live: Live) -> Plan:
    plan: Plan | None = live.plan
    if plan is None or plan.chain is not composite._chain or not plan.fits():
        plan = live.plan = Plan(composite, live, composite._chain)
    return plan


def _plan_of_turn(composite: Any, live: Live, turn: Turn) -> Plan:
    plan: Plan | None = turn.plan
    if plan is None or not plan.fits():
        plan = turn.plan = Plan(composite, live, turn.links)
    return plan


def _speaks(cls: Any, name: str) -> bool:
    """Whether `cls` has something as `name`, and its lookups are those of the class that wrote it there."""
    bases = cls.__mro__
    owner = next((base for base in bases if name in vars(base)), None)
    if owner is None or not vars(owner)[name]:
        return False
    if any(getattr(owner, method, owner).__module__.partition(".")[0] != "bitstore" for method in _METHODS):
        return False  # a method was put into a class of this library
    names = _names(owner)
    return all(names.isdisjoint(vars(base)) for base in bases[: bases.index(owner)])


@lru_cache(maxsize=64)
def _names(owner: Any) -> set[str]:
    """What a subclass of `owner` must not have of its own."""
    return {name for name in dir(owner) if not name.startswith("__")} - _HARMLESS | _ACCESS


class _Way(NamedTuple):
    """A plain tier, and what it is made of."""

    position: int  # in the chain
    name: str
    store: Any
    raw: Any
    tally: TransferCounts
    counts: TierCounts
    breaker: Breaker


class Begun(NamedTuple):
    """Where the lane is with a lookup, for the steps that go on with it."""

    live: Live  # the lookup leads the flight of its key there
    chain: tuple[tuple[Tier, tuple[Tier, ...]], ...]  # the tiers that are still to answer, and what keeps their blobs
    ticket: int | None  # of the breaker of the first of them, where that was asked already
    missing: tuple[str, ...]  # names of the tiers that lack the blob
    turn: Turn | None  # the learned order in which the tiers are asked; None: they are asked as they were appended


class Plan:
    """The plain tiers with which a chain of a composite begins. It holds as long as it `fits`."""

    __slots__ = ("_attributes", "_numbers", "chain", "ways")

    def __init__(self, composite: Any, live: Live, chain: Links) -> None:
        self.chain = chain
        ways: list[_Way] = []
        parts: list[Any] = [composite]
        algorithm: Any = getattr(composite, "algorithm", None)
        chain = chain if _speaks(composite.__class__, "takes_express") else ()
        for position, (tier, keepers) in enumerate(chain):
            if not tier.read:
                continue
            store: Any = tier.store
            raw: Any = getattr(store, "base_store", None)
            if (
                keepers
                or not all(_speaks(part.__class__, "first_request") for part in (store, raw))
                or store.algorithm != algorithm
            ):
                break
            parts += [store, raw]
            ways.append(
                _Way(position, tier.name, store, raw, raw.counts(), live.counts[tier.name], live.breakers[tier.name])
            )
        # A method may be put into an object, in place of that of its class.
        patched = any(callable(getattr(type(part), name, None)) for part in parts for name in vars(part))
        self.ways = () if patched else tuple(ways)
        self._attributes = [vars(part) for part in parts]
        self._numbers = [len(vars(part)) for part in parts]

    def fits(self) -> bool:
        """Whether none of its parts has another attribute."""
        return list(map(len, self._attributes)) == self._numbers


class Express(Generator[Any, Any, Found]):
    """The lookup of one key: as steps, for drivers. Whichever driver begins it has to end or close it."""

    __slots__ = (
        "_composite",
        "_key",
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

    def __init__(self, composite: Any, key: Any, paid_for: frozenset[str] = frozenset()) -> None:
        self._composite = composite
        self._key = key
        self._paid_for = paid_for
        self._steps: Steps[Found] | None = None  # those of the composite, once they have taken over
        self._missing: tuple[str, ...] = ()  # names of the tiers that lack the blob
        self._ticket: int | None = None  # of the breaker of the tier that is being asked; None: none is
        self._turn: Turn | None = None  # the learned order in which the tiers are asked; None: as they were appended

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
            way.breaker.succeeded()
            way.counts.hit(len(answer.body))
            found = Found(answer.body, way.name)
            self._ticket = None
            self._live.flights.land(key, found)
            if self._turn is not None:
                self._turn.ended(way.name)
            raise StopIteration(found)
        return self._after(way) if missing else self._go_on(answer)

    def _begin(self) -> Any:
        composite, key = self._composite, self._key
        live = composite._live()
        if composite._order is None:
            plan = _plan(composite, live)
        else:
            turn = self._turn = composite._turns(live).turn(key)
            plan = _plan_of_turn(composite, live, turn)
        if (
            plan.ways
            and composite._watch is None
            and live.look is steps_of_get
            and not self._paid_for
            and not logger.isEnabledFor(logging.DEBUG)
        ):
            self._live, self._plan = live, plan
            request = self._ask(0, plan.ways[0])
            if request is not None:
                return request
        self._steps = composite.key_steps(key, self._paid_for, turn=self._turn)
        return self._steps.send(None)

    def _ask(self, place: int, way: _Way) -> Request | None:
        """The request to a plain tier, which counts as sent; None: it cannot be asked so now."""
        ticket = way.breaker.admit_if_closed()
        try:
            request: Request | None = way.store.first_request(self._key) if way.raw is way.store.base_store else None
        except Exception:  # as in `send`
            return None
        if ticket is None or request is None:
            return None
        if place == 0 and self._live.flights.lead(self._key) is not None:
            return None  # another lookup is under way: the steps wait for it
        self._ticket = ticket
        self._place = place
        self._request = request
        self._since = clock.monotonic()
        way.tally.requests += 1
        return request

    def _after(self, way: _Way) -> Any:
        """Ask the next tier, as this one has said that it lacks the blob."""
        way.breaker.succeeded()
        way.counts.count("misses")
        if self._turn is not None:
            self._turn.in_vain(way.name, clock.monotonic() - self._since)
        self._missing += (way.name,)
        place = self._place + 1
        request = self._ask(place, self._plan.ways[place]) if place < len(self._plan.ways) else None
        if request is not None:
            return request
        begun = Begun(self._live, self._plan.chain[way.position + 1 :], None, self._missing, self._turn)
        self._steps = self._composite.key_steps(self._key, begun=begun)
        return self._steps.send(None)

    def _go_on(self, outcome: Response | BaseException) -> Any:
        """Let the steps of the composite go on from the question whose `outcome` is at hand."""
        way, request = self._plan.ways[self._place], self._request
        begun = Begun(self._live, self._plan.chain[way.position :], self._ticket, self._missing, self._turn)
        steps = self._steps = self._composite.key_steps(self._key, begun=begun)
        way.tally.requests -= 1  # they count the same request
        try:
            step = steps.send(None)
        except BaseException:
            way.tally.requests += 1
            raise
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
        elif self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self._plan.ways[self._place].breaker.abandoned(ticket)
            self._live.flights.land(self._key, None)
