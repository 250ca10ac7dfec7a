"""The rate that an origin is given which refuses some requests: found by its answers, on a clock of the test's own."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.strained import throttled
from bitstore import AccessDenied, HTTPRaw, LookupFailed, Sha1Composite, Sha1Store, StoreNotAvailable
from bitstore._lookup.eased import AdaptiveRate
from bitstore._lookup.retry import Retry, TransferCounts, send
from bitstore.steps import Profile, Request, Response, Sleep
from tests.clock import HandClock
from tests.servers import CountedAPI
from tests.servers.faults import Answer, json_error
from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request as Asked
from tests.servers.wire import Response as Told
from tests.servers.wire import make_response
from tests.stores import blobs, outcome
from tests.waiting import processes

URL = "https://host/blob"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    mine = HandClock()
    monkeypatch.setattr("bitstore._support.clock.monotonic", mine.monotonic)
    return mine


def spell(rate: AdaptiveRate, clock: HandClock, per_second: float, refused: float) -> float | None:
    """So many answers a second, a part of them refusals, until the rate is set by them. Returns the rate."""
    due = 0.0
    for _ in range(int(per_second * 1.5)):
        clock.now += 1 / per_second
        due += refused
        rate.count(refused=due >= 1)
        due -= due >= 1
        if rate._began == clock.now:
            break
    return rate.per_second


def test_a_few_refusals_bound_nothing(clock: HandClock) -> None:
    rate = AdaptiveRate()
    assert spell(rate, clock, 60, 1.0) is None
    assert spell(rate, clock, 5000, 0.04) is None, "a busy service refuses a few at any rate"


def test_an_origin_gets_as_many_requests_as_it_has_served(clock: HandClock) -> None:
    assert spell(AdaptiveRate(), clock, 1000, 0.6) == pytest.approx(400, rel=0.05)


def test_an_outage_bounds_nothing(clock: HandClock) -> None:
    assert spell(AdaptiveRate(), clock, 1000, 1.0) is None


def test_the_rate_grows_slowly_near_what_was_too_much_and_quickly_far_below(clock: HandClock) -> None:
    rate = AdaptiveRate()
    assert spell(rate, clock, 1000, 0.5) == pytest.approx(500, rel=0.05)
    assert spell(rate, clock, 500, 0.0) == pytest.approx(1000, rel=0.05), "nothing is known to be too much"
    assert spell(rate, clock, 1000, 0.2) == pytest.approx(800, rel=0.05)
    assert spell(rate, clock, 800, 0.0) == pytest.approx(880, rel=0.05)
    assert spell(rate, clock, 900, 0.8) == pytest.approx(220, rel=0.05), "never less than a quarter of the last one"
    assert spell(rate, clock, 220, 0.0) == pytest.approx(440, rel=0.05)
    assert spell(rate, clock, 440, 0.0) == pytest.approx(484, rel=0.05)
    assert spell(rate, clock, 484, 0.03) == pytest.approx(484, rel=0.05), "few refusals: it stays"


def test_refusals_that_no_lower_rate_makes_fewer_bound_nothing_for_a_while(clock: HandClock) -> None:
    rate = AdaptiveRate()
    rates = [spell(rate, clock, 1000, 0.3)]
    while rates[-1] is not None and len(rates) < 20:
        rates.append(spell(rate, clock, rates[-1], 0.3))
    assert rates[-1] is None and 10 < len(rates) < 16
    assert not rate.is_over and spell(rate, clock, 1000, 0.4) is None
    clock.now += 31
    assert rate.is_over


def test_turns_are_spread_and_given_for_a_second_at_most(clock: HandClock) -> None:
    rate = AdaptiveRate()
    rate.per_second = 10.0
    rate._next = clock.now
    waits = []
    for _ in range(12):
        step = next(iter(rate.turn_steps()), None)
        waits.append(step.seconds if isinstance(step, Sleep) else 0.0)
    assert waits[:10] == pytest.approx([number / 10 for number in range(10)])
    assert 0.5 <= waits[11] <= 1.0, "it asks again, as the rate may be another one by then"


def test_the_bound_of_an_origin_is_its_own_and_ends_after_half_a_minute(clock: HandClock) -> None:
    tally = TransferCounts()
    for _ in range(200):
        clock.now += 0.004
        tally.refused(URL)
        tally.answered(URL)
    eased = tally.easing(URL)
    assert eased is not None and eased.per_second is not None
    assert tally.easing("https://other/blob") is None
    clock.now += 29
    assert tally.easing(URL) is eased
    clock.now += 2
    assert tally.easing(URL) is None and tally.eased == {}


def test_a_rate_of_the_user_is_told_instead(clock: HandClock) -> None:
    class Told:
        told = 0

        def turn_steps(self) -> Any:
            yield from ()

        def slow_down(self) -> None:
            self.told += 1

    rate = Told()
    tally = TransferCounts(rate)
    steps = send(Request(Profile(), URL), Retry(attempts=2), tally)
    assert isinstance(next(steps), Request)
    assert isinstance(steps.send(Response(503, b"", {}, 0.0)), Sleep)
    assert rate.told == 1 and tally.eased == {}


def test_waiting_requests_go_once_the_bound_is_over(clock: HandClock) -> None:
    rate = AdaptiveRate()
    rate.per_second = 1.0
    rate._next = clock.now + 1000
    steps = rate.turn_steps()
    assert isinstance(next(steps), Sleep)
    clock.now += 31
    assert next(steps, None) is None


@pytest.mark.parametrize("nested", [False, True])
def test_a_batch_asks_more_often_where_a_part_of_all_requests_is_refused(nested: bool, api: CountedAPI) -> None:
    api.blobs = blobs(1000)
    bad = next(iter(api.blobs))
    api.rules.add(Answer(503), path=bad)
    raw = HTTPRaw(retry=Retry(attempts=1))
    eased = raw.counts().eased.setdefault(api.url, AdaptiveRate())
    eased.per_second = 1e6
    store = Sha1Composite()
    store.append_source(Sha1Store(raw, api.blob_url(""), verify=True))
    if nested:
        inner, store = store, Sha1Composite()
        store.append_source(inner)
    failed = threading.Event()

    def inputs() -> Iterator[str]:
        yield bad
        good = itertools.cycle(digest for digest in api.blobs if digest != bad)
        yield from itertools.takewhile(lambda _: not failed.is_set(), good)

    for blob in store.get_many(inputs(), in_flight=20):
        assert blob.found == (blob.uri != bad)
        if not blob.found:
            assert isinstance(blob.error, LookupFailed) and blob.error.overrun
            assert pickle.loads(pickle.dumps(blob.error)).overrun
            failed.set()
    assert api.calls[bad] == 6


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
def test_a_403_of_google_that_asks_for_less_is_known_to_a_web_store(reason: str, api: CountedAPI) -> None:
    api.blobs = blobs(1)
    [(digest, data)] = api.blobs.items()
    api.rules.add(json_error(403, "slow down", reason), times=2)
    store = HTTPRaw(retry=Retry(first_delay=0.001), forbidden_is_missing=True)
    assert store.get(api.blob_url(digest)) == data
    assert (store.counts().retries, [*store.counts().eased]) == (2, [api.url])
    api.rules.add(json_error(403, "slow down", reason))
    error = outcome(lambda: store.get(api.blob_url(digest)))
    assert isinstance(error, StoreNotAvailable) and not isinstance(error, AccessDenied) and error.unreachable


def test_the_express_lane_is_closed_while_an_origin_is_eased() -> None:
    raw = HTTPRaw()
    assert raw.first_requests("https://host/", "sha1") is not None
    raw.counts().eased["https://host"] = AdaptiveRate()
    assert raw.first_requests("https://host/", "sha1") is None


def test_no_row_fails_where_twenty_nodes_ask_a_bucket_for_more_than_it_permits() -> None:
    told = throttled.run(20, "none", 1.0, bucket=1000.0, seconds=8.0)
    assert told["failed"] < 0.001 and told["served"] > 0.9 and told["requests"] < 1.2, told


class Throttled(FaultyServer):
    """Answers so many requests a second, and all others by 503, as S3 does. A blob is the number of its place."""

    def __init__(self, per_second: float) -> None:
        super().__init__()
        self._gap = 1 / per_second
        self._free_at = 0.0

    async def _respond(self, request: Asked, upstream: Upstream) -> Told:
        now = time.monotonic()
        if self._free_at > now + 0.1:
            return make_response(503, b"<Error><Code>SlowDown</Code></Error>", {}, method=request.method)
        self._free_at = max(self._free_at, now) + self._gap
        return make_response(200, DATA[Path(request.target).name], {}, method=request.method)


DATA = {hashlib.sha1(data).hexdigest(): data for data in (str(number).encode() for number in range(1200))}


def _fetch(url: str, part: int) -> tuple[int, int]:
    """How many of a quarter of the blobs were found, and the requests that were sent for them."""
    raw = HTTPRaw()
    store = Sha1Composite()
    store.append_source(Sha1Store(raw, f"{url}/", verify=True))
    found = sum(blob.found for blob in store.get_many(list(DATA)[part::4]))
    return found, raw.stats()["requests"]


def test_processes_that_ask_a_server_for_more_than_it_permits_lose_no_blob() -> None:
    with Throttled(200) as server, processes("forkserver", 4) as pool:
        told = pool.starmap(_fetch, [(server.url, part) for part in range(4)])
    assert [found for found, _ in told] == [300] * 4
    assert sum(requests for _, requests in told) < 3 * len(DATA)
