"""Limits of API sources and buckets: what is counted, by which account, and what happens to late calls."""

from __future__ import annotations

import json
import os
import pickle
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    CallLimit,
    GSRaw,
    HTTPRaw,
    LimitReached,
    LookupFailed,
    NotFoundInStore,
    RateLimit,
    Retry,
    S3Raw,
    Sha1APISource,
    StoreNotAvailable,
    TooManyRequests,
)
from bitstore._limits.absences import Absences
from bitstore._limits.accounts import AccountError, FileAccount
from bitstore._limits.line import Line
from bitstore._limits.rates import BackOff
from bitstore._limits.windows import Terms, Windows
from bitstore._lookup.asking import steps_of_get
from bitstore.config import ConfigError, loads
from bitstore.steps import Call, Sleep, Steps, Wait
from tests.clock import HandClock
from tests.limit_workers import LimitedAPI, TimedAPI, call_until_used_up, digest_of, kill_at_work, most_within
from tests.servers import Answer, FakeGCS, MakeProxy, SeaweedS3, s3_error
from tests.stores import API, as_source, blobs, composed
from tests.waiting import processes

DIGESTS = [digest_of(f"blob {number}".encode()) for number in range(200)]


def drive(steps: Steps[Any], clock: HandClock) -> Any:
    """Perform steps on a clock that goes only while they sleep."""
    resume, value = steps.send, None
    while True:
        try:
            step = resume(value)
        except StopIteration as end:
            return end.value
        resume, value = steps.send, None
        if isinstance(step, Sleep):
            clock.now += step.seconds
        elif isinstance(step, Call):
            try:
                value = step.function(*step.args)
            except Exception as error:
                resume, value = steps.throw, error
        else:
            raise AssertionError(step)


class Noting(Sha1APISource):
    """Notes when it was called, and does then what it was told to."""

    def __init__(self, clock: HandClock, limit: CallLimit | None, **options: Any) -> None:
        super().__init__(limit=limit, **options)
        self.clock = clock
        self.times: list[float] = []
        self.answers: list[Any] = []

    def api_get(self, digest: str) -> bytes | None:
        self.times.append(self.clock.now)
        answer = self.answers.pop(0) if self.answers else b"data"
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is None else bytes(answer)


@pytest.fixture
def timed_api() -> Iterator[TimedAPI]:
    with TimedAPI() as server:
        yield server


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize("seed", range(10))
def test_no_time_span_has_more_calls_than_allowed(seed: int) -> None:
    """Whatever the times, across restarts, and whenever the clock is set back."""
    dice = random.Random(seed)
    terms = Terms(per_second=dice.choice([None, 2, 3]), per_minute=dice.choice([4, 7]), per_day=dice.choice([30, 50]))
    windows = Windows()
    real, ahead = 50_000.0, 0.0
    granted: list[float] = []
    refused = 0
    for _ in range(6000):
        real += dice.choice([0.0, 0.01, dice.expovariate(1), dice.expovariate(1 / 20), dice.expovariate(1 / 300)])
        if dice.random() < 0.01:
            ahead -= dice.choice([0.5, 30, 4000])
        if dice.random() < 0.05:
            windows = Windows.from_dict(json.loads(json.dumps(windows.as_dict())))
        if windows.take(terms, real + ahead).granted:
            granted.append(real)
        else:
            refused += 1
    assert refused > 100
    assert most_within(1, granted) <= (terms.per_second or 10_000)
    assert most_within(60, granted) <= (terms.per_minute or 0)
    assert most_within(86400, granted) <= (terms.per_day or 0)


def test_a_refused_call_is_granted_at_the_time_that_the_refusal_named() -> None:
    terms = Terms(per_second=2, per_minute=4, per_day=500)
    windows = Windows()
    now = 7e8
    granted: list[float] = []
    while len(granted) < 1100:
        verdict = windows.take(terms, now)
        if verdict.granted:
            granted.append(now)
        else:
            assert verdict.retry_in is not None and verdict.retry_in > 0
            now += verdict.retry_in
            assert len(windows.as_dict()["windows"]["day"]) <= 260
    assert most_within(60, granted) == 4
    assert most_within(86400, granted) == 500
    # The loss by rounding and margins: 2 % of a minute, 0.4 % of a day.
    assert granted[-1] - granted[0] < 2 * 86400 * 1.005 + 100 / 4 * 62


def test_a_clock_set_back_closes_for_no_longer_than_a_window() -> None:
    windows, terms = Windows(), Terms(per_minute=1)
    assert windows.take(terms, 1e9).granted
    refused = windows.take(terms, 1e9 - 1e6)
    assert not refused.granted and refused.retry_in is not None and 60 <= refused.retry_in < 62


def test_an_invalid_account_is_refused() -> None:
    whole = Windows().as_dict()
    accounts: list[Any] = [
        None,
        [],
        {},
        {**whole, "windows": {}},
        {**whole, "calls": "x"},
        {**whole, "held_until": float("nan")},
    ]
    for kept in accounts:
        with pytest.raises(ValueError, match="not an account"):
            Windows.from_dict(kept)


# ------------------------------------------------------------------ lookups


def test_a_lookup_waits_until_the_limit_allows_its_call() -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("vt", per_minute=4, clock=clock))
    for digest in DIGESTS[:12]:
        assert drive(steps_of_get(source, digest), clock).data == b"data"
    assert len(source.times) == 12
    assert most_within(60, source.times) == 4
    assert source.times[-1] - source.times[0] < 125


def test_a_used_up_day_is_a_failure_that_says_when_it_opens() -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("vt", per_minute=4, per_day=2, clock=clock))
    for digest in DIGESTS[:2]:
        drive(steps_of_get(source, digest), clock)
    with pytest.raises(
        LimitReached, match=r"limit 'vt': 2 calls per day are used up; it opens again in 24.* h"
    ) as caught:
        drive(steps_of_get(source, DIGESTS[2]), clock)
    assert not isinstance(caught.value, NotFoundInStore)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.retry_in, again.reason) == (str(caught.value), caught.value.retry_in, caught.value.reason)
    assert len(source.times) == 2
    clock.now += again.retry_in
    assert drive(steps_of_get(source, DIGESTS[2]), clock).data == b"data"


def test_a_wait_beyond_the_limit_is_refused_at_once() -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("vt", per_minute=1, wait=30, clock=clock))
    drive(steps_of_get(source, DIGESTS[0]), clock)
    with pytest.raises(LimitReached, match="1 calls per minute are used up; it opens again in 6"):
        drive(steps_of_get(source, DIGESTS[1]), clock)
    assert clock.now == 1000.0


def test_a_used_up_budget_stays_used_up_and_opens_no_breaker(timed_api: TimedAPI) -> None:
    held = blobs(5)
    timed_api.blobs = held
    source = LimitedAPI(timed_api.url, CallLimit("paid", budget=3))
    store = composed(as_source(source, "api"))
    answers = list(store.get_many([*held, *DIGESTS[:30]], ordered=True))
    assert [blob.error for blob in answers[:3]] == [None] * 3
    for blob in answers[3:]:
        assert isinstance(blob.error, LookupFailed)
        ((_, error),) = blob.error.failures
        assert isinstance(error, LimitReached) and error.retry_in is None
        assert "the budget of 3 calls is used up; it does not open again" in str(error)
    assert len(timed_api.times) == 3
    assert store.stats()["api"].breaker == "closed"
    source.limit = None
    assert store.get(list(held)[4]) == held[list(held)[4]]  # the tier was not left alone


def test_a_batch_makes_no_more_calls_than_the_limit_allows(timed_api: TimedAPI) -> None:
    timed_api.blobs = blobs(40)
    source = LimitedAPI(timed_api.url, CallLimit("api", per_second=25))
    found = {blob.uri: blob.data for blob in source.get_many(timed_api.blobs)}
    assert found == timed_api.blobs
    assert len(timed_api.times) == 40
    assert most_within(1, timed_api.times) <= 25


def test_calls_run_side_by_side_within_the_limit() -> None:
    """The one whose turn it is makes its call outside of the line."""
    together = threading.Barrier(8)

    class Slow(Sha1APISource):
        def api_get(self, digest: str) -> bytes:
            together.wait(30)
            return b""

    source = Slow(limit=CallLimit("api", per_second=8))
    assert [blob.data for blob in source.get_many(DIGESTS[:8])] == [b""] * 8


def test_threads_together_keep_to_one_limit() -> None:
    source = API(dict.fromkeys(DIGESTS, b"x"))
    source.limit = CallLimit("api", budget=50)
    outcomes = []

    def look(digest: str) -> None:
        try:
            outcomes.append(source.get(digest))
        except LimitReached:
            outcomes.append(b"late")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(look, DIGESTS))
    assert (outcomes.count(b"x"), outcomes.count(b"late"), len(source.calls)) == (50, 150, 50)


def test_a_lookup_out_of_time_while_it_waits_for_its_turn_makes_no_call() -> None:
    source = API(dict.fromkeys(DIGESTS, b"x"))
    source.limit = CallLimit("api", per_minute=1)
    store = composed(source)
    assert store.get(DIGESTS[0]) == b"x"
    with pytest.raises(LookupFailed, match="no answer within the time limit"):
        store.get(DIGESTS[1], timeout=0.1)
    failed = list(store.get_many(DIGESTS[2:50], timeout=0.2))
    assert len(failed) == 48 and all(isinstance(blob.error, LookupFailed) for blob in failed)
    assert source.calls == DIGESTS[:1]


def test_a_limit_works_after_fork_and_pickles_as_its_configuration(tmp_path: Path) -> None:
    source = API(dict.fromkeys(DIGESTS, b"x"))
    source.limit = CallLimit("api", budget=3, per_minute=9, state=tmp_path / "state", wait=5)
    assert source.get(DIGESTS[0]) == b"x"
    copy = pickle.loads(pickle.dumps(source))
    assert repr(copy.limit) == repr(source.limit)
    assert repr(copy.limit) == f"CallLimit('api', per_minute=9, budget=3, wait=5, state={str(tmp_path / 'state')!r})"
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, source.get(DIGESTS[1]))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"x"
    os.close(read), os.close(write)
    assert copy.get(DIGESTS[2]) == b"x"
    for each in (source, copy):
        with pytest.raises(LimitReached):
            each.get(DIGESTS[3])


def test_invalid_numbers_of_a_call_limit_are_refused() -> None:
    for options, told in (
        ({"per_second": 0}, "per_second=0: must be at least 1"),
        ({"per_minute": -4}, "per_minute=-4"),
        ({"per_day": 0.5}, "per_day=0.5: expected a whole number"),
        ({"budget": True}, "budget=True: expected a whole"),
        ({"wait": -1}, "wait=-1"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            CallLimit("api", **options)
    with pytest.raises(ValueError, match="needs a name"):
        CallLimit(" ")
    with pytest.raises(TypeError, match="expected a CallLimit or a ClusterLimit"):
        Noting(HandClock(), RateLimit(per_second=3))  # type: ignore[arg-type]


# ------------------------------------------------------------------ a state that is shared


def test_eight_processes_make_exactly_the_calls_of_the_budget(timed_api: TimedAPI, tmp_path: Path) -> None:
    state = str(tmp_path / "limits.sqlite")
    with processes("fork", 8) as pool:
        calls = pool.starmap(call_until_used_up, [(timed_api.url, state, 120, worker) for worker in range(8)], 1)
    assert sum(calls) == len(timed_api.times) == 120
    assert call_until_used_up(timed_api.url, state, 120, 9) == 0  # it outlives them all
    assert call_until_used_up(timed_api.url, state, 125, 9) == 5


def test_processes_killed_at_any_moment_leave_no_more_than_the_budget(timed_api: TimedAPI, tmp_path: Path) -> None:
    state, budget = str(tmp_path / "limits.sqlite"), 300
    dice = random.Random(5)
    kills = 0
    for round_ in range(8):
        work = [(timed_api.url, state, budget, f"{round_}-{number}") for number in range(4)]
        kills += kill_at_work(timed_api, dice.randrange(1, 25), call_until_used_up, work)
    call_until_used_up(timed_api.url, state, budget, 99)
    assert kills >= 8  # on a busy machine the budget may be used up before the last rounds
    # A process that was killed may have counted a call that it did not make, and never the reverse.
    assert budget - kills <= len(timed_api.times) <= budget
    with sqlite3.connect(state) as file:
        (kept,) = file.execute("SELECT calls FROM account WHERE name = 'api'").fetchone()
    assert json.loads(kept)["calls"] == budget


def test_a_state_that_cannot_be_read_allows_no_call(tmp_path: Path) -> None:
    source = API({DIGESTS[0]: b"x"})
    broken = tmp_path / "broken"
    broken.write_bytes(b"no database " * 1000)
    folder = tmp_path / "folder"
    folder.mkdir()
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as file:
        file.execute("CREATE TABLE account (name TEXT PRIMARY KEY, calls TEXT NOT NULL)")
        file.execute("INSERT INTO account VALUES ('api', '{\"calls\": 0}')")
    for state in (broken, folder, foreign):
        source.limit = CallLimit("api", per_day=5, state=state)
        with pytest.raises(StoreNotAvailable, match=f"limit 'api': its calls cannot be counted in {state}"):
            source.get(DIGESTS[0])
    assert source.calls == []


def test_a_lost_account_begins_as_used_up(tmp_path: Path) -> None:
    clock = HandClock()
    account = FileAccount(tmp_path / "s", "api", Terms(per_minute=3), clock=clock, known=True)
    verdict = account.take()
    assert not verdict.granted and verdict.retry_in is not None and 60 <= verdict.retry_in < 62
    clock.now += verdict.retry_in
    assert account.take().granted
    spent = FileAccount(tmp_path / "s", "other", Terms(budget=3), clock=clock, known=True)
    assert spent.take().retry_in is None
    (tmp_path / "s").unlink()
    assert not account.take().granted
    with pytest.raises(AccountError, match="cannot be counted"):
        FileAccount(tmp_path / "s" / "t", "api", Terms()).open()


# ------------------------------------------------------------------ 429


@pytest.mark.parametrize("limited", [True, False])
def test_a_call_refused_with_429_is_repeated_after_the_pause_it_asks_for(limited: bool) -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("api", clock=clock) if limited else None)
    source.answers = [TooManyRequests(7)]
    assert drive(steps_of_get(source, DIGESTS[0]), clock).data == b"data"
    assert source.times == [1000.0, pytest.approx(1007.0, abs=0.01)]


def test_a_429_holds_back_all_calls_of_the_limit(tmp_path: Path) -> None:
    clock = HandClock()
    first, second = (
        Noting(clock, CallLimit("api", clock=clock, state=tmp_path / "state", wait=wait)) for wait in (600, 5)
    )
    first.answers = [TooManyRequests("40")]
    steps = steps_of_get(first, DIGESTS[0])
    call = next(steps)
    while not first.times:
        call = next(steps) if not isinstance(call, Call) else _answered(steps, call)
    assert isinstance(call, Call)
    call.function(*call.args)  # the pause is written down
    with pytest.raises(LimitReached, match=r"it has asked for a pause; it opens again in 40"):
        drive(steps_of_get(second, DIGESTS[1]), clock)
    assert second.times == []
    steps.close()


def _answered(steps: Steps[Any], call: Call) -> Any:
    try:
        return steps.send(call.function(*call.args))
    except TooManyRequests as error:
        return steps.throw(error)


@pytest.mark.parametrize("limited", [True, False])
def test_a_source_that_always_answers_429_fails_after_some_tries(limited: bool) -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("api", per_minute=100, clock=clock) if limited else None)
    source.answers = [TooManyRequests() for _ in range(20)]
    with pytest.raises(LimitReached, match="the API answers that there are too many requests") as caught:
        drive(steps_of_get(source, DIGESTS[0]), clock)
    assert [round(each - 1000) for each in source.times] == [0, 1, 3]
    assert isinstance(caught.value.__cause__, TooManyRequests) and caught.value.retry_in == 4
    assert ("limit 'api'" in str(caught.value)) == limited  # no limit is named where none was set
    assert limited or "limit" not in str(caught.value)


@pytest.mark.parametrize("limited", [True, False])
def test_a_429_with_a_pause_that_is_too_long_is_not_waited_for(limited: bool) -> None:
    clock = HandClock()
    source = Noting(clock, CallLimit("api", clock=clock) if limited else None)
    source.answers = [TooManyRequests(5), TooManyRequests(5000)]
    with pytest.raises(
        LimitReached, match=r"asks for a pause of 5000 s|asked for a pause; it opens again in 83"
    ) as caught:
        drive(steps_of_get(source, DIGESTS[0]), clock)
    assert [round(each - 1000) for each in source.times] == [0, 5]
    assert caught.value.retry_in == pytest.approx(5000, rel=0.01)
    assert limited or "limit" not in str(caught.value)


def test_retry_after_is_read_in_seconds_and_as_a_date(timed_api: TimedAPI) -> None:
    timed_api.blobs = blobs(1)
    (digest,) = timed_api.blobs
    timed_api.rules.add(Answer(429, b"", {"Retry-After": "1"}), times=1)
    assert LimitedAPI(timed_api.url, CallLimit("api")).get(digest) == timed_api.blobs[digest]
    assert len(timed_api.counts) == 1 and sum(timed_api.counts.values()) == 2
    for told, seconds in (("3", 3.0), (None, None), ("soon", None), ("nan", None), (-4, 0.0)):
        assert TooManyRequests(told).retry_after == seconds
    dated = TooManyRequests("Fri, 31 Dec 1999 23:59:59 GMT")
    assert dated.retry_after == 0.0
    copy = pickle.loads(pickle.dumps(TooManyRequests(2.5)))
    assert (copy.retry_after, str(copy)) == (2.5, str(TooManyRequests(2.5)))


# ------------------------------------------------------------------ absences


def test_an_absence_is_remembered_for_a_while(timed_api: TimedAPI) -> None:
    source = LimitedAPI(timed_api.url, None, remember_missing=3600)
    for _ in range(3):
        with pytest.raises(NotFoundInStore):
            source.get(DIGESTS[0].upper())
    assert len(timed_api.times) == 1
    copy = pickle.loads(pickle.dumps(source))
    assert copy.remember_missing == 3600
    with pytest.raises(NotFoundInStore):
        copy.get(DIGESTS[0])
    assert len(timed_api.times) == 2  # what is remembered does not travel
    source.remember_missing = None
    with pytest.raises(NotFoundInStore):
        source.get(DIGESTS[0])
    assert len(timed_api.times) == 3


def test_only_definite_absences_are_remembered() -> None:
    clock = HandClock()
    source = Noting(clock, None, remember_missing=60)
    source.answers = [OSError("down"), StoreNotAvailable("api", "down"), b"data", None]
    outcomes: list[Any] = []
    for _ in range(6):
        try:
            outcomes.append(source.get(DIGESTS[0]))
        except Exception as error:
            outcomes.append(type(error))
    assert outcomes == [OSError, StoreNotAvailable, b"data", NotFoundInStore, NotFoundInStore, NotFoundInStore]
    assert len(source.times) == 4
    with pytest.raises(ValueError, match="remember_missing=0"):
        Noting(clock, None, remember_missing=0)


def test_absences_are_forgotten_by_age_and_number() -> None:
    clock = HandClock()
    absences = Absences(60, most=3, clock=clock)
    for digest in DIGESTS[:4]:
        absences.add(digest)
    assert [digest in absences for digest in DIGESTS[:4]] == [False, True, True, True]
    clock.now += 61
    assert DIGESTS[3] not in absences


# ------------------------------------------------------------------ the line


def test_a_waiting_line_keeps_its_order_when_places_are_given_up() -> None:
    line = Line()
    places = [line.enter() for _ in range(5000)]
    came: list[int] = []
    for number, place in enumerate(places):
        place.on_landing(lambda number=number: came.append(number))  # type: ignore[misc]
    assert came == [0] and places[0].first
    for place in places[1:4999]:  # given up in the middle: no turn comes by that
        place.leave()
    assert came == [0]
    places[0].leave()
    places[0].leave()
    assert came == [0, 4999] and len(line) == 1
    places[1].on_landing(lambda: came.append(-1))  # it has left: nothing to wait for
    assert came[-1] == -1


def test_a_waiting_line_wakes_each_thread_once() -> None:
    line = Line()
    served: list[int] = []

    def queue(number: int) -> None:
        place = line.enter()
        here = threading.Event()
        place.on_landing(here.set)
        assert here.wait(30)
        assert place.first
        served.append(number)
        place.leave()

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(queue, range(2000)))
    assert sorted(served) == list(range(2000)) and len(line) == 0


# ------------------------------------------------------------------ rates of buckets


def test_a_rate_limit_spreads_requests_over_time() -> None:
    clock = HandClock()
    limit = RateLimit(per_second=100, clock=clock)
    times = []
    for _ in range(500):
        drive(limit.turn_steps(), clock)
        times.append(clock.now)
    assert most_within(1, times) <= 106
    assert times[-1] - times[0] < 5.01
    assert repr(pickle.loads(pickle.dumps(RateLimit(per_second=5)))) == "RateLimit(per_second=5)"
    for wrong in (0, -1, float("nan"), float("inf"), "3", True):
        with pytest.raises((TypeError, ValueError), match="per_second="):
            RateLimit(per_second=wrong)  # type: ignore[arg-type]


def test_a_refused_rate_halves_and_recovers_step_by_step() -> None:
    clock = HandClock()
    limit = RateLimit(per_second=100, clock=clock)
    assert limit.rate == 100
    for _ in range(50):  # one burst of refusals is one
        limit.slow_down()
    assert limit.rate == 50
    clock.now += 1
    limit.slow_down()
    assert limit.rate == pytest.approx(27.5)
    rates = []
    for _ in range(20):
        clock.now += 1
        rates.append(limit.rate)
    assert rates == sorted(rates) and rates[0] == pytest.approx(32.5) and rates[-1] == 100
    back_off = BackOff(clock)
    for _ in range(100):
        back_off.slow_down()
        clock.now += 1
    assert back_off.part >= 1 / 64


class Turns:
    """A rate that only counts."""

    def __init__(self) -> None:
        self.turns = 0
        self.refusals = 0

    def turn_steps(self) -> Steps[None]:
        self.turns += 1
        yield Wait(_Over())

    def slow_down(self) -> None:
        self.refusals += 1


class _Over:
    def on_landing(self, callback: Callable[[], object]) -> None:
        callback()


@pytest.mark.parametrize("kind", ["s3", "gs", "http"])
@pytest.mark.parametrize("many", [False, True])
def test_every_request_to_a_bucket_takes_a_turn_of_its_limit(
    kind: str,
    many: bool,
    s3: SeaweedS3,
    gcs: FakeGCS,
    fault_proxy: MakeProxy,
) -> None:
    turns = Turns()
    options: Any = {"limit": turns, "retry": Retry(attempts=3, first_delay=0.01)}
    proxy = fault_proxy(gcs.url if kind == "gs" else s3.endpoint_url)
    if kind == "s3":
        bucket = s3.create_bucket()
        store: Any = S3Raw(s3.admin.session, endpoint_url=proxy.url, **options)
        prefix = f"s3://{bucket}/"
    elif kind == "gs":
        store = GSRaw("anonymous", endpoint_url=proxy.url, **options)
        prefix = f"gs://{gcs.create_bucket()}/"
    else:
        store, prefix = HTTPRaw(**options), f"{proxy.url}/{s3.create_bucket(public=True)}/"
    refusal = s3_error(503, "SlowDown") if kind == "s3" else Answer(429)
    uris = [f"{prefix}{digest}" for digest in DIGESTS[:5]]
    if kind != "http":
        store.put(uris[0], b"data")
    proxy.rules.add(refusal, times=4, skip=2)
    if many:
        answers = [blob.error for blob in store.get_many(uris)]
    else:
        answers = []
        for uri in uris:
            try:
                store.get(uri)
            except Exception as error:
                answers.append(error)
    assert len(answers) >= 4
    assert turns.turns == sum(proxy.counts.values()) >= 8
    assert turns.refusals == 4
    assert f"limit={turns!r}" in repr(store)


def test_invalid_limits_of_buckets_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a RateLimit or a ClusterRate"):
        S3Raw(limit=CallLimit("x"))  # type: ignore[arg-type]
    for make in (S3Raw, GSRaw):
        with pytest.raises(ValueError, match="limit and client exclude each other"):
            make(client=object(), limit=RateLimit(per_second=3))


def test_a_bucket_gets_no_more_than_its_rate(s3: SeaweedS3, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    limit = RateLimit(per_second=100)
    store = S3Raw(s3.admin.session, endpoint_url=proxy.url, limit=limit)
    bucket = s3.create_bucket()
    proxy.rules.add(s3_error(503, "SlowDown"), times=3, skip=20)
    answers = list(store.get_many(f"s3://{bucket}/{digest}" for digest in DIGESTS[:60]))
    assert all(isinstance(blob.error, NotFoundInStore) for blob in answers)
    assert limit.rate < 100
    assert pickle.loads(pickle.dumps(store)).limit.rate == 100


# ------------------------------------------------------------------ TOML


def api_of_file() -> Sha1APISource:
    return API({DIGESTS[0]: b"x"})


def shelf_of_file() -> Any:
    from tests.stores import Shelf

    return Shelf()


def config(lines: str) -> str:
    return f'algorithm = "sha1"\n[[tier]]\nname = "a"\n{lines}'


def test_limits_in_a_configuration_apply_to_its_stores() -> None:
    python = 'python = "tests.test_limits:api_of_file"\n'
    store = loads(config(python + 'remember_missing = 60\nlimit = { name = "vt", per_minute = 4, state = "l.sqlite" }'))
    (api,) = store.sources
    assert isinstance(api, Sha1APISource)
    assert api.remember_missing == 60
    assert repr(api.limit) == f"CallLimit('vt', per_minute=4, state={str(Path.cwd() / 'l.sqlite')!r})"
    (bucket,) = loads(config('url = "s3://b/"\nrequests_per_second = 300')).sources
    assert repr(bucket.base_store.limit) == "RateLimit(per_second=300.0)"  # type: ignore[attr-defined]
    for lines, told in (
        (python + "limit = { per_minute = 4 }", "missing required field name"),
        (python + 'limit = { name = "x", per_hour = 4 }', "unknown key 'limit.per_hour'.*per_minute"),
        (python + 'limit = { name = "x", per_day = 0 }', "per_day=0: must be at least 1"),
        (python + "remember_missing = 0", "remember_missing=0"),
        (
            'python = "tests.test_limits:shelf_of_file"\nremember_missing = 5',
            "remember_missing: Shelf does not have it",
        ),
        ('url = "s3://b/"\nrequests_per_second = -1', "requests_per_second = -1.0: must be more than 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            loads(config(lines))
