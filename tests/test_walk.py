"""What an answer of a tier does to the error, the caches, the log and the breakers."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest

from bitstore import Composite, FileRaw, LookupFailed, NotFoundInStore, Sha1Composite, Store, StoreNotAvailable
from bitstore._support.once import given
from bitstore._tiers.breaker import FAILURES, FIRST_PAUSE, PROBE_LIMIT, Breaker
from bitstore._tiers.single_flight import Flight
from bitstore._tiers.trial import Trial
from bitstore.errors import AccessDenied, InvalidDataFound, WriteConflict
from bitstore.steps import Call, Cancelled, Found, Steps, Write
from tests.stores import API, Box, Shelf, as_cache, as_source, blobs, down, full, with_tiers

pytestmark = pytest.mark.usefixtures("skipped_pauses")

HELD = blobs(40)
DIGEST, *OTHERS = HELD
DATA = HELD[DIGEST]


class Versioned(Box):
    """A cache with versions, which notes how it was written, and whose copy may be bad."""

    def __init__(self, bad: bool = False) -> None:
        super().__init__()
        self.bad = bad
        self.written: list[tuple[bool, str | None]] = []

    def get(self, uri: str) -> bytes:
        if self.bad:
            raise InvalidDataFound(self, uri, "other bytes")
        return super().get(uri)

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        yield Call(self.put, uri, data)
        self.bad = False
        self.written.append((write.only_if_absent, write.replacing))

    def version_steps(self, uri: Any) -> Steps[str | None]:
        yield Call(lambda: None)
        return "v1"


class Picky(Box):
    def is_valid(self, uri: Any) -> bool:
        return False


def chain(*stores: Store, **options: Any) -> Sha1Composite:
    composite = Sha1Composite(**options)
    for number, store in enumerate(stores, 1):
        append = composite.append_cache if isinstance(store, Box) else composite.append_source
        append(store, name=f"tier {number}")
    return composite


def failed(store: Composite, digest: str = DIGEST, **options: Any) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        store.get(digest, **options)
    return caught.value


class TestErrors:
    def test_an_error_names_the_outcome_of_every_tier(self) -> None:
        """In order: which failed, and which lack the blob; the paid tier was not asked."""
        store = chain(Shelf(), down(), Shelf(), down(AccessDenied("x", "403")), API(HELD))
        error = failed(store)
        assert [name for name, _ in error.failures] == ["tier 2", "tier 4", "tier 5"]
        assert error.missing == ["tier 1", "tier 3"]
        assert str(error).startswith(f"{DIGEST}: lookup failed: tier 2: OSError: down; tier 4: ")
        assert str(error).endswith(f"(tier 5 is not available) (missing in tier 1, tier 3) (in {store!r})")
        for digest in OTHERS[:2]:
            skipped = dict(failed(store, digest).failures)["tier 5"]
            assert "call_when_uncertain=False" in str(skipped)

    def test_wrong_bytes_are_named_in_the_error(self) -> None:
        class Wrong(Shelf):
            def get(self, uri: str) -> bytes:
                raise InvalidDataFound(self, uri, "other bytes")

        error = failed(chain(Wrong(), down()))
        assert [type(each) for _, each in error.failures] == [InvalidDataFound, OSError]

    def test_an_absence_names_the_composite(self) -> None:
        store = chain(Shelf())
        with pytest.raises(NotFoundInStore, match=r"Sha1Composite\[Shelf"):
            store.get(DIGEST)

    def test_a_lookup_out_of_time_names_the_outcomes_before(self) -> None:
        store = chain(Shelf(), down(), Shelf())
        steps = store.get_steps(DIGEST)
        next(steps)
        steps.throw(NotFoundInStore("tier 1", DIGEST))
        steps.throw(OSError("down"))
        with pytest.raises(LookupFailed) as caught:
            steps.throw(Cancelled())
        assert [name for name, _ in caught.value.failures] == ["tier 2", "tier 3"]
        assert caught.value.missing == ["tier 1"]
        text = str(caught.value)
        assert text.startswith(DIGEST) and "tier 3: TimeoutError: no answer within" in text and repr(store) in text

    def test_exists_names_blob_and_composite(self) -> None:
        store = chain(down())
        with pytest.raises(LookupFailed) as caught:
            store.exists(DIGEST)
        assert str(caught.value).startswith(DIGEST) and repr(store) in str(caught.value)
        nothing = chain(Picky())
        with pytest.raises(LookupFailed) as caught:
            nothing.exists(DIGEST)
        assert str(caught.value).startswith(DIGEST) and repr(nothing) in str(caught.value)
        assert "(Sha1Composite is not available)" in str(caught.value)

    def test_a_refusal_is_not_worth_another_try(self) -> None:
        assert failed(chain(down(AccessDenied("x", "403")))).retry_in is None
        assert failed(chain(down())).retry_in is not None

    def test_a_copy_of_an_error_names_the_original(self) -> None:
        flight, error = Flight(), OSError("down")
        flight.land(error)
        with pytest.raises(OSError, match="down") as caught:
            assert flight.result
        assert caught.value is not error and caught.value.__cause__ is error


class TestNextTry:
    def test_a_paid_tier_that_was_not_asked_is_asked_when_the_outage_is_over(self) -> None:
        class Back(Shelf):
            def get(self, uri: str) -> bytes:
                self.fail = OSError("down") if not self.asked else None
                return super().get(uri)

        api = API(HELD)
        [blob] = chain(Back(), api).get_many([DIGEST])
        assert blob.data == DATA and api.calls == [DIGEST]

    def test_absences_of_all_tries_are_named(self, caplog: pytest.LogCaptureFixture) -> None:
        store = chain(Shelf(), API({}), down(), call_when_uncertain=True)
        with caplog.at_level(logging.DEBUG, "bitstore"):
            [blob] = store.get_many([DIGEST])
        assert isinstance(blob.error, LookupFailed) and blob.error.missing == ["tier 1", "tier 2"]
        assert f"{DIGEST}: tier 2: missing, as it has said just now" in caplog.messages

    def test_a_cache_that_may_keep_again_soon_is_worth_another_try(self) -> None:
        for error, worth in ((OSError("no room"), True), (AccessDenied("x", "403"), False), (TypeError("odd"), False)):
            store = chain(full(error), API(HELD))
            store.get(DIGEST)
            assert (failed(store).retry_in is not None) is worth, error
        both = chain(full(), full(OSError("no room either")), API(HELD))
        both.get(DIGEST)
        assert "tier 1: OSError: no room; tier 2: OSError: no room either" in str(failed(both))

    def test_a_cache_that_cannot_be_reached_is_an_outage(self) -> None:
        unreachable = StoreNotAvailable("x", "no route")
        unreachable.unreachable = True
        store = chain(full(unreachable), API(HELD))
        store.get(DIGEST)
        writer = store._live().writers["tier 1"]
        assert writer.down_for > 0
        writer.succeeded()
        failed(store)
        assert writer.down_for > 0


class TestCaches:
    def test_all_bad_copies_are_replaced_by_their_version(self, caplog: pytest.LogCaptureFixture) -> None:
        caches = [Versioned(bad=True), Versioned(bad=True)]
        store = chain(*caches, Shelf(HELD))
        with caplog.at_level(logging.DEBUG, "bitstore"):
            assert store.get(DIGEST) == DATA
        assert [cache.written for cache in caches] == [[(False, "v1")]] * 2
        assert f"{DIGEST}: tier 1: invalid, to be replaced: other bytes" in caplog.messages
        warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert [text.split(": ")[0] for text in warned] == ["cache tier 1", "cache tier 2"]
        assert all(DIGEST in text and "it will be replaced" in text for text in warned)

    def test_bad_copies_are_named_as_missing(self) -> None:
        store = chain(Versioned(bad=True), Versioned(bad=True), down())
        assert failed(store).missing == ["tier 1", "tier 2"]

    def test_a_cache_without_versions_is_overwritten(self) -> None:
        class Unversioned(Versioned):
            def version_steps(self, uri: Any) -> Steps[str | None]:
                yield Call(lambda: None)
                return None

        cache = Unversioned(bad=True)
        chain(cache, Shelf(HELD)).get(DIGEST)
        assert cache.written == [(False, None)]

    def test_a_blob_is_written_only_to_caches_where_it_is_absent(self) -> None:
        cache = Versioned()
        store = chain(cache, API(HELD))
        cache.fail_put = OSError("no room")
        store.get(DIGEST)
        cache.fail_put = None
        store.get(OTHERS[0])  # writes the first blob as well
        assert cache.written == [(True, None)] * 2

    def test_caches_beside_one_that_is_left_alone_or_takes_no_key_are_written(self) -> None:
        box = Box()
        store = chain(Picky(), full(), box, Shelf(HELD))
        for digest in HELD:
            store.get(digest)
        assert box.held == HELD and store.stats()["tier 2"].write_failures == len(HELD)

    def test_a_cache_that_takes_no_key_keeps_nothing(self) -> None:
        api = API(HELD)
        store = chain(Picky(), full(), api)
        store.get(DIGEST)
        failed(store)
        assert api.calls == [DIGEST]

    def test_a_cache_that_is_no_subclass_is_written(self) -> None:
        class Own:
            held: dict[str, object] = {}  # noqa: RUF012

            def is_valid(self, uri: object) -> bool:
                return True

            def get(self, uri: object) -> object:
                raise FileNotFoundError(uri)

            def put(self, uri: str, data: object) -> None:
                self.held[uri] = data

        store = Sha1Composite()
        store.append_cache(Own(), read=False)  # type: ignore[arg-type]
        store.append_source(Shelf({DIGEST: "text"}))  # type: ignore[dict-item]
        store.get(DIGEST)
        assert Own.held == {DIGEST: "text"}

    def test_a_plain_composite_takes_bytes_that_never_matched(self) -> None:
        class Unmatched(Box):
            def get_steps(self, uri: Any) -> Steps[Found]:
                yield Call(lambda: None)
                return Found(DATA, "cache", matched=False)

        store = with_tiers(Composite(), as_cache(Unmatched()), Shelf())
        assert store.get("key") == DATA

    def test_a_plain_composite_downloads_and_keeps(self, tmp_path: Path) -> None:
        (tmp_path / "blob").write_bytes(DATA)
        store = with_tiers(Composite(), as_cache(Box()), as_source(FileRaw(), "files"))
        url = f"file://{tmp_path}/blob"
        assert store.download(url, tmp_path / "out") == "files" and (tmp_path / "out").read_bytes() == DATA
        assert store.get(url) == store.get(url) == DATA and store.stats()["Box"].hits == 1

    @pytest.mark.parametrize(
        ("error", "paid", "said"),
        [
            (OSError("no"), False, " (OSError: no); lookups go on, further failures are only counted"),
            (OSError("no"), True, " that was paid for (OSError: no); what cannot be kept is not paid for again"),
            (WriteConflict("x", "no"), False, " that it had called missing (no"),
        ],
    )  # fmt: skip
    def test_a_warning_says_which_cache_could_not_keep_what_and_why(
        self, error: Exception, paid: bool, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        given.clear()
        store = chain(full(error), full(error), API(HELD) if paid else Shelf(HELD))
        store.get(DIGEST)
        other = chain(full(KeyError("other kind")), Shelf(HELD))
        other.get(DIGEST)
        warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert warned[0].startswith(f"cache tier 1 could not keep a blob{said}")
        assert warned[1].startswith("cache tier 2 could not keep") and "KeyError" in warned[2]


class TestPaying:
    def test_a_free_blob_that_is_not_kept_forbids_no_payment_but_many_do(self) -> None:
        held = dict(list(HELD.items())[1:])
        box, api = full(), API({DIGEST: DATA})
        store = chain(box, Shelf(held), api)
        store.get(OTHERS[0])
        assert not store._live().unwritable
        for digest in OTHERS[1:FAILURES]:
            store.get(digest)
        assert "no cache can keep what it returns (pay_unkept=False): tier 1: OSError: no room" in str(failed(store))
        assert api.calls == []

    @pytest.mark.parametrize("kind", ["refused", "unreachable", "no container", "caused by the disk"])
    def test_no_blob_is_paid_for_to_test_a_fault_that_hits_every_blob(self, kind: str) -> None:
        error: Exception = StoreNotAvailable("x", kind)
        if kind == "refused":
            error = AccessDenied("x", "403")
        elif kind == "caused by the disk":
            error.__cause__ = OSError(errno.ENOSPC, "no room")
        else:
            setattr(error, kind.replace(" ", "_"), True)
        api = API(HELD)
        store = chain(full(error), api)
        store.get(DIGEST)
        for digest in OTHERS:
            store._live().writers["tier 1"]._probe_at = 0.0
            failed(store, digest)
        assert api.calls == [DIGEST]

    def test_a_paid_call_that_fails_lets_the_next_one_test_the_cache(self) -> None:
        box, api = full(StoreNotAvailable("x", "HTTP 400")), API(HELD)
        store = chain(box, api)
        store.get(DIGEST)
        while store._live().unwritable["tier 1"].data is not None:
            store._live().writers["tier 1"]._probe_at = 0.0
            failed(store, OTHERS[0])
        store._live().writers["tier 1"]._probe_at = 0.0
        api.fail = OSError("down")
        failed(store, OTHERS[0])
        api.fail, box.fail_put = None, None
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]] and box.held

    def test_a_cache_that_is_back_is_tested_no_more(self) -> None:
        box, api = Versioned(), API({DIGEST: DATA})
        box.fail_put = OSError("no room")
        store = chain(box, api)
        store.get(DIGEST)
        box.fail_put = None
        for digest in OTHERS[:2]:
            with pytest.raises(NotFoundInStore):
                store.get(digest)
        assert len(box.written) == 1

    def test_the_probe_of_a_cache_that_is_refused_one_blob_lets_another_go(self) -> None:
        box = full()
        store = chain(box, Shelf(HELD))
        for digest in OTHERS[:FAILURES]:
            store.get(digest)
        writer = store._live().writers["tier 1"]
        writer._probe_at = 0.0
        box.fail_put = ValueError("too odd")
        store.get(OTHERS[10])
        box.fail_put = None
        store.get(DIGEST)
        assert box.held == {DIGEST: DATA}

    @pytest.mark.parametrize("end", ["closed", "out of time"])
    @pytest.mark.parametrize("at", ["question", "write"])
    def test_a_lookup_that_is_given_up_lets_another_probe(self, end: str, at: str) -> None:
        shelf, box = Shelf(HELD), Box()
        store = chain(box, shelf)
        live = store._live()
        breaker = live.breakers["tier 2"] if at == "question" else live.writers["tier 1"]
        for _ in range(FAILURES):
            breaker.failed(breaker._openings, OSError("down"))
        breaker._probe_at = 0.0
        steps = store.get_steps(DIGEST)
        next(steps)
        steps.throw(NotFoundInStore("tier 1", DIGEST))
        if at == "write":
            steps.send(DATA)
        if end == "closed":
            steps.close()
        else:
            with pytest.raises((StopIteration, LookupFailed)):
                steps.throw(Cancelled())
        assert store.get(DIGEST) == DATA and breaker.state == "closed" and box.held == {DIGEST: DATA}

    @pytest.mark.parametrize("end", ["closed", "out of time"])
    def test_a_probe_of_a_cache_that_is_given_up_lets_another_go(self, end: str) -> None:
        box = full()
        store = chain(box, API(HELD))
        store.get(DIGEST)
        writer = store._live().writers["tier 1"]
        for _ in range(FAILURES):
            failed(store)
        writer._probe_at = 0.0
        steps = store.get_steps(OTHERS[0])
        next(steps)
        step = steps.throw(NotFoundInStore("tier 1", OTHERS[0]))
        assert isinstance(step, Call) and step.function == box.put
        if end == "closed":
            steps.close()
        else:
            with pytest.raises(LookupFailed):
                steps.throw(Cancelled())
        box.fail_put = None
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]] and writer.state == "closed"

    def test_a_blob_that_an_inner_cache_refuses_is_paid_for_where_an_outer_one_keeps(self) -> None:
        outer = Box()
        store = chain(outer, chain(full(TypeError("odd")), API(HELD)))
        for _ in range(2):
            assert store.get(DIGEST) == DATA and outer.held.pop(DIGEST) == DATA

    def test_a_round_of_payers_ends_with_its_last_one_unless_the_caches_are_known(self) -> None:
        trial = Trial()
        assert trial.enter() is None
        first = trial.enter()
        assert first is not None and first is trial.enter()
        trial.leave(settled=False)
        assert first.landed and trial.enter() is None and trial.enter() is None
        second = trial.enter()
        assert second is not None
        trial.leave(settled=False)
        assert not second.landed and trial.enter() is second
        trial.leave(settled=False)
        assert second.landed and [trial.enter() for _ in range(4)] == [None] * 4
        third = trial.enter()
        assert third is not None
        trial.leave(settled=True)
        assert third.landed, "three are under way, and no other waits for them"
        for _ in range(3):
            trial.leave(settled=False)
        assert [trial.enter() for _ in range(4)] == [None] * 4

    def test_a_round_that_was_not_full_is_followed_by_one_of_its_size(self) -> None:
        trial = Trial()
        for _ in range(5):
            assert trial.enter() is None
            trial.leave(settled=False)
        assert [trial.enter() for _ in range(2)] == [None] * 2 and trial.enter() is not None


class TestBreakers:
    def test_probes_of_one_pause_double_it_only_once(self) -> None:
        now = [1000.0]
        breaker = Breaker("store", clock=lambda: now[0])
        for _ in range(FAILURES):
            breaker.failed(breaker._openings, OSError("down"))
        now[0] += FIRST_PAUSE
        first = breaker.admit()
        now[0] += PROBE_LIMIT
        second = breaker.admit()
        assert first is not None and first == second
        breaker.failed(first, OSError("down"))
        breaker.failed(first, OSError("down"))
        assert breaker.retry_in == 2 * FIRST_PAUSE
        now[0] += 2 * FIRST_PAUSE
        assert breaker.admit() is not None
        breaker.abandoned(breaker._openings)
        assert breaker.retry_in == 0.0

    def test_each_store_and_kind_of_error_gets_its_own_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        given.clear()
        for name, error in (("a", OSError("x")), ("b", OSError("x")), ("b", KeyError("x"))):
            breaker = Breaker(name)
            for _ in range(FAILURES):
                breaker.failed(0, error)
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
