"""The composite: an ordered chain of sources and caches, itself a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bitstore._limits.budget import Budget
from bitstore._lookup.asking import steps_of_exists, steps_of_get
from bitstore._lookup.download import steps_of_download
from bitstore._lookup.opened import dropped, steps_of_open
from bitstore._lookup.partial import Elsewhere, Partial
from bitstore._lookup.run import run
from bitstore._support import clock
from bitstore._support.checks import ChecksOptions
from bitstore._support.compat import warn_of_unused
from bitstore._tiers.chain import Chain, Tier, costs
from bitstore._tiers.express import Begun, express
from bitstore._tiers.hedge import Hedge, Link, hedged_steps
from bitstore._tiers.keep import keep_steps
from bitstore._tiers.order import Order
from bitstore._tiers.paying import cannot_keep, store_worth_paying
from bitstore._tiers.putting_off import as_asked, asked_last, asked_now
from bitstore._tiers.question import NOT_ASKED, Question, Said
from bitstore._tiers.ranking import RankedTier
from bitstore._tiers.runtime import Live
from bitstore._tiers.turns import Turn, Turns
from bitstore._tiers.views import free_part
from bitstore.errors import (
    InvalidDataFound,
    LookupFailed,
    LookupTimedOut,
    NotFoundInStore,
    StoreNotAvailable,
)
from bitstore.observe._answer import OnAnswer
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
    pay_unkept
        Ask paid tiers although it is known that none of the caches above them can keep what they return. Off by
        default, so that a blob that cannot be kept is not paid for at each lookup.
    on_answer
        A function that is called with an `Answer` whenever a tier has answered a lookup: see the attribute.
    budget
        What all calls and requests of its tiers are paid from: see the attribute.
    order
        `"learned"`, or a `LearnedOrder`: free sources that were appended one after another are asked by what they have
        answered so far, not in that order. Caches and paid sources stay where they are.

    hedge
        The largest share of the lookups, such as 0.05, in which the next free source is asked as well where one is
        slower than all but this share of its answers. `get` and `get_many` are hedged.

    Raises
    ------
    TypeError
        `on_answer` is no plain function.
    ValueError
        `order` or `hedge` is none of these.
    """

    call_when_uncertain = False
    pay_unkept = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, {"_write_to_cache": "override `put` of the cache instead"})

    def __init__(
        self,
        *,
        call_when_uncertain: bool = False,
        pay_unkept: bool = False,
        on_answer: OnAnswer | None = None,
        budget: Budget | None = None,
        order: Order = "written",
        hedge: float | None = None,
    ) -> None:
        self.call_when_uncertain = call_when_uncertain
        self.pay_unkept = pay_unkept
        if on_answer is not None:
            self.on_answer = on_answer
        if budget is not None:
            self.budget = budget
        if order != "written":
            self.order = order
        if hedge is not None:
            self.hedge = hedge

    def is_valid(self, uri: Any) -> bool:
        """Whether any tier understands `uri`. True where no tier is read: the lookup then says so."""
        read = [tier.store for tier in self.tiers if tier.read]
        return not read or any(store.is_valid(uri) for store in read)

    def canonical(self, uri: Any) -> Any:
        """`uri` itself: what its spellings are, only the tiers know."""
        if not any(tier.read for tier in self.tiers):
            raise self._nothing_asked(uri)
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
        begin = express(self)
        steps = self.get_steps(uri) if begin is None else begin(self.canonical(uri))
        data: bytes = run(steps, timeout=timeout).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether a tier holds `uri`. Paid tiers are not asked, so False means "not to be had for free".

        Raises `InvalidURI` and `LookupFailed` as `get` does.
        """
        return run(self.exists_steps(uri))

    def get_steps(self, uri: Any) -> Steps[Found]:
        key = self.canonical(uri)
        steps = self.key_steps(key)
        return steps if self._watch is None else self._watch.lookup(self, key, steps)

    @property
    def key_steps_of_batch(self) -> Callable[..., Steps[Found]]:
        """`key_steps` for a batch that the calling thread begins: as observers see it, or by the express lane."""
        if self._watch is not None:
            return self._watch.lookups(self, self.key_steps)
        return express(self) or self.key_steps

    def key_steps(
        self,
        key: Any,
        paid_for: frozenset[str] = frozenset(),
        look: Callable[[Store, Any], Steps[Found]] | None = None,
        kept: bool = False,
        begun: Begun | None = None,
        turn: Turn | None = None,
    ) -> Steps[Found]:
        live = self._live() if begun is None else begun.live
        while begun is None and (flight := live.flights.lead(key)) is not None:
            try:
                yield Wait(flight)
            except Cancelled:
                waited = TimeoutError(
                    "another lookup of this blob was under way, and did not end within the time limit"
                )
                raise LookupTimedOut(self, key, [(self.label, waited)]) from None
            # A leader that was closed or ran out of its caller's time ends no other lookup: one of those that waited
            # fetches again. What it found, or its error, is the answer for all.
            if (found := flight.result) is not None:
                return found
        outcome: Found | Exception | None = None
        try:
            walk = self._walk if self._hedge is None or look is not None or begun is not None else self._hedged
            found = yield from walk(key, live, look or steps_of_get, paid_for, kept, begun, turn)
            if not isinstance(found.data, Elsewhere):  # what went to a file is no answer for others
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
        steps = self._download_steps(key, partial)
        return steps if self._watch is None else self._watch.lookup(self, key, steps)

    def _download_steps(self, key: Any, partial: Partial) -> Steps[Found]:
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

    def open_steps(self, uri: Any, verify: bool | None = None) -> Steps[Found]:
        key = self.canonical(uri)
        steps = self.key_steps(key, look=lambda store, key: steps_of_open(store, key, verify))
        return steps if self._watch is None else self._watch.lookup(self, key, steps)

    def _walk(
        self,
        key: Any,
        live: Live,
        look: Callable[[Store, Any], Steps[Found]] = steps_of_get,
        paid_for: frozenset[str] = frozenset(),
        kept: bool = False,
        begun: Begun | None = None,
        turn: Turn | None = None,
    ) -> Steps[Found]:
        """Ask tier after tier; the first that has the blob ends it. What the others said becomes the error."""
        is_part = begun is not None and begun.said is not None
        said = Said(self, key) if begun is None or begun.said is None else begun.said
        chain: Iterable[tuple[Tier, tuple[Tier, ...]]] = self._chain
        begun_tier = None  # the one whose ticket and steps are at hand
        if begun is not None:
            chain, turn = begun.chain, begun.turn
            begun_tier = next((tier for tier, _ in chain), None)
            said.missing += begun.missing
        elif (turn := turn or self._turn(key, live)) is not None:
            chain = turn.links
        late = asked_last(chain, key, live, said) if self._indexed and not is_part else None
        chain = chain if late is None else late
        takes_bytes = look is steps_of_get
        look = as_asked(look) if self._indexed else look
        try:
            for tier, keepers in chain:
                if not tier.read:
                    continue
                ticket, at_hand = (begun.ticket, begun.steps) if begun and tier is begun_tier else (None, None)
                question = Question(tier, live, said, ticket)
                begin = 0.0 if turn is None else clock.monotonic()
                try:
                    store = self._store_to_ask(question, key, paid_for)
                    if store is not None and keepers and not (kept or self.pay_unkept) and costs(store):
                        store = yield from store_worth_paying(question, store, live, keepers, key)
                    if store is None or not question.admitted():
                        continue
                    if (
                        (kept or (keepers and question.kept))
                        and isinstance(store, Composite)
                        and cannot_keep(store._live())
                    ):
                        found = yield from store.key_steps(store.canonical(key), kept=True)  # it is kept here
                        if not takes_bytes:  # a file is wanted, or bytes that are checked
                            found = yield from look(_Answer(found), key)  # type: ignore[arg-type]
                    else:
                        steps = look(store, key) if at_hand is None else at_hand
                        if takes_bytes and at_hand is None and live.latencies is not None:
                            steps = live.latencies.sampled(tier.store, steps)
                        found = yield from steps
                    if not found.matched and tier.is_cache and self._must_match(tier):
                        dropped(found)
                        raise InvalidDataFound(
                            tier.name, key, "its bytes never matched the digest, and the sources verify"
                        )
                except InvalidDataFound as error:
                    question.answered_wrong(error)
                except NotFoundInStore as error:
                    question.answered_no(error, all_of_it=store is tier.store)
                except Exception as error:  # whatever a user's store raises means that we do not know
                    question.failed(error)
                except GeneratorExit:
                    question.abandon()
                    raise
                except Cancelled:
                    raise question.out_of_time() from None
                else:
                    question.answered(found)
                    if turn is not None and not is_part:
                        turn.ended(tier.name, said.spared)
                    if keepers and not isinstance(found.data, Elsewhere):
                        yield from keep_steps(live, tier, keepers, key, found.data, said.bad)
                    return found if found.source == tier.name else found._replace(source=tier.name)
                finally:
                    if question.trial:
                        live.trial.leave(settled=any(keeper.name in live.written for keeper in keepers))
                if turn is not None and tier.name not in said.spared:
                    turn.in_vain(tier.name, clock.monotonic() - begin)
        finally:
            if late is not None:  # an error that is raised refers to this frame, and so it would be counted late
                late.close()
        if is_part:
            return None  # type: ignore[return-value]  # `_hedged` asks for it
        raise self._end(key, live, said, turn)

    def _end(self, key: Any, live: Live, said: Said, turn: Turn | None) -> Exception:
        """The error of a lookup in which no tier had the blob."""
        if said.is_empty and not self._is_free_part:
            return self._nothing_asked(key)
        if turn is not None:
            turn.ended(None, said.spared)
        if turn is not None or self._hedge is not None:
            said.as_appended(self.tiers)
        return said.error(live, self.tiers)

    def _hedged(
        self,
        key: Any,
        live: Live,
        look: Callable[[Store, Any], Steps[Found]],
        paid_for: frozenset[str],
        kept: bool,
        begun: Begun | None,
        turn: Turn | None,
    ) -> Steps[Found]:
        """The walk, in which a slow source may be asked at the same time as those after it."""
        said = Said(self, key)
        turn = turn or self._turn(key, live)
        chain = self._chain if turn is None else turn.links
        late = asked_last(chain, key, live, said) if self._indexed else None
        hedge: Hedge | None = live.hedge
        if hedge is None or hedge.share != self._hedge:
            hedge = live.hedge = Hedge(self._hedge or 0.0)

        def ask(link: Link) -> Steps[Found | None]:
            return self._walk(key, live, look, paid_for, kept, Begun(live, (link,), None, (), turn, said=said))

        try:
            answer = yield from hedged_steps(late or iter(chain), ask, live, said, key, hedge)
        finally:
            if late is not None:
                late.close()
        if answer is None:
            raise self._end(key, live, said, turn)
        found, link, raced = answer
        if turn is not None and not raced:  # else it is not known what the slow source would have said
            turn.ended(link[0].name, said.spared)
        return found

    def ranking(self) -> tuple[RankedTier, ...]:
        """Where each free source stands in the learned order, and why: by cohort, in the order in which they are asked.

        Only sources that stand beside another are listed: others have a place that is not learned. Nothing is listed
        where `order` is `"written"`.
        """
        turns = self._turns(self._live())
        return () if turns is None else turns.ranking()

    def _turns(self, live: Live) -> Turns | None:
        """The orders of its sources, where they are learned."""
        turns: Turns | None = live.turns
        order = self._order  # read once, because another thread may set it meanwhile
        if order is None:
            return None
        if turns is None or turns.links is not self._chain or turns.order is not order:
            turns = live.turns = Turns(self._chain, live.learned, order, live.is_up)
        return turns

    def _turn(self, key: Any, live: Live) -> Turn | None:
        """The order in which the tiers are asked for `key`; None: as they were appended."""
        turns = self._turns(live)
        return None if turns is None else turns.turn(key)

    def _store_to_ask(self, question: Question, key: Any, paid_for: frozenset[str]) -> Store | None:
        """The tier's store, or what may be asked of it now; None: nothing, and `question` knows why."""
        tier, said = question.tier, question.said
        if not tier.store.is_valid(key):
            question.passed_over()
            return None
        if tier.name in paid_for:
            question.known()
            return None
        store: Store | None = tier.store
        if said.failures and not self.call_when_uncertain and costs(tier.store):
            store = free_part(tier.store)  # of a composite, what costs nothing is still asked
            if store is None:
                question.skip(NOT_ASKED)
        return store

    def _nothing_asked(self, key: Any) -> LookupFailed:
        """The error of a lookup in which no tier could be asked: it says nothing about the blob."""
        read = [tier.name for tier in self.tiers if tier.read]
        if not self.tiers:
            reason = "the composite has no tiers: add them with append_source and append_cache"
        elif not read:
            reason = "none of its tiers is read: add a source with append_source, or a cache without read=False"
        else:
            reason = f"no tier takes this key: is_valid says no in {', '.join(read)}"
        return LookupFailed(self, key, [(self.label, StoreNotAvailable(self.label, reason))])

    def _must_match(self, tier: Tier) -> bool:
        """Whether bytes in a cache that do not match their digest cannot be right."""
        return False

    def exists_steps(self, uri: Any) -> Steps[bool]:
        return (yield from self.holder_steps(self.canonical(uri))) is not None

    def holder_steps(self, key: Any, paid: bool = False) -> Steps[str | None]:
        """Steps that end in the name of the first tier that holds `key`; None: none does, as far as was asked.

        With `paid`, what no other tier holds is looked up as `get` does, so that caches keep what is paid for.
        """
        asked = False
        failures: list[tuple[str, BaseException]] = []
        chain: Iterable[tuple[Tier, tuple[Tier, ...]]] = self._chain
        if (turns := self._turns(self._live())) is not None:
            chain = turns.present(key).links
        if self._indexed:
            chain = asked_last([link for link in chain if not link[0].paid], key, self._live())
            asked = any(tier.read and tier.store.is_valid(key) for tier in self.tiers)
        for tier, _ in chain:
            try:
                if not tier.read or not tier.store.is_valid(key):
                    continue
                asked = True  # a paid tier, too, would be asked by `get`
                if not tier.paid and (yield from steps_of_exists(asked_now(tier.store), key)):
                    return tier.name
            except Exception as error:  # as in _walk
                if not (tier.is_cache and isinstance(error, InvalidDataFound)):  # else as good as missing
                    failures.append((tier.name, error))
        if paid and costs(self):
            try:
                return (yield from self.key_steps(key)).source
            except NotFoundInStore:
                return None
            except LookupTimedOut:
                raise
            except LookupFailed as error:  # without what says when to try again: another try could be paid for again
                raise LookupFailed(self, key, error.failures, error.missing) from error.__cause__
        if failures:
            raise LookupFailed(self, key, failures) from failures[-1][1]
        if not asked and not self._is_free_part:
            raise self._nothing_asked(key)
        return None


class _Answer:
    """What another lookup has found, as a store."""

    def __init__(self, found: Found) -> None:
        self.label = found.source
        self._data = found.data

    def get(self, uri: Any) -> Any:
        return self._data
