"""What callers and a system in need do to the transfer thread: none of it may leave anybody waiting for ever."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bitstore import HTTPRaw, Retry, S3Raw, Sha1Composite, Sha1Store, Store
from bitstore._lookup.loops import loop
from tests.raw_server import RawServer
from tests.servers import CountedAPI, Hang, Hold
from tests.sockets import open_sockets
from tests.stores import Shelf, blobs, composed
from tests.waiting import lookup_threads

HELD = blobs(100)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(hello) as running:
        yield running


def hello(peer: socket.socket, head: bytes, count: int) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def data(store: Store, uris: Any, **options: Any) -> list[Any]:
    """What a batch finds, in order; one that never ends is a failure of the test."""
    answers: list[Any] = []

    def look() -> None:
        answers.append([blob.data or blob.error for blob in store.get_many(uris, ordered=True, **options)])

    asking = threading.Thread(target=look, daemon=True)
    asking.start()
    asking.join(30)
    assert answers, ("it hangs", lookup_threads(), loop()._tasks, loop().workers.__dict__, loop().workers._jobs.qsize())
    found: list[Any] = answers[0]
    return found


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, (lookup_threads(), loop()._tasks, loop().workers.__dict__)
        time.sleep(0.005)


class Asking(Store):
    """A user's store whose `get` asks another one."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self.ask = ask

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str)

    def get(self, uri: str) -> Any:
        return self.ask(uri)


class TestWithin:
    """More lookups at once than there are threads for blocking calls, each of which asks for another one."""

    def test_a_batch_within_the_get_of_a_store_ends(self) -> None:
        inner = Asking(lambda uri: uri.encode())
        middle = Asking(lambda uri: next(inner.get_many([uri])).data)
        outer = Asking(lambda uri: next(middle.get_many([uri])).data)
        names = [f"{number}" for number in range(100)]
        assert data(outer, names, in_flight=100) == [name.encode() for name in names]
        wait_until(lambda: not lookup_threads())

    def test_a_batch_of_s3_that_first_needs_credentials_ends(self, server: RawServer) -> None:
        together = threading.Barrier(32)  # as many as there are threads

        def ask(uri: str) -> Any:
            store = S3Raw("anonymous", endpoint_url=server.url, region="us-east-1")
            together.wait(60)
            return next(store.get_many([f"s3://bucket/{uri}"])).data

        with ThreadPoolExecutor(4) as pool:
            outer = [pool.submit(data, Asking(ask), map(str, range(16))) for _ in range(4)]
            assert [each.result(60) for each in outer] == [[b"hello"] * 16] * 4

    def test_followers_of_lookups_that_another_batch_leads_are_answered(self) -> None:
        """The threads wait for lookups of another batch, whose own calls stand behind them in the line."""
        names = list(HELD)[:16]  # as many as a batch begins with
        inner = composed(Shelf(HELD))
        gate = threading.Event()

        def ask(uri: str) -> Any:
            assert gate.wait(60)
            return inner.get(uri)

        with ThreadPoolExecutor(5) as pool:
            try:
                outer = [pool.submit(data, Asking(ask), names) for _ in range(4)]
                wait_until(lambda: loop().workers._unfinished == 64)  # of which 32 have a thread
                leading = pool.submit(data, inner, names)
                wait_until(lambda: len(inner._live().flights) == 16)
            finally:
                gate.set()
            assert [each.result(60) for each in (*outer, leading)] == [[HELD[name] for name in names]] * 5

    def test_a_batch_within_the_consumer_of_a_batch_ends(self, server: RawServer) -> None:
        store = HTTPRaw()
        urls = [f"{server.url}/{number}" for number in range(50)]
        assert sum(len(data(store, urls[:5])) for blob in store.get_many(urls) if blob.found) == 250


class TestNeed:
    def test_no_free_thread_is_an_error_and_no_hang(self, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
        url, store = f"{server.url}/blob", HTTPRaw()
        wait_until(lambda: not lookup_threads())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                list(store.get_many([url]))
        assert data(store, [url]) == [b"hello"]

    def test_lookups_without_a_worker_thread_fail_and_later_ones_succeed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = composed(Shelf(HELD))
        start = threading.Thread.start

        def refused(thread: threading.Thread) -> None:
            if thread.name == "bitstore-worker":
                refuse()
            start(thread)

        wait_until(lambda: not lookup_threads())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            errors = data(store, HELD, patience=0)
        assert all("can't start new thread" in str(error) for error in errors)
        fresh = composed(Shelf(HELD))
        assert data(fresh, HELD) == list(HELD.values())

    def test_two_threads_for_blocking_calls_serve_every_lookup(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = threading.Thread.start

        def refused(thread: threading.Thread) -> None:
            if thread.name == "bitstore-worker" and lookup_threads().count(thread.name) >= 2:
                refuse()
            start(thread)

        store = composed(Shelf(HELD))
        wait_until(lambda: not lookup_threads())
        monkeypatch.setattr(threading.Thread, "start", refused)
        assert data(store, HELD) == list(HELD.values())

    def test_an_interrupt_while_the_transfer_thread_starts_leaves_it_usable(
        self, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = threading.Thread.start

        def interrupted(thread: threading.Thread) -> None:
            if thread.name == "bitstore-transfer":
                raise KeyboardInterrupt
            start(thread)

        url, store = f"{server.url}/blob", HTTPRaw()
        wait_until(lambda: not lookup_threads())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                list(store.get_many([url]))
        assert data(store, [url]) == [b"hello"]

    def test_a_defect_in_the_transfer_thread_ends_its_lookups_and_later_ones_succeed(
        self, api: CountedAPI, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A defect of ours, made here: those that wait are told, and nothing of what was under way comes after it."""
        rule = api.rules.add(Hold())
        api.blobs = HELD
        composite, store = Sha1Composite(), HTTPRaw()
        composite.append_source(Sha1Store(HTTPRaw(), api.blob_url("")))
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        with ThreadPoolExecutor(2) as pool:
            many = pool.submit(data, composite, list(HELD)[:8], patience=0)
            rule.wait_hits(8)
            one = pool.submit(composite.get, next(iter(HELD)))  # waits for what the batch fetches
            loop()._post(break_down)
            assert all(isinstance(error, ZeroDivisionError) for error in many.result(30))
            rule.action.release()  # type: ignore[attr-defined]
            assert one.result(30) == HELD[next(iter(HELD))]
        assert data(store, [f"{server.url}/{number}" for number in range(20)]) == [b"hello"] * 20
        assert not loop().scheduler.active and not composite._live().flights

    @pytest.mark.parametrize("limit", [1e7, 1e30, float("inf")])
    def test_a_time_limit_far_in_the_future_is_accepted(self, server: RawServer, limit: float) -> None:
        url = f"{server.url}/blob"
        assert data(HTTPRaw(), [url], timeout=limit) == [b"hello"]
        composite = composed(Sha1Store(HTTPRaw(), f"{server.url}/"))
        assert composite.get("0" * 40, timeout=limit) == b"hello"


def break_down() -> None:
    raise ZeroDivisionError


def refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


class TestConsumers:
    """Callers that do not close the iterator, in one way or another."""

    def begun(self, api: CountedAPI) -> Iterator[Any]:
        rule = api.rules.add(Hang(), skip=1)
        api.blobs = HELD
        store = composed(Sha1Store(HTTPRaw(retry=Retry(attempts=1)), api.blob_url("")))
        answers = store.get_many(HELD, in_flight=30)
        assert next(answers).found
        rule.wait_hits(8)
        return answers

    def nothing_left(self, api: CountedAPI) -> None:
        wait_until(lambda: not lookup_threads())
        assert open_sockets(api.port) <= 1  # the one whose exchange was over is kept

    def test_a_batch_that_is_dropped_leaves_nothing_under_way(self, api: CountedAPI) -> None:
        answers = self.begun(api)
        del answers
        self.nothing_left(api)

    def test_a_batch_left_in_a_reference_cycle_leaves_nothing_under_way(self, api: CountedAPI) -> None:
        cycle: list[Any] = [self.begun(api)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        self.nothing_left(api)

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
    def test_a_consumer_that_raises_leaves_nothing_under_way(self, api: CountedAPI, kind: type[BaseException]) -> None:
        api.blobs = HELD
        rule = api.rules.add(Hang(), skip=1)
        store = composed(Sha1Store(HTTPRaw(), api.blob_url("")))

        def consume() -> None:
            for blob in store.get_many(HELD, in_flight=30):
                rule.wait_hits(8)
                raise kind(blob.uri)

        with pytest.raises(kind) as caught:
            consume()
        del caught  # its traceback holds the frame, and that the iterator
        self.nothing_left(api)

    def test_many_threads_with_all_kinds_of_calls_are_answered(self, api: CountedAPI) -> None:
        api.blobs = HELD
        store = composed(Sha1Store(HTTPRaw(), api.blob_url(""), True))
        names = list(HELD)

        def work(number: int) -> int:
            if number % 3 == 0:
                return sum(blob.found for blob in store.get_many(names))
            if number % 3 == 1:
                return sum(store.get(name) == HELD[name] for name in names)
            answers = store.get_many(names * 10, in_flight=20)
            found = sum(next(answers).found for _ in names)
            answers.close()  # type: ignore[attr-defined]
            return found

        with ThreadPoolExecutor(32) as pool:
            assert list(pool.map(work, range(32))) == [100] * 32
        wait_until(lambda: not lookup_threads())
        assert not store._live().flights
