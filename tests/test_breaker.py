"""The circuit breaker, with a clock of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from bitstore import AccessDenied, GSRaw, LookupFailed, S3Raw, Sha1Composite, Sha1Store, Store, StoreNotAvailable
from bitstore._tiers.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, PROBE_PAUSE, Breaker
from tests.stores import API, Box, Shelf, as_source, blobs, composed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker) -> None:
    ticket = breaker.admit()
    assert ticket is not None
    breaker.failed(ticket, OSError("down"))


def opened(clock: Clock) -> Breaker:
    breaker = Breaker("store", clock=clock)
    for _ in range(FAILURES):
        fail(breaker)
    return breaker


def test_a_breaker_opens_only_after_failures_in_a_row() -> None:
    breaker = Breaker("store", clock=Clock())
    for _ in range(10 * FAILURES):
        fail(breaker)
        if breaker._failures == FAILURES - 1:
            breaker.succeeded()
    assert breaker.state == "closed"
    assert opened(Clock()).state == "open"


def test_an_open_breaker_admits_one_probe_at_a_time() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert breaker.admit() is None and breaker.retry_in == FIRST_PAUSE
    clock.now += FIRST_PAUSE
    assert breaker.state == "half-open"
    assert breaker.admit() is not None
    assert [breaker.admit() for _ in range(10)] == [None] * 10
    assert breaker.retry_in == PROBE_PAUSE  # it may be over soon: no lookup should wait long for it
    breaker.succeeded()
    assert breaker.retry_in is None and breaker.admit() is not None


def test_an_abandoned_probe_lets_another_go() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    ticket = breaker.admit()
    assert ticket is not None
    breaker.abandoned(ticket - 1)  # a call begun before it opened
    assert breaker.admit() is None
    breaker.abandoned(ticket)
    assert breaker.admit() is not None


def test_pauses_of_a_breaker_double_up_to_a_limit() -> None:
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(10):
        assert breaker.retry_in is not None
        pauses.append(breaker.retry_in)
        clock.now += breaker.retry_in
        fail(breaker)
    assert pauses == [min(LONGEST_PAUSE, FIRST_PAUSE * 2**i) for i in range(10)]
    assert breaker.down_for == clock.now


def test_each_change_of_a_breaker_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.INFO, "bitstore"):
        breaker = opened(clock)
        for _ in range(5):  # probes that fail change nothing
            clock.now += LONGEST_PAUSE
            fail(breaker)
        assert [record.message for record in caplog.records] == [
            f"store failed {FAILURES} times in a row and is left alone for now: OSError: down"
        ]
        for _ in range(3):
            breaker.succeeded()
        assert [record.message for record in caplog.records[1:]] == ["store answers again"]
        for _ in range(FAILURES):
            fail(breaker)
        breaker.succeeded()
    # A process is warned of each cause once: later changes are information.
    assert [record.levelno for record in caplog.records] == [
        logging.WARNING,
        logging.WARNING,
        logging.INFO,
        logging.INFO,
    ]


def test_the_age_of_an_outage_does_not_include_an_earlier_one() -> None:
    """No lookup came in between: a new one has all its patience, whether the breaker had opened then or not."""
    clock = Clock()
    few, many = Breaker("store", clock=clock), opened(clock)
    unreachable = StoreNotAvailable("store")
    unreachable.unreachable = True
    few.failed(few._openings, unreachable)
    clock.now += 10
    assert (few.down_for, many.down_for) == (10, 10)
    clock.now += 3600
    assert many.admit() is not None
    few.failed(few._openings, unreachable)
    assert (few.down_for, many.down_for) == (0, 0)
    clock.now += 10
    fail(few)
    assert few.down_for == 10


def test_failures_of_calls_begun_before_a_breaker_opened_do_not_count() -> None:
    breaker = Breaker("store", clock=Clock())
    tickets = [breaker.admit() for _ in range(100)]
    for ticket in tickets:
        assert ticket is not None
        breaker.failed(ticket, OSError("down"))
    assert breaker.retry_in == FIRST_PAUSE


def test_a_probe_that_never_reports_does_not_block_the_next_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    assert breaker.admit() is not None
    clock.now += 1000
    assert breaker.admit() is not None


def test_threads_that_ask_at_once_get_one_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    start = threading.Barrier(16)
    admitted = []

    def ask() -> None:
        start.wait(30)
        if breaker.admit() is not None:
            admitted.append(1)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert admitted == [1]


class TestInComposite:
    def test_a_tier_with_an_open_breaker_is_left_alone_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        down, up = Shelf(), Shelf(blobs(50))
        down.fail = OSError("down")
        store = composed(as_source(down, "down"), up)
        with caplog.at_level(logging.WARNING, "bitstore"):
            for digest in up.held:
                assert store.get(digest)
        assert len(down.asked) == FAILURES
        assert store.stats()["down"].breaker == "open" and store.stats()["down"].failures == 50
        assert len([record for record in caplog.records if "left alone" in record.message]) == 1

    def test_a_tier_with_an_open_breaker_counts_as_failed_not_as_missing(self) -> None:
        down = Shelf(fail=OSError("down"))
        store = composed(down)
        for number in range(20):
            with pytest.raises(LookupFailed) as caught:
                store.get(f"{number:040x}")
        assert len(down.asked) == FAILURES
        assert "left alone" in str(caught.value) and caught.value.retry_in is not None

    def test_an_access_denied_never_opens_the_breaker(self) -> None:
        shut = Shelf(fail=AccessDenied("shut", "403"))
        store = composed(shut)
        for number in range(20):
            with pytest.raises(LookupFailed):
                store.get(f"{number:040x}")
        assert len(shut.asked) == 20

    @pytest.mark.parametrize(
        ("raw", "prefix"),
        [(S3Raw([]), "s3://bucket/"), (GSRaw({"nonsense": "yes"}), "gs://bucket/"), (GSRaw(), "gs://bucket/")],
        ids=["S3", "GCS", "GCS-none"],
    )
    def test_missing_credentials_do_not_count_as_an_outage(
        self, raw: Store, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Asking again will not help: a batch must not wait for it, and the service is not to blame."""
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        store = composed(as_source(Sha1Store(raw, prefix), "bucket"))
        answers = list(store.get_many([f"{number:040x}" for number in range(20)], patience=1000))
        assert all(isinstance(blob.error, LookupFailed) for blob in answers)
        assert store.stats()["bucket"].breaker == "closed"

    def test_a_failed_lookup_is_tried_again_although_the_tier_answers_again(self) -> None:
        """The first tier fails; while the second is asked, another lookup finds that the first answers again."""
        first, second = Shelf(), Shelf()
        first.fail = OSError("down")
        store = composed(as_source(first, "first"), second)
        second.gate = threading.Event()
        errors: list[LookupFailed] = []

        def ask() -> None:
            with pytest.raises(LookupFailed) as caught:
                store.get("0" * 40)
            errors.append(caught.value)

        asking = threading.Thread(target=ask)
        asking.start()
        assert second.entered.acquire(timeout=30)
        store._live().breakers["first"].succeeded()
        second.gate.set()
        asking.join(30)
        assert errors[0].retry_in is not None


class FullBox(Box):
    """A cache that answers and cannot keep anything."""

    tries = 0

    def put(self, uri: str, data: bytes) -> None:
        self.tries += 1
        raise OSError("no room")


def test_writes_to_a_cache_that_cannot_keep_are_paused() -> None:
    held = blobs(40)
    box, composite = FullBox(), Sha1Composite()
    composite.append_cache(box, name="box")
    composite.append_source(Shelf(held))
    assert all(composite.get(digest) == data for digest, data in held.items())
    assert box.tries == FAILURES
    stats = composite.stats()["box"]
    assert (stats.write_failures, stats.writes, stats.misses, stats.breaker) == (40, 0, 40, "closed")


@pytest.mark.parametrize("nested", [False, True])
def test_a_paid_blob_is_always_offered_to_the_cache(nested: bool) -> None:
    held = blobs(40)
    box, composite, source = FullBox(), Sha1Composite(pay_unkept=True), Sha1Composite()
    source.append_source(API(held))
    composite.append_cache(box)
    composite.append_source(source if nested else API(held))
    assert all(composite.get(digest) == data for digest, data in held.items())
    assert box.tries == 40


def test_writes_resume_when_the_cache_can_keep_again() -> None:
    held = blobs(60)
    box, composite = Box(), Sha1Composite()
    composite.append_cache(box, name="box")
    composite.append_source(Shelf(held))
    box.fail_put = OSError("no room")
    first, rest = list(held)[:20], list(held)[20:]
    for digest in first:
        composite.get(digest)
    box.fail_put = None
    writes = composite._live().writers["box"]
    writes._probe_at = 0.0  # its pause is over
    for digest in rest:
        composite.get(digest)
    assert set(box.held) == set(rest)
    assert writes.state == "closed"
