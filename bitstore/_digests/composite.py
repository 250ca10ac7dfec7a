"""A composite of stores that are addressed by digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._limits.budget import Budget
from bitstore._lookup.asking import scope_of
from bitstore._lookup.download import steps_of_download, verified
from bitstore._lookup.opened import Opened, dropped, steps_of_open
from bitstore._lookup.partial import Partial
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._tiers.chain import Tier
from bitstore._tiers.composite import Composite
from bitstore._tiers.order import Order
from bitstore.errors import InvalidDataFound, InvalidURI, LookupFailed
from bitstore.observe._answer import OnAnswer
from bitstore.steps import Call, Found, Steps
from bitstore.store import Store

if TYPE_CHECKING:
    from bitstore._planning.plan import Plan

__all__ = ["DigestComposite"]


class DigestComposite(DigestFormatMixin, Composite):
    """A composite addressed by digest, or by `<algorithm>://<digest>`. For the forms of a digest see `DigestStore`.

    Parameters
    ----------
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`; default: that of the class.
    call_when_uncertain, pay_unkept, on_answer, budget, order, hedge
        See `Composite`.
    """

    takes_express = True  # canonical keys are digests in lower case, as the express lane needs them

    def __init__(
        self,
        *,
        algorithm: str | None = None,
        call_when_uncertain: bool = False,
        pay_unkept: bool = False,
        on_answer: OnAnswer | None = None,
        budget: Budget | None = None,
        order: Order = "written",
        hedge: float | None = None,
    ) -> None:
        super().__init__(
            call_when_uncertain=call_when_uncertain,
            pay_unkept=pay_unkept,
            on_answer=on_answer,
            budget=budget,
            order=order,
            hedge=hedge,
        )
        if algorithm is not None:
            self.algorithm = digest_algorithm(algorithm).name

    def append_cache(self, cache: Store, read: bool = True, *, name: str | None = None) -> None:
        """See `Composite.append_cache`. A cache with `use_algorithm` learns the algorithm by it."""
        if hasattr(cache, "use_algorithm"):
            cache.use_algorithm(self.algorithm)
        super().append_cache(cache, read, name=name)

    def _append(self, store: Store, *, name: str | None, **how: Any) -> None:
        from bitstore._raw.base import RawStore

        # It would be passed over for each digest, and so every blob would be missing.
        if isinstance(store, RawStore) and not store.is_valid("0" * digest_algorithm(self.algorithm).length):
            wrapper = f"{self.algorithm.capitalize()}Store"
            example = f"{wrapper}({type(store).__name__}(), {str(store.URI_HINT).replace('key', 'prefix/')!r})"
            raise TypeError(f"{store!r} is addressed by URL and not by digest: wrap it, as in {example}")
        other = store.algorithm if isinstance(store, DigestFormatMixin) else self.algorithm
        if other != self.algorithm and not store.is_valid("0" * digest_algorithm(self.algorithm).length):
            raise ValueError(
                f"{store!r} holds {other} digests, and this composite is asked for {self.algorithm}: "
                "take the classes of one algorithm"
            )
        super()._append(store, name=name, **how)

    def _must_match(self, tier: Tier) -> bool:
        # It was put there when the sources did not verify, or by a process whose sources do not.
        below = self.tiers[self.tiers.index(tier) + 1 :]
        sources = [each.store for each in below if each.read and not _is_local_cache(each.store)]
        return bool(sources) and all(map(_verifies, sources))

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a digest or `<algorithm>://<digest>`. TypeError unless text or bytes."""
        return digest_algorithm(self.algorithm).parse(uri) is not None

    def canonical(self, uri: Any) -> str:
        """The bare digest in lower case."""
        digest = digest_algorithm(self.algorithm).parse(uri)
        if digest is None:
            raise InvalidURI(self, self._text(uri), hint=self.URI_HINT or self._hint())
        return digest

    def plan(
        self,
        digests: Iterable[Any],
        *,
        sample: int = 1000,
        seed: int | None = None,
        timeout: float | None = None,
        in_flight: int | None = None,
    ) -> Plan:
        """What looking up `digests` will come to: hits of each tier, requests, bytes and money, with bounds.

        It is found out from what costs nothing (caches of this machine, membership indexes, ledgers of misses), from a
        random sample that is looked for in free tiers without its bytes, and for paid tiers, which are never asked,
        from the lookups that this process has made. The bounds hold for 95 of 100 plans; they do not foresee tries
        again, nor blobs that come or go meanwhile.

        Parameters
        ----------
        digests
            What will be looked up; entries that are no digests are counted.
        sample
            How many digests are looked for, at most; 0: none, and no request is made.
        seed
            Of the random numbers that choose the sample; None: any.
        timeout, in_flight
            As for `get_many`, for the lookups of the sample.

        Raises
        ------
        ValueError
            `sample` is not a number of digests.
        """
        from bitstore._planning.planner import plan

        return plan(self, digests, sample=sample, seed=seed, timeout=timeout, in_flight=in_flight)

    def _bring(self, store: Store, key: Any, partial: Partial) -> Steps[Found]:
        def look() -> Steps[Found]:
            return steps_of_download(store, key, partial)

        return (yield from verified(store, self.algorithm, key, partial, look))

    def open_steps(self, uri: Any, verify: bool | None = None) -> Steps[Found]:
        key = self.canonical(uri)
        if not verify:
            return (yield from super().open_steps(key, verify))
        led = False

        def look(store: Store, key: Any) -> Steps[Found]:
            nonlocal led
            led = True
            return self._open_checked(store, key)

        steps = self.key_steps(key, look=look)
        found = yield from steps if self._watch is None else self._watch.lookup(self, key, steps)
        # What another lookup has found was checked only if that lookup asked for it.
        if not led and not (yield Call(self._is, found.data, key)):
            raise LookupFailed(self, key, [(found.source, InvalidDataFound(found.source, key))])
        return found

    def _open_checked(self, store: Store, key: str) -> Steps[Found]:
        found = yield from steps_of_open(store, key, True)
        data = found.data
        sure = data.checked if isinstance(data, Opened) else _verifies(store)
        if not found.matched or not (sure or (yield Call(self._is, data, key))):
            dropped(found)
            raise InvalidDataFound(store, key)
        return found

    def _is(self, data: Any, digest: str) -> bool:
        kind = digest_algorithm(self.algorithm)
        return (data.digest(kind) if isinstance(data, Opened) else kind.of(data)) == digest

    def _hint(self) -> str:
        return f"<{self.algorithm}> or {self.algorithm}://<{self.algorithm}>"


def _is_local_cache(store: Any) -> bool:
    """Whether the store has only what it was given, and by its own checks no other bytes."""
    verifies = isinstance(store, VerifyDigestMixin)
    return not verifies and bool(getattr(store, "bytes_only", False)) and scope_of(store) != "shared"


def _verifies(store: Any) -> bool:
    if isinstance(store, Composite):
        return all(_verifies(tier.store) for tier in store.tiers if tier.read and not _is_local_cache(tier.store))
    return isinstance(store, VerifyDigestMixin) and bool(getattr(store, "verify", False))
