"""`send` as a generator: fed with answers and failures by hand, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from bitstore._lookup.cut import LEAST_GAIN
from bitstore._lookup.retry import Retry, TransferCounts, send
from bitstore.steps import Profile, Request, Response, Sleep, TransferError
from tests.clock import HandClock

REQUEST = Request(Profile(), "http://127.0.0.1/blob")
OK = Response(200, b"blob", {}, 0.0)
SLOW_DOWN = Response(503, b"", {}, 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    mine = HandClock()
    monkeypatch.setattr("bitstore._support.clock.monotonic", mine.monotonic)
    return mine


class Driver:
    """Performs the steps: each request takes `seconds` and gets the next of `answers` (the last one for ever)."""

    def __init__(self, clock: HandClock, answers: list[Any], *, seconds: float = 0.0) -> None:
        self.clock = clock
        self.answers = answers
        self.seconds = seconds
        self.asked: list[Request] = []
        self.slept: list[float] = []
        self.tally = TransferCounts()

    def run(self, retry: Retry, request: Request = REQUEST) -> Response:
        steps = send(request, retry, self.tally)
        resume: Any = steps.send
        value: Any = None
        try:
            while True:
                step = resume(value)
                resume, value = steps.send, None
                if isinstance(step, Sleep):
                    self.slept.append(step.seconds)
                    self.clock.now += step.seconds
                    continue
                self.asked.append(step)
                self.clock.now += self.seconds
                value = self.answers[min(len(self.asked), len(self.answers)) - 1]
                if isinstance(value, Exception):
                    resume = steps.throw
        except StopIteration as end:
            response: Response = end.value
            return response


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The longest pause that the jitter may choose, always; and the bounds between which it chose."""
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    monkeypatch.setattr("bitstore._lookup.retry.random.uniform", uniform)
    return bounds


def test_pauses_between_tries_double_up_to_a_limit(clock: HandClock, fixed: list[tuple[float, float]]) -> None:
    driver = Driver(clock, [SLOW_DOWN])
    answer = driver.run(Retry(attempts=8, first_delay=0.5, longest_delay=4, budget=1000))
    assert answer.status == 503 and len(driver.asked) == 8
    assert driver.slept == [0.5, 1, 2, 4, 4, 4, 4]
    assert driver.tally.requests == 8 and driver.tally.retries == 7


def test_pauses_between_tries_are_spread_from_zero(clock: HandClock, fixed: list[tuple[float, float]]) -> None:
    Driver(clock, [SLOW_DOWN, SLOW_DOWN, OK]).run(Retry(first_delay=0.5))
    assert fixed == [(1.0, 1.1), (0, 0.5), (1.0, 1.1), (0, 1.0)]


def test_pauses_of_real_tries_differ(clock: HandClock) -> None:
    pauses = set()
    for _ in range(20):
        driver = Driver(clock, [SLOW_DOWN, OK])
        driver.run(Retry(first_delay=2))
        assert 0 <= driver.slept[0] <= 2
        pauses.add(driver.slept[0])
    assert len(pauses) > 10


@pytest.mark.parametrize("failure", [SLOW_DOWN, TransferError(28, "timed out"), TransferError(56, "reset")])
def test_no_try_begins_after_the_budget(clock: HandClock, fixed: Any, failure: Any) -> None:
    driver = Driver(clock, [failure], seconds=15)
    retry = Retry(attempts=100, first_delay=1, budget=40)
    if isinstance(failure, Exception):
        with pytest.raises(TransferError) as caught:
            driver.run(retry)
        assert caught.value is failure
    else:
        assert driver.run(retry) is failure
    # 15, pause 1, 31, pause 2, 48: over.
    assert len(driver.asked) == 3 and driver.slept == [1, 2]


def test_no_pause_begins_that_would_outlast_the_budget(clock: HandClock, fixed: Any) -> None:
    driver = Driver(clock, [SLOW_DOWN._replace(retry_after=31.0)])
    assert driver.run(Retry(budget=30)).status == 503
    assert len(driver.asked) == 1 and not driver.slept


def test_retry_after_is_waited_for_and_spread(clock: HandClock, fixed: list[tuple[float, float]]) -> None:
    driver = Driver(clock, [SLOW_DOWN._replace(retry_after=4.0), OK])
    assert driver.run(Retry()) is OK
    assert driver.slept == [pytest.approx(4.4)] and fixed[0] == (1.0, 1.1)


def test_a_silent_server_costs_45_seconds_at_most(clock: HandClock) -> None:
    """With the defaults: 15 s without a byte end a try."""
    driver = Driver(clock, [TransferError(28, "silence")], seconds=15)
    with pytest.raises(TransferError):
        driver.run(Retry())
    assert clock.now - 1000 <= 45


def test_a_name_that_does_not_resolve_is_asked_for_twice(clock: HandClock) -> None:
    driver = Driver(clock, [TransferError(6, "no such host")], seconds=5)
    with pytest.raises(TransferError):
        driver.run(Retry(attempts=10))
    assert len(driver.asked) == 2
    driver = Driver(clock, [TransferError(6, "no such host"), OK])
    assert driver.run(Retry()) is OK
    with pytest.raises(TransferError):
        Driver(clock, [TransferError(6, "no such host"), OK]).run(Retry(attempts=1))


@pytest.mark.parametrize("status", [200, 206, 301, 304, 400, 401, 403, 404, 412, 416, 501])
def test_an_answer_with_a_permanent_status_is_not_retried(clock: HandClock, status: int) -> None:
    driver = Driver(clock, [OK._replace(status=status)])
    assert driver.run(Retry()).status == status
    assert len(driver.asked) == 1 and driver.tally.retries == 0


@pytest.mark.parametrize("code", [3, 23, 43, 60, 63, 77])
def test_a_permanent_transfer_error_is_not_retried(clock: HandClock, code: int) -> None:
    driver = Driver(clock, [TransferError(code, "no")])
    with pytest.raises(TransferError):
        driver.run(Retry())
    assert len(driver.asked) == 1


def cut(partial: bytes, status: int = 200, **headers: str) -> TransferError:
    return TransferError(18, "cut", status, {key.replace("_", "-"): value for key, value in headers.items()}, partial)


class TestResume:
    def test_progress_of_a_resumption_renews_attempts_and_budget(self, clock: HandClock) -> None:
        piece, total = b"x" * LEAST_GAIN, 50 * LEAST_GAIN + 50
        answers: list[Any] = [cut(piece, etag='"e"')]
        answers += [
            cut(piece, 206, etag='"e"', content_range=f"bytes {n * len(piece)}-{total - 1}/{total}")
            for n in range(1, 50)
        ]
        end = {"etag": '"e"', "content-range": f"bytes {total - 50}-{total - 1}/{total}"}
        answers += [Response(206, b"." * 50, end, 0.0)]
        driver = Driver(clock, answers, seconds=20)  # each try nearly spends the budget
        answer = driver.run(Retry(attempts=2, first_delay=0.01))
        assert (answer.status, answer.body) == (200, piece * 50 + b"." * 50)
        assert driver.asked[-1].headers == (f"Range: bytes={total - 50}-", 'If-Match: "e"')

    def test_one_byte_at_a_time_is_no_progress(self, clock: HandClock) -> None:
        answers: list[Any] = [cut(b"0", etag='"e"')]
        answers += [cut(b"x", 206, etag='"e"', content_range=f"bytes {n}-99/100") for n in range(1, 50)]
        driver = Driver(clock, answers)
        with pytest.raises(TransferError):
            driver.run(Retry())
        assert len(driver.asked) == 4

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_the_same_bytes_again_are_no_progress(self, clock: HandClock, size: int) -> None:
        """A server that knows no ranges, and breaks off at the same place each time."""
        driver = Driver(clock, [cut(b"x" * size, etag='"e"')])
        with pytest.raises(TransferError):
            driver.run(Retry())
        assert len(driver.asked) == 4

    def test_the_size_limit_counts_bytes_received_before(self, clock: HandClock) -> None:
        request = Request(Profile(), "http://127.0.0.1/", max_bytes=100)
        driver = Driver(clock, [cut(b"x" * 60, etag='"e"'), OK])
        driver.run(Retry(), request)
        assert [asked.max_bytes for asked in driver.asked] == [100, 40]
        request = Request(Profile(), "http://127.0.0.1/", max_bytes=0)  # none
        driver = Driver(clock, [cut(b"x" * 60, etag='"e"'), OK])
        driver.run(Retry(), request)
        assert [asked.max_bytes for asked in driver.asked] == [0, 0]

    def test_a_new_version_is_fetched_from_the_start(self, clock: HandClock) -> None:
        driver = Driver(clock, [cut(b"old", etag='"e"'), OK._replace(status=412), OK])
        assert driver.run(Retry()).body == b"blob"
        assert [asked.headers for asked in driver.asked] == [(), ("Range: bytes=3-", 'If-Match: "e"'), ()]

    def test_versions_that_change_at_each_try_end_the_tries(self, clock: HandClock) -> None:
        for size in (3, 100_000):
            answers = [cut(b"x" * size, etag='"e"'), OK._replace(status=412)] * 20
            driver = Driver(clock, answers)
            with pytest.raises(TransferError):
                driver.run(Retry(attempts=3))
            assert len(driver.asked) < 10

    @pytest.mark.parametrize(
        "other",
        [
            {"etag": '"other"', "content-range": "bytes 4-7/8"},
            {"etag": '"e"', "content-range": "bytes 2-7/8"},
            {"etag": '"e"', "content-range": "bytes 44-47/48"},
            {"etag": '"e"'},
            {"content-range": "bytes 4-7/8"},
            {},
        ],
    )
    def test_a_part_that_does_not_fit_is_never_joined(self, clock: HandClock, other: dict[str, str]) -> None:
        """A server that ignores `If-Match`, or gives other bytes than it was asked for."""
        for answer in (Response(206, b"else", other, 0.0), TransferError(18, "cut", 206, other, b"el")):
            driver = Driver(clock, [cut(b"half", etag='"e"'), answer, OK])
            if isinstance(answer, Response):
                assert driver.run(Retry()).body == b"blob"
                assert driver.asked[2].headers == ()
            else:  # the same question again, as nothing of that answer counts
                driver.run(Retry())
                assert driver.asked[2].headers == ("Range: bytes=4-", 'If-Match: "e"')

    def test_a_blob_with_a_weak_or_no_etag_is_not_resumed(self, clock: HandClock) -> None:
        for etag in ("", 'W/"e"'):
            driver = Driver(clock, [cut(b"abc", etag=etag), OK])
            assert driver.run(Retry()).body == b"blob"
            assert driver.asked[1].headers == ()
