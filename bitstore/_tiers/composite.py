"""The composite: an ordered chain of sources and caches, itself a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitstore._lookup.asking import steps_of_exists, steps_of_get
from bitstore._lookup.download import steps_of_download
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._support.checks import ChecksOptions
from bitstore._support.compat import warn_of_unused
from bitstore._tiers.chain import Chain, Tier, costs
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.question import Question, Said
from bitstore._tiers.runtime import Live
from bitstore._tiers.views import free_part
from bitstore.errors import InvalidDataFound, LookupFailed, LookupTimedOut, NotFoundInStore
from bitstore.steps import Cancelled, Found, Steps, Wait
from bitstore.store import Store

__all__ = ["Composite"]


class Composite(ChecksOptions, Chain):
    """Sources and caches, asked in the order in which they were appended.

    `get` returns the bytes of the first tier that has them. It raises `NotFoundInStore` only when every
    tier said that it lacks the blob, and `LookupFailed` when none had it and at least one could not say.

    What a tier returns is kept by every cache *above* it (appended before it) that could not answer.

    Parameters
    ----------
    call_when_uncertain
        Ask paid tiers (API sources) although an earlier tier failed and may hold the blob after all.
        Off by default, so that an outage of a bucket never becomes a bill.
    """

    call_when_uncertain = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, {"_write_to_cache": "override `put` of the cache instead"})

    def __init__(self, *, call_when_uncertain: bool = False) -> None:
        self.call_when_uncertain = call_when_uncertain

    def is_valid(self, uri: Any) -> bool:
        """Whether any tier understands `uri`."""
        return any(tier.store.is_valid(uri) for tier in self.tiers if tier.read)

    def canonical(self, uri: Any) -> Any:
        """`uri` itself: what its spellings are, only the tiers know."""
        self._check_valid(uri)
        return uri

    def get(self, uri: Any, *, timeout: float | None = None) -> bytes:
        """The bytes of `uri` from the first tier that has them; what else a user's store returns passes as it is.

        Parameters
        ----------
        uri
            What to look up.
        timeout
            Seconds for the whole lookup; None: as long as the tiers' own limits allow.

        Raises
        ------
        InvalidURI
            No tier understands `uri`.
        NotFoundInStore
            Every tier that could hold the blob said that it does not.
        LookupFailed
            No tier had it and at least one could not say; `LookupTimedOut` when `timeout` was over.
        """
        data: bytes = run(self.get_steps(uri), timeout=timeout).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether a tier holds `uri`. Paid tiers are not asked, so False means "not to be had for free".

        Raises `InvalidURI` and `LookupFailed` as `get` does.
        """
        return run(self.exists_steps(uri))

    def get_steps(self, uri: Any) -> Steps[Found]:
        return self.key_steps(self.canonical(uri))

    def key_steps(
        self,
        key: Any,
        paid_for: frozenset[str] = frozenset(),
        look: Callable[[Store, Any], Steps[Found]] | None = None,
    ) -> Steps[Found]:
        live = self._live()
        while (flight := live.flights.lead(key)) is not None:
            try:
                yield Wait(flight)
            except Cancelled:
                waited = TimeoutError(
                    "another lookup of this blob was under way, and did not end within the time limit"
                )
                raise LookupTimedOut(self, key, [(self.label, waited)]) from None
            # A leader that was closed or ran out of its caller's time takes nobody with it: one of those
            # that waited fetches anew. What it found, or its error, is the answer for all.
            if (found := flight.result) is not None:
                return found
        outcome: Found | Exception | None = None
        try:
            found = yield from self._walk(key, live, look or live.look, paid_for)
            if not isinstance(found.data, Partial):  # what went to a file is no answer for others
                outcome = found
            return found
        except LookupTimedOut:
            raise
        except Exception as error:
            outcome = error
            raise
        finally:
            live.flights.land(key, outcome)

    def download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        key = self.canonical(uri)
        led = False

        def bring(store: Store, key: Any) -> Steps[Found]:
            nonlocal led
            led = True
            return self._bring(store, key, partial)

        if not costs(self):
            return (yield from self._walk(key, self._live(), bring))
        # Where it may have to be paid for, one lookup at a time, as in `get`.
        found = yield from self.key_steps(key, look=bring)
        if not led:
            yield from self._bring(_Answer(found), key, partial)  # type: ignore[arg-type]
        return found

    def _bring(self, store: Store, key: Any, partial: Partial) -> Steps[Found]:
        return steps_of_download(store, key, partial)

    def _walk(
        self,
        key: Any,
        live: Live,
        look: Callable[[Store, Any], Steps[Found]] = steps_of_get,
        paid_for: frozenset[str] = frozenset(),
    ) -> Steps[Found]:
        """Ask tier after tier; the first that has the blob ends it. What the others said becomes the error."""
        said = Said(self, key)
        for tier, keepers in self._chain:
            if not tier.read:
                continue
            question = Question(tier, live, said)
            try:
                store = self._store_to_ask(question, key, paid_for)
                if store is None:
                    continue
                found = yield from look(store, key)
                if not found.matched and tier.is_cache and self._must_match(tier):
                    raise InvalidDataFound(tier.name, key, "its bytes never matched the digest, and the sources verify")
            except InvalidDataFound as error:
                question.answered_wrong(error)
            except NotFoundInStore:
                question.answered_no(all_of_it=store is tier.store)
            except Exception as error:  # whatever a user's store raises means that we do not know
                question.failed(error)
            except GeneratorExit:
                question.abandon()
                raise
            except Cancelled:
                question.abandon()
                raise said.timed_out(tier) from None
            else:
                question.answered(found)
                if keepers and not isinstance(found.data, Partial):
                    yield from keep_steps(live, tier, keepers, key, found.data, said.bad)
                return found if found.source == tier.name else found._replace(source=tier.name)
        raise said.error(live, self.tiers)

    def _store_to_ask(self, question: Question, key: Any, paid_for: frozenset[str]) -> Store | None:
        """The tier's store, or what may be asked of it now; None: nothing, and `question` knows why."""
        tier, said = question.tier, question.said
        if not tier.store.is_valid(key):
            return None
        if tier.name in paid_for:
            said.missing += (tier.name,)
            return None
        store: Store | None = tier.store
        if said.failures and not self.call_when_uncertain and costs(tier.store):
            store = free_part(tier.store)  # of a composite, what costs nothing is still asked
            if store is None:
                question.skip()
                return None
        return store if question.admitted() else None

    def _must_match(self, tier: Tier) -> bool:
        """Whether bytes in a cache that do not match their digest cannot be right."""
        return False

    def exists_steps(self, uri: Any) -> Steps[bool]:
        key = self.canonical(uri)
        failures: list[tuple[str, BaseException]] = []
        for tier in self.tiers:
            try:
                if (
                    tier.read
                    and not tier.paid
                    and tier.store.is_valid(key)
                    and (yield from steps_of_exists(tier.store, key))
                ):
                    return True
            except Exception as error:  # as in _walk
                failures.append((tier.name, error))
        if failures:
            raise LookupFailed(self, key, failures) from failures[-1][1]
        return False


class _Answer:
    """What another lookup has found, as a store."""

    def __init__(self, found: Found) -> None:
        self.label = found.source
        self._data = found.data

    def get(self, uri: Any) -> Any:
        return self._data
