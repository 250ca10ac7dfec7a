"""Bad schedules made on purpose, with gates and barriers: of the composite, its caches and single-flight."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import Credentials

from bitstore import (
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    LookupTimedOut,
    MemoryCache,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1Store,
)
from bitstore._tiers.single_flight import Flight, Flights
from bitstore.steps import Found
from tests.servers import CountedAPI, FakeGCS, FaultProxy, MakeProxy, SeaweedS3
from tests.servers.faults import Answer, Hang, Hold, s3_error
from tests.servers.http import Upstream
from tests.servers.wire import Request, Response, make_response
from tests.stores import API, Box, Shelf, as_cache, blobs, composed
from tests.waiting import wait_until

[(DIGEST, DATA)] = blobs(1).items()
ONCE = Retry(attempts=1)


class Slow(Box):
    """A cache whose `put` waits for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.putting = threading.Event()
        self.go_on = threading.Event()

    def put(self, uri: str, data: bytes) -> None:
        self.putting.set()
        assert self.go_on.wait(60)
        super().put(uri, data)


def run(*functions: Callable[[], object]) -> list[Any]:
    """All at once, begun together; their results."""
    together = threading.Barrier(len(functions))

    def one(function: Callable[[], object]) -> object:
        together.wait(60)
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return [future.result(60) for future in [threads.submit(one, function) for function in functions]]


class TestOneDigest:
    def test_an_eviction_leaves_an_open_file_whole_and_the_blob_is_fetched_again(self, tmp_path: Path) -> None:
        """The file that `path` named is gone when it is opened; what was open stays whole."""
        cache = DiskCache(tmp_path, algorithm="sha1")
        composite = composed(as_cache(cache), Shelf({DIGEST: DATA}))
        composite.get(DIGEST)
        with cache.path(DIGEST).open("rb") as file:
            assert cache.delete(DIGEST)
            assert file.read() == DATA
        assert composite.get(DIGEST) == DATA and cache.exists(DIGEST)

    def test_evictions_puts_and_gets_at_once_give_right_bytes(self, tmp_path: Path) -> None:
        """Whatever the order: the bytes are right, and what is on disk is whole."""
        caches = [DiskCache(tmp_path, max_size=1000, algorithm="sha1") for _ in range(3)]
        others = blobs(30, size=90)

        def read() -> None:
            for _ in range(100):
                with contextlib.suppress(NotFoundInStore):  # evicted; that it was never damaged is counted below
                    assert caches[0].get(DIGEST) == DATA

        def write() -> None:
            for digest, data in [*others.items()] * 3:
                caches[1].put(DIGEST, DATA)
                caches[1].put(digest, data)

        run(read, read, write, lambda: [caches[2].delete(DIGEST) for _ in range(100)])
        assert caches[0].stats()["damaged"] == 0
        assert caches[0].verify_all().damaged == 0
        assert caches[0].prune() <= 1000

    def test_the_blob_is_in_the_cache_before_the_answer_is_given(self) -> None:
        """A paid blob is in its cache before a lookup returns it; meanwhile others wait instead of paying again."""
        kept, api = Slow(), API({DIGEST: DATA})
        composite = composed(as_cache(kept))
        composite.append_store(api)
        answers: list[bytes] = []
        first = threading.Thread(target=lambda: answers.append(composite.get(DIGEST)))
        first.start()
        assert kept.putting.wait(60)
        second = threading.Thread(target=lambda: answers.append(composite.get(DIGEST)))
        second.start()
        callbacks = composite._live().flights._open[DIGEST]._callbacks
        wait_until(lambda: len(callbacks) == 1)
        assert answers == []
        kept.go_on.set()
        first.join(60), second.join(60)
        assert answers == [DATA, DATA] and api.calls == [DIGEST] and kept.held == {DIGEST: DATA}

    def test_a_file_damaged_while_many_ask_is_healed(self, tmp_path: Path) -> None:
        shelf = Shelf({DIGEST: DATA})
        composite = composed(as_cache(DiskCache(tmp_path)), shelf)
        composite.get(DIGEST)
        for damage in (b"", b"bad", bytes(len(DATA))):
            (tmp_path / "sha1" / DIGEST[:3] / DIGEST).write_bytes(damage)
            assert run(*[lambda: composite.get(DIGEST)] * 8) == [DATA] * 8
        assert DiskCache(tmp_path, algorithm="sha1").get(DIGEST) == DATA


class TestLeaders:
    def test_a_follower_with_time_left_takes_over_from_leaders_that_give_up(self, api: CountedAPI) -> None:
        """The leader and others run out of their own time; a lookup with time left takes over and gets the blob."""
        api.blobs = {DIGEST: DATA}
        rule = api.rules.add(Hang(), times=1)
        composite = composed(Sha1Store(HTTPRaw(retry=ONCE), api.blob_url("")))

        def ask(timeout: float | None) -> Any:
            try:
                return composite.get(DIGEST, timeout=timeout)
            except LookupTimedOut as error:
                return type(error)

        with ThreadPoolExecutor(4) as threads:
            hasty = [threads.submit(ask, 0.5) for _ in range(3)]
            rule.wait_hits()
            assert threads.submit(ask, None).result(60) == DATA
            results = [future.result(60) for future in hasty]
        assert LookupTimedOut in results and set(results) <= {LookupTimedOut, DATA}
        assert len(composite._live().flights) == 0
        assert composite._live().breakers[api.blob_url("")]._failures == 0  # their haste is no failure of the store

    def test_a_short_timeout_of_a_batch_is_no_failure_of_the_store(self, api: CountedAPI) -> None:
        api.blobs = blobs(20)
        api.rules.add(Hang())
        composite = composed(Sha1Store(HTTPRaw(retry=ONCE), api.blob_url("")))
        for blob in composite.get_many(api.blobs, timeout=0.3):
            assert isinstance(blob.error, LookupTimedOut)
        assert composite.stats()[api.blob_url("")].breaker == "closed"

    def test_a_follower_out_of_time_fails_and_its_leader_continues(self) -> None:
        """It is told so as a leader would be, and the leader goes on."""
        shelf = Shelf({DIGEST: DATA}, gated=True)
        composite = composed(shelf)
        with ThreadPoolExecutor(1) as threads:
            leader = threads.submit(composite.get, DIGEST)
            assert shelf.entered.acquire(timeout=60)
            with pytest.raises(LookupTimedOut, match="another lookup of this blob"):
                composite.get(DIGEST, timeout=0.05)
            [blob] = composite.get_many([DIGEST], timeout=0.05)
            assert isinstance(blob.error, LookupTimedOut)
            shelf.gate.set()
            assert leader.result(60) == DATA

    def test_a_lookup_out_of_time_while_a_cache_writes_gives_its_bytes(self) -> None:
        """The bytes are here: they are the answer."""
        kept = Slow()
        composite = composed(as_cache(kept, "kept"), Shelf({DIGEST: DATA}))
        [blob] = composite.get_many([DIGEST], timeout=0.5)
        assert kept.putting.is_set() and blob.data == DATA
        assert composite.stats()["kept"].write_failures == 1
        kept.go_on.set()

    def test_a_leader_that_ends_by_an_odd_exception_leaves_no_follower_waiting(self) -> None:
        """SystemExit out of a user's store ends its own thread, and no lookup waits for ever."""

        class Exits(Shelf):
            def get(self, uri: str) -> bytes:
                data = super().get(uri)
                if len(self.asked) == 1:
                    raise SystemExit(1)
                return data

        exits = Exits({DIGEST: DATA})
        exits.gate = threading.Event()
        composite = composed(exits)

        def lead() -> None:
            with pytest.raises(SystemExit):
                composite.get(DIGEST)

        leader = threading.Thread(target=lead)
        leader.start()
        assert exits.entered.acquire(timeout=60)
        answers: list[bytes] = []
        follower = threading.Thread(target=lambda: answers.append(composite.get(DIGEST)))
        follower.start()
        callbacks = composite._live().flights._open[DIGEST]._callbacks
        wait_until(lambda: len(callbacks) == 1)
        exits.gate.set()
        leader.join(60), follower.join(60)
        assert answers == [DATA] and len(exits.asked) == 2

    def test_the_death_of_the_process_of_a_leader_harms_no_other_process(self, tmp_path: Path, api: CountedAPI) -> None:
        """Processes share the disk cache alone: what dies with one is fetched by the other."""
        api.blobs = {DIGEST: DATA}
        hold = Hold()
        rule = api.rules.add(hold, times=1)
        composite = composed(as_cache(DiskCache(tmp_path)), Sha1Store(HTTPRaw(retry=ONCE), api.blob_url("")))
        context = multiprocessing.get_context("spawn")
        leader = context.Process(target=composite.get, args=(DIGEST,))
        leader.start()
        rule.wait_hits()
        assert leader.pid is not None
        os.kill(leader.pid, signal.SIGKILL)
        leader.join(60)
        assert composite.get(DIGEST) == DATA
        assert api.calls[DIGEST] == 2

    def test_a_child_forked_during_a_flight_looks_up_for_itself(self) -> None:
        """The child inherits a flight whose leader lives in the parent: it must not wait for that."""
        shelf = Shelf({DIGEST: DATA}, gated=True)
        composite = composed(shelf)
        leader = threading.Thread(target=composite.get, args=(DIGEST,))
        leader.start()
        assert shelf.entered.acquire(timeout=60)
        ours, theirs = multiprocessing.get_context("fork").Pipe()

        def in_child() -> None:
            shelf.gate = None
            theirs.send(composite.get(DIGEST))

        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        try:
            assert ours.poll(60)
            assert ours.recv() == DATA
        finally:
            child.kill()
            child.join()
            shelf.gate.set()
            leader.join(60)

    def test_a_callback_after_the_landing_is_called_at_once(self) -> None:
        flight, called = Flight(), []
        flight.land(None)
        flight.on_landing(lambda: called.append(1))
        assert called == [1]

    def test_a_callback_that_comes_between_the_landing_and_its_drain_is_called_once(self) -> None:
        """Both sides drain one list: a callback that is appended while the other side drains has one caller."""
        flight, called = Flight(), []

        def first() -> None:  # the landing is here, and a second lookup comes just now
            called.append("first")
            flight.on_landing(lambda: called.append("second"))

        flight.on_landing(first)
        flight.land(None)
        assert called == ["first", "second"]

    def test_a_lookup_that_comes_after_the_landing_leads_itself(self) -> None:
        """The flight leaves the table before it lands: no lookup waits for one that is over."""
        flights, led = Flights(), []
        assert flights.lead("key") is None
        flight = flights.lead("key")
        assert flight is not None
        flight.on_landing(lambda: led.append(flights.lead("key")))
        flights.land("key", Found(DATA, "x"))
        assert led == [None] and len(flights) == 1


class TestConsumers:
    def test_closing_a_batch_midway_leaves_whole_blobs_in_the_caches(self, tmp_path: Path, api: CountedAPI) -> None:
        api.blobs = blobs(200, size=2000)
        composite = composed(
            as_cache(DiskCache(tmp_path, algorithm="sha1")), Sha1Store(HTTPRaw(), api.blob_url(""), verify=True)
        )
        for stop_after in (1, 3, 10, 50):
            answers = composite.get_many(api.blobs)
            for _ in range(stop_after):
                assert next(answers).found
            answers.close()  # type: ignore[attr-defined]
            assert len(composite._live().flights) == 0
        assert DiskCache(tmp_path, algorithm="sha1").verify_all().damaged == 0
        assert all(blob.found for blob in composite.get_many(api.blobs))

    def test_closing_a_batch_while_a_cache_writes_leaves_it_usable(self) -> None:
        kept = Slow()
        composite = composed(as_cache(kept), Shelf({DIGEST: DATA}))
        answers = composite.get_many(["0" * 40, DIGEST])
        assert next(answers).missing
        assert kept.putting.wait(60)
        answers.close()  # type: ignore[attr-defined]
        assert len(composite._live().flights) == 0
        kept.go_on.set()
        assert composite.get(DIGEST) == DATA


class TestChains:
    def test_a_cache_appended_while_in_use_serves_later_lookups(self) -> None:
        """A walk goes on over the chain it began with; the next one has the new one."""
        shelf, early, late = Shelf({DIGEST: DATA}), MemoryCache(), Box()
        shelf.gate = threading.Event()
        composite = composed(as_cache(early), shelf)
        answers: list[bytes] = []
        walk = threading.Thread(target=lambda: answers.append(composite.get(DIGEST)))
        walk.start()
        assert shelf.entered.acquire(timeout=60)
        composite.append_cache(late)
        api = API({DIGEST: DATA, "0" * 40: b"zero"})
        composite.append_store(api)
        shelf.gate.set()
        walk.join(60)
        assert answers == [DATA] and early.get(DIGEST) == DATA and late.held == {} and api.calls == []
        assert composite.get("0" * 40) == b"zero" and late.held == {"0" * 40: b"zero"}

    def test_tiers_appended_while_many_threads_ask_are_all_kept(self) -> None:
        held = blobs(40)
        composite = composed(Shelf(held))

        def append() -> None:
            for _ in range(20):
                composite.append_cache(MemoryCache())

        def ask() -> None:
            for digest, data in held.items():
                assert composite.get(digest) == data
            assert {blob.uri: blob.data for blob in composite.get_many(held)} == held

        run(append, ask, ask, ask)
        names = list(composite.stats())
        assert len(names) == len(set(names)) == 21

    def test_attributes_changed_while_in_use_never_yield_wrong_bytes(self, tmp_path: Path) -> None:
        """`verify` and `prefix` of a store are live: each lookup sees one state or the other, never bad bytes."""
        good, bad = tmp_path / "good", tmp_path / "bad"
        for folder, data in ((good, DATA), (bad, b"wrong")):
            folder.mkdir()
            (folder / DIGEST).write_bytes(data)
        store = Sha1Store(FileRaw(), f"file://{good}/", verify=True)
        done = threading.Event()

        def flip() -> None:
            while not done.is_set():
                store.prefix = f"file://{bad}/"
                store.prefix = f"file://{good}/"

        def ask() -> None:
            try:
                for _ in range(500):
                    with contextlib.suppress(InvalidDataFound):
                        assert store.get(DIGEST) == DATA
            finally:
                done.set()

        run(flip, ask)


class TestBuckets:
    def test_two_stores_of_one_bucket_share_no_refusals(self, s3: SeaweedS3, fault_proxy: MakeProxy) -> None:
        """Good and bad credentials for one bucket at the same time: what one store learns is not the other's."""
        bucket = s3.create_bucket()
        held = blobs(50)
        for digest, data in held.items():
            s3.put(bucket, digest, data)
        proxy = fault_proxy(s3.endpoint_url)
        options: dict[str, Any] = {"endpoint_url": proxy.url, "region": "us-east-1", "retry": ONCE}
        wrong = {"aws_access_key_id": "AKIAWRONG", "aws_secret_access_key": "wrong"}
        good = Sha1Store(S3Raw(s3.admin.session, **options), f"s3://{bucket}/", True)
        also = Sha1Store(S3Raw([wrong, s3.admin.session], **options), f"s3://{bucket}/", True)
        bad = Sha1Store(S3Raw(wrong, **options), f"s3://{bucket}/", True)
        results = run(*[lambda store=store: list(store.get_many(held)) for store in (good, also, bad, good)])
        for index in (0, 1, 3):
            assert {blob.uri: blob.data for blob in results[index]} == held
        assert all(blob.failed and isinstance(blob.error, PermissionError) for blob in results[2])

    def test_keys_that_expire_during_a_burst_are_renewed(self, s3: SeaweedS3, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many answers say so at once: the session is built again once, and no lookup fails."""
        import boto3

        bucket = s3.create_bucket()
        held = blobs(60)
        for digest, data in held.items():
            s3.put(bucket, digest, data)
        session: Any = boto3.Session
        made: list[Any] = []

        def next_session(**options: Any) -> Any:
            """The administrator's at first; when that has expired, the reader's."""
            made.append(session(**(s3.reader.session if made else s3.admin.session)))
            return made[-1]

        monkeypatch.setattr(boto3, "Session", next_session)
        with Expiring(s3.endpoint_url, s3.admin.access_key, s3_error(400, "ExpiredToken")) as proxy:
            raw = S3Raw({"profile_name": "mine"}, endpoint_url=proxy.url, region="us-east-1", retry=ONCE)
            store = Sha1Store(raw, f"s3://{bucket}/", True)
            assert store.get(next(iter(held)))
            proxy.expired = True
            assert all(run(*_burst(store, held)))
            assert len(made) == 2

    def test_a_token_that_expires_during_a_burst_is_renewed(self, gcs: FakeGCS) -> None:
        class Tokens(Credentials):
            refreshes = 0

            def refresh(self, request: Any) -> None:
                self.refreshes += 1
                self.token = f"token-{self.refreshes}"
                now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
                self.expiry = now + datetime.timedelta(hours=1)

        bucket = gcs.create_bucket()
        held = blobs(60)
        for digest, data in held.items():
            gcs.put(bucket, digest, data)
        tokens = Tokens()  # type: ignore[no-untyped-call]
        with Expiring(gcs.url, "token-1", Answer(401, b'{"error": {"message": "expired"}}')) as proxy:
            store = Sha1Store(GSRaw(tokens, endpoint_url=proxy.url, retry=ONCE), f"gs://{bucket}/", True)
            assert store.get(next(iter(held)))
            proxy.expired = True
            assert all(run(*_burst(store, held)))
            assert tokens.refreshes == 2


class Expiring(FaultProxy):
    """Refuses, once `expired` is set, requests whose authorization names `who`."""

    def __init__(self, target: str, who: str, refusal: Answer) -> None:
        super().__init__(target)
        self.expired = False
        self._who = who
        self._refusal = refusal

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        if self.expired and self._who in request.headers.get("authorization", ""):
            refusal = self._refusal
            return make_response(refusal.status, refusal.body, refusal.headers, method=request.method)
        return await super()._respond(request, upstream)


def _burst(store: Sha1Store, held: dict[str, bytes]) -> list[Callable[[], bool]]:
    """A batch and eight single lookups, each true if it gets what it should."""
    singles = [partial(lambda digest: store.get(digest) == held[digest], digest) for digest in [*held][:8]]
    return [lambda: {blob.uri: blob.data for blob in store.get_many(held)} == held, *singles]
