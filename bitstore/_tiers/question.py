"""One question to one tier, and what all tiers asked so far have said: the bookkeeping of a lookup.

A question ends in exactly one of `answered`, `answered_no`, `answered_wrong`, `failed`, `skip` or `abandon`. Each
updates the tier's counts and its breaker, and adds to `Said`, which knows the error that the answers come to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Literal

from bitstore._lookup.asking import size_of
from bitstore._lookup.partial import Partial
from bitstore._support.once import warn_once
from bitstore._support.redact import redact, redact_url, text_of
from bitstore._tiers.breaker import PROBE_PAUSE, Breaker
from bitstore._tiers.chain import Chain, Tier, costs
from bitstore._tiers.runtime import Live
from bitstore.errors import (
    AccessDenied,
    InvalidDataFound,
    LimitReached,
    LookupFailed,
    LookupTimedOut,
    NotFoundInStore,
    StoreNotAvailable,
    described,
)
from bitstore.evidence import Evidence
from bitstore.observe._answer import Answer
from bitstore.steps import Found

__all__ = ["NOT_ASKED", "NOT_KEPT", "Question", "Said"]

logger = logging.getLogger("bitstore")

NOT_ASKED = "not asked, because an earlier tier failed and may hold the blob (call_when_uncertain=False)"
NOT_KEPT = "not asked, because no cache can keep what it returns (pay_unkept=False): "
_NONE: Mapping[str, tuple[Evidence, ...]] = {}
_LEFT_ALONE = "left alone for now, after repeated failures"


class Said:
    """What the tiers asked so far have said of one blob."""

    __slots__ = (
        "_loud",
        "_store",
        "bad",
        "failures",
        "key",
        "known",
        "may_pass",
        "missing",
        "spared",
        "waits",
        "watch",
    )

    def __init__(self, store: Any, key: Any) -> None:
        self._store = store
        self.key = key
        self.watch = store._watch  # observers of the lookup; None: there are none
        # Tuples, because most lookups have nothing to put in.
        self.failures: tuple[tuple[str, BaseException], ...] = ()
        self.missing: tuple[str, ...] = ()
        self.known: Mapping[str, tuple[Evidence, ...]] = _NONE  # how it is known, of tiers that were not just asked
        self.spared: tuple[str, ...] = ()  # tiers that lack the blob, which was known without asking them
        self.bad: tuple[Tier, ...] = ()  # caches whose bytes did not match
        self.may_pass = False  # whether a failure may be over by the next try
        self.waits: tuple[Breaker, ...] = ()  # breakers of the writes of caches that cannot keep what would be paid for
        self._loud = logger.isEnabledFor(logging.DEBUG)  # whether each tier's answer is logged

    def log(self, tier: Tier, answer: str, detail: object = "") -> None:
        """Log at level DEBUG what a tier has answered to this lookup."""
        if self._loud:
            text = described(detail) if isinstance(detail, BaseException) else redact(text_of(detail))
            logger.debug("%s: %s: %s%s", redact_url(text_of(self.key)), tier.name, answer, text)

    @property
    def is_empty(self) -> bool:
        """Whether no tier has said anything."""
        return not self.failures and not self.missing

    def timed_out(self, tier: Tier) -> LookupTimedOut:
        timeout = (tier.name, TimeoutError("no answer within the time limit of the lookup"))
        return LookupTimedOut(self._store, self.key, [*self.failures, timeout], self.missing)

    def learn(self, tier: Tier, error: NotFoundInStore) -> None:
        """Note how it is known that the tier lacks the blob, where it was not asked just now."""
        told = error.evidence or (Evidence(tier.name, "remembered", error.why),)
        if isinstance(tier.store, Chain):
            told = tuple(each._replace(tier=f"{tier.name} > {each.tier}") for each in told)
        else:
            told = tuple(each._replace(tier=tier.name) for each in told)
        self.known = {**self.known, tier.name: told}
        if all(each.how != "asked" for each in told):
            self.spared += (tier.name,)

    def as_appended(self, tiers: Sequence[Tier]) -> None:
        """Bring what was said into the order in which the tiers were appended, whichever was asked first."""
        places = {tier.name: place for place, tier in enumerate(tiers)}
        self.failures = tuple(sorted(self.failures, key=lambda failure: places[failure[0]]))
        self.missing = tuple(sorted(self.missing, key=places.__getitem__))

    def _evidence(self) -> tuple[Evidence, ...]:
        asked = ((name, (Evidence(name, "asked"),)) for name in self.missing)
        return tuple(each for name, told in asked for each in self.known.get(name, told))

    def error(self, live: Live, tiers: Sequence[Tier]) -> Exception:
        """The error that the answers come to: missing if all said so, else a failure that knows when to try again."""
        failures = self.failures
        if not failures:
            return NotFoundInStore(self._store, self.key, evidence=self._evidence())
        inner = [error for _, error in failures if isinstance(error, LookupFailed)]
        waits: list[Breaker | LookupFailed] = [*(live.breakers[name] for name, _ in failures), *inner, *self.waits]
        # Where a tier has come back since it failed this lookup, its breaker knows of nothing to wait for.
        soon = PROBE_PAUSE if self.may_pass else None
        pause = min((left for each in waits if (left := each.retry_in) is not None), default=soon)
        failed = LookupFailed(
            self._store,
            self.key,
            failures,
            self.missing,
            # A try that would be paid for, for nothing, is not worth it.
            retry_in=None if any(error.paid_for for error in inner) else pause,
            down_for=max(each.down_for for each in waits),
            paid_for=frozenset(tier.name for tier in tiers if tier.name in self.missing and costs(tier.store)),
        )
        failed.__cause__ = failures[-1][1]
        return failed


class Question:
    """One tier, asked for one blob."""

    __slots__ = ("_begin", "_breaker", "_stats", "_ticket", "kept", "left_out", "said", "tier", "trial")

    def __init__(self, tier: Tier, live: Live, said: Said, begun_with: int | None = None) -> None:
        self.tier = tier
        self.said = said
        self._stats = live.counts[tier.name]
        self._breaker = live.breakers[tier.name]
        self._ticket = begun_with  # of the breaker; None: the tier was not asked
        self._begin = 0.0  # when the tier was asked, on the clock of `perf_counter`; only where the lookup is watched
        self.left_out = NOT_ASKED  # why only the free part of a composite is asked, where that is so
        self.kept = True  # false: no cache above the tier can keep what it returns
        self.trial = False  # whether no cache above the tier has written yet, so that few lookups may pay

    def passed_over(self) -> None:
        """The store does not take the key."""
        self.said.spared += (self.tier.name,)
        self.said.log(self.tier, "passed over, because its is_valid says no")

    def known(self) -> None:
        """The tier has just said that it lacks the blob, in an earlier try of the same lookup."""
        self.said.missing += (self.tier.name,)
        self.said.log(self.tier, "missing, as it has said just now")

    def admitted(self) -> bool:
        """Whether the breaker lets the question pass; if not, that is a failure which may pass."""
        if self._ticket is None:
            self._ticket = self._breaker.admit()
        if self._ticket is None:
            self._failure(StoreNotAvailable(self.tier.name, f"{_LEFT_ALONE}: {self._breaker.reason}"))
            self.said.may_pass = True
        elif self.said.watch is not None:
            self._begin = perf_counter()
        return self._ticket is not None

    def answered(self, found: Found) -> None:
        self._breaker.succeeded()
        data = found.data
        size = data.size if isinstance(data, Partial) else size_of(data)
        self._stats.hit(size)
        self.said.log(self.tier, "found, bytes: ", size)
        if self.said.watch is not None:
            self._notify(None, size=size)

    def answered_no(self, error: NotFoundInStore, *, all_of_it: bool) -> None:
        self._breaker.succeeded()
        if all_of_it:
            self._stats.count("misses")
            self.said.missing += (self.tier.name,)
            if error.why or error.evidence:
                self.said.learn(self.tier, error)
            self.said.log(self.tier, "missing: " if error.why else "missing", error.why)
            if self.said.watch is not None:
                self._notify("missing")
        else:  # the rest of it may have the blob
            self.skip(self.left_out)

    def answered_wrong(self, error: InvalidDataFound) -> None:
        self._breaker.succeeded()
        self._stats.count("invalid")
        if self.said.watch is not None:
            self._notify("invalid", error)
        if not self.tier.is_cache:
            self._failed(error)
            return
        # As good as missing: it can be had below, and is then replaced here.
        self._stats.count("misses")
        self.said.log(self.tier, "invalid, to be replaced: ", error.reason)
        self.said.bad += (self.tier,)
        self.said.missing += (self.tier.name,)
        text = "cache %s: %s; it will be replaced (said once; further ones are counted in stats())"
        warn_once(logger, ("replaced", self.tier.name), text, self.tier.name, error)

    def failed(self, error: Exception) -> None:
        self._failure(error)
        if isinstance(error, (AccessDenied, LookupFailed)) or (isinstance(error, StoreNotAvailable) and error.definite):
            # A refusal is an answer, and may concern this blob alone. A composite answers for its tiers, each of which
            # has a breaker there: because of one of them the others must not be left alone.
            self._breaker.succeeded()
        elif isinstance(error, LimitReached):
            self.abandon()  # it was not asked, so nothing is known of it
        elif self._ticket is not None:
            self._breaker.failed(self._ticket, error)
            self.said.may_pass = True

    def skip(self, reason: str) -> None:
        """The tier would cost money, and is not asked for this `reason`."""
        self._stats.count("skipped")
        error = StoreNotAvailable(self.tier.name, reason)
        self.said.failures += ((self.tier.name, error),)
        self.said.log(self.tier, reason)
        if self.said.watch is not None:
            self._notify("skipped", error)

    def out_of_time(self) -> LookupTimedOut:
        """The time limit of the lookup is over before the tier has answered. Returns the error of the lookup."""
        self.abandon()
        error = self.said.timed_out(self.tier)
        if self.said.watch is not None:
            self._notify("failed", error.failures[-1][1])
        return error

    def abandon(self) -> None:
        """The lookup ends, or goes on, without an answer of the tier."""
        if self._ticket is not None:
            self._breaker.abandoned(self._ticket)

    def _failure(self, error: Exception) -> None:
        if self.said.watch is not None:
            self._notify("failed", error)
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._stats.count("failures")
        self.said.failures += ((self.tier.name, error),)
        self.said.log(self.tier, "failed: ", error)

    def _notify(
        self,
        kind: Literal["missing", "failed", "invalid", "skipped"] | None,
        error: BaseException | None = None,
        size: int = 0,
    ) -> None:
        seconds = perf_counter() - self._begin if self._begin else 0.0
        self.said.watch.answered(Answer(self.said.key, self.tier.name, seconds, size, kind, error))
