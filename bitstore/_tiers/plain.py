"""The plain tiers with which a chain begins: those that the express lane may ask (`bitstore._tiers.express`).

A plain tier is a verifying digest store over a raw store of this library, or a cache that answers at once (in memory,
on the local disk). It is plain only as long as its classes are those of this library.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from bitstore._tiers.breaker import Breaker
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.runtime import Live
from bitstore._tiers.stats import TierCounts
from bitstore._tiers.turns import Links, Turn

__all__ = ["Plan", "Way", "plan_of", "plan_of_turn", "speaks"]

# What a subclass may have of its own without changing how lookups are asked.
_HARMLESS = frozenset({"URI_HINT", "_abc_impl", "algorithm", "logger", "verify"})
_METHODS = ("canonical", "get", "get_steps", "is_valid", "key_steps")  # by which stores are asked
_ACCESS = {"__getattr__", "__getattribute__"}  # the special methods that may change it


def plan_of(composite: Any, live: Live) -> Plan:
    """The plan of the chain as it was appended, which is made again where it does not fit any more."""
    plan: Plan | None = live.plan
    if plan is None or plan.chain is not composite._chain or not plan.fits():
        plan = live.plan = Plan(composite, live, composite._chain)
    return plan


def plan_of_turn(composite: Any, live: Live, turn: Turn) -> Plan:
    """The plan of the chain in a learned order, as `plan_of`."""
    plan: Plan | None = turn.plan
    if plan is None or not plan.fits():
        plan = turn.plan = Plan(composite, live, turn.links)
    return plan


class Way(NamedTuple):
    """A plain tier, and what it is made of."""

    position: int  # in the chain
    tier: Tier
    keepers: tuple[Tier, ...]  # the caches that keep what it returns
    name: str
    store: Any
    raw: Any  # below the store; None: a cache that answers at once
    tally: Any  # the counts of the raw store
    counts: TierCounts
    breaker: Breaker


class Plan:
    """The plain tiers with which a chain of a composite begins. It holds as long as it `fits`."""

    __slots__ = ("_attributes", "_numbers", "chain", "ways")

    def __init__(self, composite: Any, live: Live, chain: Links) -> None:
        self.chain = chain
        ways: list[Way] = []
        parts: list[Any] = [composite]
        algorithm: Any = getattr(composite, "algorithm", None)
        chain = chain if speaks(composite.__class__, "takes_express") else ()
        for position, (tier, keepers) in enumerate(chain):
            if not tier.read:
                continue
            store: Any = tier.store
            raw: Any = getattr(store, "base_store", None)
            if speaks(store.__class__, "answers_at_once"):
                raw = None
            elif (
                not all(speaks(part.__class__, "first_requests") for part in (store, raw))
                or store.algorithm != algorithm
                or costs(store)
            ):
                break
            parts += [store] if raw is None else [store, raw]
            tally = None if raw is None else raw.counts()
            counts, breaker = live.counts[tier.name], live.breakers[tier.name]
            ways.append(Way(position, tier, keepers, tier.name, store, raw, tally, counts, breaker))
        # A method may be put into an object, in place of that of its class.
        patched = any(callable(getattr(type(part), name, None)) for part in parts for name in vars(part))
        self.ways = () if patched else tuple(ways)
        self._attributes = [vars(part) for part in parts]
        self._numbers = [len(vars(part)) for part in parts]

    def fits(self) -> bool:
        """Whether none of its parts has another attribute."""
        return list(map(len, self._attributes)) == self._numbers


def speaks(cls: Any, name: str) -> bool:
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
