"""get_many: one answer per input, bounded, stopped cleanly; and the single-flight it shares with get."""

from __future__ import annotations

import gc
import itertools
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bitstore import (
    HTTPRaw,
    InvalidURI,
    LookupFailed,
    LookupTimedOut,
    MemoryCache,
    NotFoundInStore,
    Retry,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._lookup.loop import Loop
from bitstore._lookup.loops import loop
from bitstore._transport.libcurl.pool import process_pool
from tests.servers import CountedAPI
from tests.servers.faults import Answer, Cut, Hang, Hold, Reset
from tests.sockets import open_sockets
from tests.stores import API, Shelf, as_cache, blobs, composed
from tests.waiting import lookup_threads, wait_until

QUICK = Retry(attempts=3, first_delay=0.01)


def over(api: CountedAPI, *, retry: Retry = QUICK, **options: Any) -> Sha1Composite:
    return composed(Sha1Store(HTTPRaw(retry=retry, **options), api.blob_url(""), verify=True))


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("bitstore._lookup.loop._LINGER", 0.01)  # the end of threads is waited for
    yield
    gc.collect()
    wait_until(lambda: lookup_threads() == [])


class TestAnswers:
    def test_get_many_gives_one_answer_for_each_input(self, api: CountedAPI) -> None:
        held = blobs(300)
        api.blobs = dict(held)
        wanted = [*held, "0" * 40, *[digest.upper() for digest in held], "f" * 40]
        answers = list(over(api).get_many(wanted))
        assert sorted(blob.index for blob in answers) == list(range(len(wanted)))
        for blob in answers:
            assert blob.uri == wanted[blob.index]
            if blob.uri.lower() in held:
                assert blob.found and blob.data == held[blob.uri.lower()] and blob.source == api.blob_url("")
            else:
                assert blob.missing and blob.data is None and isinstance(blob.error, NotFoundInStore)

    def test_a_repeated_digest_is_asked_for_once(self, api: CountedAPI) -> None:
        api.blobs = blobs(5)
        hold = Hold()
        api.rules.add(hold)
        wanted = [*api.blobs] * 3
        answers = over(api).get_many(wanted)
        threading.Thread(target=lambda: (wait_until(lambda: len(api.requests) >= 5), hold.release())).start()
        assert len(list(answers)) == 15
        assert set(api.calls.values()) == {1}

    def test_ordered_answers_have_the_order_of_the_inputs(self, api: CountedAPI) -> None:
        api.blobs = blobs(100)
        first = next(iter(api.blobs))
        hold = Hold()
        rule = api.rules.add(hold, path=first)
        wanted = [*api.blobs, *api.blobs, "bad"]
        answers = over(api).get_many(wanted, ordered=True, in_flight=30)
        threading.Thread(
            target=lambda: (rule.wait_hits(), wait_until(lambda: len(api.requests) > 20), hold.release())
        ).start()
        assert [blob.uri for blob in answers] == wanted

    def test_invalid_inputs_get_answers_with_errors(self, api: CountedAPI) -> None:
        api.blobs = blobs(2)
        good = [*api.blobs]
        answers = {blob.index: blob for blob in over(api).get_many([good[0], "nonsense", None, ["x"], good[1]])}
        assert answers[0].found and answers[4].found
        assert isinstance(answers[1].error, InvalidURI) and answers[1].failed
        assert isinstance(answers[2].error, TypeError)
        assert isinstance(answers[3].error, TypeError)

    def test_lookups_are_spread_over_the_threads_of_the_option(self, api: CountedAPI) -> None:
        api.blobs = blobs(16)
        hold = Hold()
        api.rules.add(hold)
        answers = over(api).get_many(api.blobs, threads=3)
        transferring: list[str] = []

        def look() -> None:
            wait_until(lambda: len(api.requests) == 16)
            transferring.extend(name for name in lookup_threads() if name == "bitstore-transfer")
            hold.release()

        threading.Thread(target=look).start()
        assert all(blob.found for blob in answers)
        assert len(transferring) == 3

    def test_a_slow_consumer_keeps_one_transfer_thread(self, api: CountedAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        """Although each portion of its lookups has ended long before it asks for the next ones."""
        api.blobs = blobs(60)
        started: list[None] = []
        start = Loop._start
        monkeypatch.setattr(Loop, "_start", lambda self: (started.append(None), start(self))[1])
        monkeypatch.setattr("bitstore._lookup.loop._LINGER", 1.0)
        for blob in over(api).get_many(api.blobs, in_flight=4):
            assert blob.found
            wait_until(lambda: not loop()._tasks)
        assert len(started) == 1

    def test_a_fork_finds_no_thread_that_only_waits(self, api: CountedAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        """Python 3.12 and newer warn of forks beside threads."""
        monkeypatch.setattr("bitstore._lookup.loop._LINGER", 60.0)
        api.blobs = blobs(5)
        for _ in range(20):
            assert all(blob.found for blob in over(api).get_many(api.blobs))
            assert "bitstore-transfer" in lookup_threads()
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert "bitstore-transfer" not in lookup_threads()

    def test_each_errors_mode_ignores_logs_or_raises(self, api: CountedAPI, caplog: pytest.LogCaptureFixture) -> None:
        api.blobs = blobs(3)
        wanted = ["0" * 40, *api.blobs]
        store = over(api)
        assert len(list(store.get_many(wanted, errors="ignore"))) == 3
        assert len(list(store.get_many(wanted, errors="log"))) == 3
        assert "0" * 40 in caplog.text
        with pytest.raises(NotFoundInStore):
            list(store.get_many(wanted, errors="raise"))

    @pytest.mark.parametrize("patience", ["long", -1, float("nan"), None])
    def test_an_invalid_patience_is_refused_at_once(self, api: CountedAPI, patience: Any) -> None:
        with pytest.raises(ValueError, match=r"patience=.*must be a number of seconds"):
            over(api).get_many([], patience=patience)

    def test_invalid_options_are_refused_at_once(self, api: CountedAPI) -> None:
        store = over(api)
        cases: list[dict[str, Any]] = [
            {"errors": "skip"},
            {"in_flight": 0},
            {"timeout": 0},
            {"max_bytes": "many"},
            {"threads": 0},
        ]
        cases += [{name: wrong} for name in ("in_flight", "timeout", "patience") for wrong in (-1, math.nan, "5")]
        for wrong in cases:
            with pytest.raises(ValueError, match=re.escape(repr(*wrong.values()))):
                store.get_many([], **wrong)
        with pytest.raises(TypeError, match="call get"):
            store.get_many("0" * 40)

    def test_an_iterable_that_fails_loses_no_answer(self, api: CountedAPI) -> None:
        api.blobs = blobs(10)

        def inputs() -> Iterator[str]:
            yield from api.blobs
            raise RuntimeError("the list broke")

        seen: list[str] = []
        answers = over(api).get_many(inputs())
        with pytest.raises(RuntimeError, match="the list broke"):
            seen.extend(blob.uri for blob in answers)
        assert sorted(seen) == sorted(api.blobs)

    def test_a_store_that_only_has_get_serves_get_many(self) -> None:
        held = blobs(50)
        answers = list(Shelf(held).get_many([*held, "nope"]))
        assert {blob.uri: blob.data for blob in answers if blob.found} == held
        assert [blob.uri for blob in answers if blob.missing] == ["nope"]

    def test_a_failure_in_a_batch_is_no_absence(self, api: CountedAPI) -> None:
        api.blobs = blobs(30)
        api.rules.add(Answer(500, b"oops"), path="/[0-7]")
        for blob in over(api).get_many(api.blobs, patience=0):
            assert blob.failed == (blob.uri[0] in "01234567")
            assert blob.error is None or isinstance(blob.error, LookupFailed)

    def test_transient_faults_in_a_batch_are_retried(self, api: CountedAPI) -> None:
        api.blobs = blobs(30, size=5000)
        api.rules.add(Answer(503), times=5)
        api.rules.add(Reset(), times=5)
        api.rules.add(Cut(100), times=5)
        store = over(api, retry=Retry(attempts=20, first_delay=0.001))
        assert all(blob.found for blob in store.get_many(api.blobs))
        assert len(api.requests) == 45


class TestOutage:
    @pytest.mark.usefixtures("skipped_pauses")
    def test_a_short_outage_fails_no_lookup(self, api: CountedAPI) -> None:
        api.blobs = blobs(200)
        api.rules.add(Answer(500), times=45)
        store = over(api)
        assert all(blob.found for blob in store.get_many(api.blobs))
        assert store.stats()[api.blob_url("")].breaker == "closed"
        assert len(api.requests) <= 200 + 45

    @pytest.mark.parametrize("fault", [Answer(503), Reset(), Answer(429)], ids=["503", "reset", "429"])
    @pytest.mark.usefixtures("skipped_pauses")
    def test_the_last_lookup_also_waits_for_the_end_of_an_outage(self, api: CountedAPI, fault: Any) -> None:
        """Alone it makes too few failures for its tier to be left alone."""
        api.blobs = blobs(1)
        api.rules.add(fault, times=4)
        (blob,) = over(api, retry=Retry(attempts=1)).get_many(api.blobs)
        assert blob.found
        assert len(api.requests) == 5

    def test_a_store_that_is_unreachable_for_one_blob_is_no_outage(self, api: CountedAPI) -> None:
        """As long as others are answered: here the inputs go on until the bad one has failed."""
        api.blobs = blobs(1000)
        bad = next(iter(api.blobs))
        api.rules.add(Answer(503), path=bad)
        failed = threading.Event()

        def inputs() -> Iterator[str]:
            yield bad
            good = itertools.cycle(digest for digest in api.blobs if digest != bad)
            yield from itertools.takewhile(lambda _: not failed.is_set(), good)

        for blob in over(api, retry=Retry(attempts=1)).get_many(inputs(), in_flight=20):
            assert blob.found == (blob.uri != bad)
            if not blob.found:
                failed.set()
        assert api.calls[bad] == 3

    def test_one_blob_that_always_fails_is_no_outage(self, api: CountedAPI) -> None:
        api.blobs = blobs(100)
        bad = next(iter(api.blobs))
        api.rules.add(Answer(500), path=bad)
        answers = list(over(api).get_many(api.blobs))
        assert [blob.uri for blob in answers if blob.failed] == [bad]
        assert api.calls[bad] == 3 * 3

    @pytest.mark.usefixtures("skipped_pauses")
    def test_a_long_outage_is_waited_for_once(self, api: CountedAPI) -> None:
        """And the store that is down is left alone: 400 lookups make few requests."""
        api.blobs = blobs(400)
        api.rules.add(Answer(500))
        store = over(api)
        answers = list(store.get_many(api.blobs, patience=2.0, in_flight=50))
        assert all(isinstance(blob.error, LookupFailed) for blob in answers)
        assert len(api.requests) <= 3 * 3 * 50
        assert store.stats()[api.blob_url("")].breaker != "closed"

    def test_blobs_of_other_tiers_are_found_during_an_outage(self, api: CountedAPI) -> None:
        held = blobs(100)
        api.rules.add(Reset())
        store = over(api)
        store.append_source(Shelf(held))
        assert all(blob.source == "Shelf" for blob in store.get_many(held))
        assert len(api.requests) <= 3 * 100


class TestWindow:
    def test_an_endless_input_is_read_only_as_far_as_the_window(self, api: CountedAPI) -> None:
        api.blobs = blobs(10)
        read = 0

        def inputs() -> Iterator[str]:
            nonlocal read
            for digest in itertools.cycle(api.blobs):
                read += 1
                yield digest

        for count, blob in enumerate(over(api).get_many(inputs(), in_flight=50), 1):
            assert blob.found
            assert read - count < 50 + 50
            if count == 1000:
                break

    def test_bytes_that_wait_for_the_consumer_are_bounded(self, api: CountedAPI) -> None:
        """A consumer that does not take: what was fetched for it stays within bounds."""
        api.blobs = blobs(200, size=1_000_000)
        answers = over(api).get_many(api.blobs, max_bytes="10MB", in_flight=100)
        first = [next(answers) for _ in range(100)]
        assert all(blob.found for blob in first)
        wait_until(lambda: lookup_threads() == [])  # all that was begun has ended
        # The first portion goes out before any size is known; after that about 10 blobs fit.
        assert len(api.requests) <= 100 + 40
        assert sum(1 for _ in answers) == 100


class TestStopping:
    def test_closing_a_batch_gives_up_its_lookups(self, api: CountedAPI) -> None:
        api.blobs = blobs(100)
        api.rules.add(Hang(), skip=10)
        store = over(api)
        answers = store.get_many(api.blobs, in_flight=60)
        for _ in range(10):
            next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert lookup_threads() == [] or wait_until(lambda: lookup_threads() == []) is None
        assert len(store._live().flights) == 0
        api.rules.clear()
        assert store.get(next(iter(api.blobs)))

    def test_a_lookup_out_of_time_fails_and_the_rest_are_found(self, api: CountedAPI) -> None:
        api.blobs = blobs(20)
        slow = next(iter(api.blobs))
        api.rules.add(Hang(), path=slow)
        store = over(api)
        answers = {blob.uri: blob for blob in store.get_many(api.blobs, timeout=1.0)}
        assert len(answers) == 20
        assert isinstance(answers[slow].error, LookupTimedOut)
        assert answers[slow].failed and not answers[slow].missing
        assert sum(blob.found for blob in answers.values()) == 19
        with pytest.raises(LookupTimedOut):
            store.get(slow, timeout=0.2)
        [blob] = Sha1Store(HTTPRaw(), api.blob_url("")).get_many([slow], timeout=0.2)
        assert isinstance(blob.error, StoreNotAvailable) and "0.2" in str(blob.error)

    def test_ctrl_c_ends_a_batch_cleanly(self, api: CountedAPI) -> None:
        api.blobs = blobs(1)
        rule = api.rules.add(Hang())
        code = (
            "import sys; from bitstore import *\n"
            "store = Sha1Composite(); store.append_source(Sha1Store(HTTPRaw(), sys.argv[1]))\n"
            "try: list(store.get_many([sys.argv[2]]))\n"
            "except KeyboardInterrupt: print('stopped')\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, api.blob_url(""), next(iter(api.blobs))], stdout=subprocess.PIPE, text=True
        )
        rule.wait_hits()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("stopped\n", 0)

    def test_python_exits_cleanly_with_lookups_under_way(self, api: CountedAPI) -> None:
        api.blobs = blobs(50)
        api.rules.add(Hang(), skip=5)
        code = (
            "import sys; from bitstore import *\n"
            "store = Sha1Composite(); store.append_source(Sha1Store(HTTPRaw(), sys.argv[1]))\n"
            "answers = store.get_many(sys.argv[2:]); next(answers); print('leaving')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, api.blob_url(""), *api.blobs], capture_output=True, text=True, timeout=60
        )
        assert (done.stdout, done.stderr, done.returncode) == ("leaving\n", "", 0)


class TestSingleFlight:
    def test_threads_share_one_fetch_of_a_digest(self) -> None:
        [(digest, data)] = blobs(1).items()
        shelf = Shelf({digest: data}, gated=True)
        store = composed(shelf)
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(store.get(digest))) for _ in range(8)]
        for thread in threads:
            thread.start()
        flights = store._live().flights
        wait_until(lambda: len(flights) == 1 and len(flights._open[digest]._callbacks) == 7)
        shelf.gate.set()
        for thread in threads:
            thread.join(30)
        assert results == [data] * 8
        assert shelf.asked == [digest]

    def test_get_and_get_many_share_one_fetch_of_a_digest(self) -> None:
        [(digest, data)] = blobs(1).items()
        shelf = Shelf({digest: data}, gated=True)
        store = composed(shelf)
        results: list[Any] = []
        batch = threading.Thread(target=lambda: results.extend(blob.data for blob in store.get_many([digest])))
        batch.start()
        assert shelf.entered.acquire(timeout=30)
        single = threading.Thread(target=lambda: results.append(store.get(digest)))
        single.start()
        wait_until(lambda: len(store._live().flights._open[digest]._callbacks) == 1)
        shelf.gate.set()
        batch.join(30), single.join(30)
        assert results == [data, data] and shelf.asked == [digest]

    def test_a_failing_leader_gives_each_follower_an_error_object_of_its_own(self) -> None:
        shelf = Shelf(fail=OSError("down"), gated=True)
        store = composed(shelf)
        errors: list[Exception] = []

        def ask() -> None:
            try:
                store.get("0" * 40)
            except LookupFailed as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(
            lambda: len(store._live().flights) == 1 and len(store._live().flights._open["0" * 40]._callbacks) == 3
        )
        shelf.gate.set()
        for thread in threads:
            thread.join(30)
        assert len(errors) == 4 and len({id(error) for error in errors}) == 4
        assert len({str(error) for error in errors}) == 1
        assert shelf.asked == ["0" * 40]

    def test_a_leader_that_is_closed_ends_no_follower(self, api: CountedAPI) -> None:
        api.blobs = blobs(1)
        [(digest, data)] = api.blobs.items()
        first = api.rules.add(Hang(), times=1)
        store = over(api)
        leader = store.get_many([digest, "0" * 40])
        next(leader)  # the missing one; the other hangs
        first.wait_hits()
        results: list[Any] = []
        follower = threading.Thread(target=lambda: results.append(store.get(digest)))
        follower.start()
        wait_until(lambda: len(store._live().flights._open[digest]._callbacks) == 1)
        leader.close()  # type: ignore[attr-defined]
        follower.join(30)
        assert results == [data]

    def test_a_leader_out_of_time_ends_no_follower(self, api: CountedAPI) -> None:
        api.blobs = blobs(1)
        [(digest, data)] = api.blobs.items()
        first = api.rules.add(Hang(), times=1)
        store = over(api)
        results: list[Any] = []

        def lead() -> None:
            with pytest.raises(LookupTimedOut):
                store.get(digest, timeout=1.0)
            results.append("out of time")

        leader = threading.Thread(target=lead)
        leader.start()
        first.wait_hits()
        [blob] = store.get_many([digest])
        leader.join(30)
        assert blob.data == data and results == ["out of time"]


def _child(store: Sha1Composite, digests: list[str], out: Any) -> None:
    out.put((store.get(digests[0]), sorted(blob.data or b"" for blob in store.get_many(digests)), lookup_threads()))


class TestProcesses:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_a_fork_while_transfers_run_leaves_both_processes_working(self, api: CountedAPI, method: str) -> None:
        """The parent has used its store and has transfers and flights under way at the moment of the fork."""
        api.blobs = blobs(40)
        digests = [*api.blobs]
        store = over(api)
        assert store.get(digests[0])
        hold = Hold()
        rule = api.rules.add(hold, skip=1, times=5)
        answers = store.get_many(digests)
        taken = [next(answers)]
        rule.wait_hits(5)
        context: Any = multiprocessing.get_context(method)
        out = context.Queue()
        child = context.Process(target=_child, args=(store, digests, out))
        child.start()
        one, many, _ = out.get(timeout=60)
        child.join(30)
        assert child.exitcode == 0
        assert one == api.blobs[digests[0]] and many == sorted(api.blobs.values())
        hold.release()
        taken += answers
        assert sorted(blob.data or b"" for blob in taken) == sorted(api.blobs.values())

    def test_a_forked_child_has_handles_and_a_thread_of_its_own(self, api: CountedAPI) -> None:
        """To use, or free, those of the parent would disturb connections that the parent still uses."""
        api.blobs = blobs(3)
        store = over(api)
        assert all(blob.found for blob in store.get_many(api.blobs)) and store.get(next(iter(api.blobs)))
        mine = loop(), process_pool()
        child = os.fork()
        if child == 0:  # nothing of pytest may run in the child
            os._exit(int(loop() is mine[0] or process_pool() is mine[1]))
        assert os.waitpid(child, 0)[1] == 0
        assert (loop(), process_pool()) == mine

    def test_batches_leak_no_sockets(self, api: CountedAPI) -> None:
        api.blobs = blobs(50)
        store = over(api)
        list(store.get_many(api.blobs))
        for _ in range(20):
            list(store.get_many(api.blobs))
            answers = store.get_many(api.blobs)
            next(answers)
            answers.close()  # type: ignore[attr-defined]
        wait_until(lambda: open_sockets(api.port) <= 64)  # kept connections, at most one per transfer at a time


def test_paid_calls_are_as_many_as_distinct_digests(api: CountedAPI) -> None:
    held = blobs(100)
    paid = API(held)
    store = composed(as_cache(MemoryCache()), paid)
    assert sum(blob.found for blob in store.get_many([*held] * 3, in_flight=1000)) == 300
    assert len(paid.calls) == len(set(paid.calls)) == 100
