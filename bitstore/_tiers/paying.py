"""Whether a store that costs money is worth asking: only while a cache can keep what it returns."""

from __future__ import annotations

from typing import Any

from bitstore._tiers.chain import Chain, Tier, costs
from bitstore._tiers.keep import cannot_keep_steps
from bitstore._tiers.question import NOT_KEPT, Question
from bitstore._tiers.runtime import Live
from bitstore._tiers.views import free_part
from bitstore.errors import AccessDenied, StoreNotAvailable, described
from bitstore.steps import Steps, Wait
from bitstore.store import Store

__all__ = ["cannot_keep", "store_worth_paying"]


def cannot_keep(live: Live) -> bool:
    """Whether a cache is known not to keep what was paid for."""
    return bool(live.unwritable or live.refused or live.doubted)


def store_worth_paying(
    question: Question, store: Store, live: Live, keepers: tuple[Tier, ...], key: Any
) -> Steps[Store | None]:
    """`store`, or what costs nothing of it while no cache can keep what it returns; None: `question` knows why."""
    said = question.said
    own = isinstance(store, Chain) and all(store.keepers_of(tier) for tier in store.tiers if costs(tier.store))
    if own and not cannot_keep(store._live()):  # type: ignore[attr-defined]
        return store  # it keeps what it pays for
    while True:
        reasons = None
        if cannot_keep(live) or said.failures:
            reasons = yield from cannot_keep_steps(live, keepers, key, dict(said.failures))
        question.kept = reasons is None
        if own:  # what has caches of its own knows whether one of them can keep it
            return store
        if reasons is not None:
            break
        if any(keeper.name in live.written for keeper in keepers):
            return store
        others = live.trial.enter()
        if others is None:
            question.trial = True
            return store
        yield Wait(others)
    said.waits += tuple(live.writers[name] for name, error in reasons.items() if _may_pass(live, name, error))
    why = NOT_KEPT + "; ".join(f"{name}: {described(error)}" for name, error in reasons.items())
    free: Store | None = free_part(store)
    if free is None:
        question.skip(why)
    question.left_out = why
    return free


def _may_pass(live: Live, name: str, error: BaseException) -> bool:
    """Whether a cache that cannot keep a blob may be able to soon."""
    definite = isinstance(error, AccessDenied) or (isinstance(error, StoreNotAvailable) and error.definite)
    return name in live.unwritable and not definite
