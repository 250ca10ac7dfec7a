"""Plans: what a job will come to, beside what it came to against real servers that count."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bitstore import Budget, CallLimit, DiskCache, HTTPRaw, S3Raw, Sha1Store
from bitstore._money.classes import DATED
from bitstore._planning.interval import of_mean, of_others, of_share
from bitstore.index import IndexBuilder
from tests.limit_workers import LimitedAPI
from tests.plan_jobs import BUCKET, JOBS, made, split
from tests.servers import CountedAPI
from tests.stores import API, Shelf, as_cache, as_source, composed, down, sha1


@pytest.fixture
def servers() -> Iterator[list[CountedAPI]]:
    with ExitStack() as stack:
        yield [stack.enter_context(CountedAPI()) for _ in range(3)]


@pytest.mark.parametrize("job", JOBS)
def test_a_plan_is_within_a_tenth_of_the_fact(job: Any, servers: list[CountedAPI], tmp_path: Path) -> None:
    store, digests = job(servers, tmp_path)
    plan = store.plan(digests, sample=700, seed=6)
    # No blob is moved: where a HEAD is answered no, one byte of the blob tells why.
    asked = [request for server in servers for request in server.requests]
    assert all(request.method == "HEAD" or "range" in request.headers for request in asked)
    assert sum(request.method == "HEAD" for request in asked) <= 700 * len(store.tiers)
    if "api" in store.stats():
        assert servers[1].requests == []  # what is paid for is never asked
    before = {name: stats.hits for name, stats in store.stats().items()}
    budget = Budget()
    store.budget = budget
    missing = sum(blob.missing for blob in store.get_many(digests))
    receipt = budget.receipt()
    for tier in plan.tiers:
        hits = store.stats()[tier.name].hits - before[tier.name]
        if tier.role != "paid source":  # what it has, only asking it would tell
            assert tier.hits.expected == pytest.approx(hits, rel=0.1)
            assert tier.hits.low <= hits <= tier.hits.high
        if tier.name not in receipt:
            continue
        spent = receipt[tier.name]
        for what in ("calls",) if tier.role == "paid source" else ("requests", "bytes"):
            planned = getattr(tier, what)
            assert planned.expected == pytest.approx(getattr(spent, what), rel=0.1), (tier.name, what)
            assert planned.low <= getattr(spent, what) <= planned.high
        if tier.money is not None:
            assert spent.money is not None
            assert float(tier.money.expected.amount) == pytest.approx(float(spent.money.amount), rel=0.1)
    assert plan.money is not None and budget.spent.money is not None
    assert float(plan.money.expected.amount) == pytest.approx(float(budget.spent.money.amount), rel=0.1)
    assert plan.money.low <= budget.spent.money <= plan.money.high
    assert plan.missing.low <= missing <= plan.missing.high
    beside = plan.beside(store.stats(), receipt)
    assert {row.what for row in beside} >= {"hits", "requests", "bytes", "money"}
    json.loads(plan.as_json())
    assert f"{len(digests):,} different digests" in str(plan)


def test_an_index_makes_a_plan_exact_without_a_request(servers: list[CountedAPI], tmp_path: Path) -> None:
    blobs = made(600, 5)
    servers[0].blobs, servers[1].blobs = split(blobs, 0.5, 0.9)
    paths = []
    for number, server in enumerate(servers[:2]):
        with IndexBuilder("sha1") as builder:
            builder.add(server.blobs)
            builder.write(tmp_path / f"{number}.idx", source=f"{server.url}/blob/")
        paths.append(tmp_path / f"{number}.idx")
    api = LimitedAPI(servers[2].url, None, price="0.02 USD")
    first = Sha1Store(HTTPRaw(price=BUCKET), f"{servers[0].url}/blob/", index=paths[0])
    second = Sha1Store(HTTPRaw(price=BUCKET), f"{servers[1].url}/blob/", index=paths[1])
    store = composed(as_source(first, "first"), as_source(second, "second"), as_source(api, "api"))
    plan = store.plan(blobs, sample=0)
    assert not any(server.requests for server in servers)
    assert all(tier.asked.is_exact and tier.basis != "nothing is known" for tier in plan.tiers[:2])
    store.budget = Budget()
    list(store.get_many(blobs))
    for tier in plan.tiers[:2]:  # a tier that is denied is asked before anything is paid for, and so it is planned
        assert tier.requests == (spent := store.budget.receipt()[tier.name].requests,) * 3, (tier, spent)
        assert tier.hits.expected == store.stats()[tier.name].hits
    assert plan.tiers[2].calls == (store.budget.receipt()["api"].calls,) * 3


def test_unknown_numbers_are_said_and_never_asked_for_with_money() -> None:
    api = API({})
    api.limit = CallLimit("api", per_day=10, budget=15)
    store = composed(as_source(down(), "down"), as_source(api, "api"))
    digests = [sha1(str(number).encode()) for number in range(40)]
    plan = store.plan([*digests, *map(str.upper, digests), "no digest", b"\xff"], sample=40)
    assert api.calls == [] and (plan.digests, plan.invalid, plan.sampled) == (40, 2, 40)
    assert plan.tiers[1].asked == plan.tiers[1].calls == (40, 40, 40)
    assert plan.tiers[1].hits.low == 0 and plan.tiers[1].hits.high == 40 and plan.money is None
    told = "\n".join(plan.notes)
    assert "down could not say for 40 of the sample, which count as missing there" in told
    assert (
        "api needs about 40 calls, and its limit allows 15" in told
        and "api costs money or quota, and has no price" in told
    )
    assert plan.hours(per_second=1000) == (40 * 8640 / 3600,) * 3  # four days, whatever the rate
    empty = store.plan([])
    assert (empty.digests, empty.missing, empty.hours(1)) == (0, (0, 0, 0), (0, 0, 0))
    assert "0 different digests" in str(empty) and empty.as_dict()["money"] is None
    for wrong in (-1, True):
        with pytest.raises(ValueError, match="sample="):
            store.plan(digests, sample=wrong)
    for rate in (0, -1, math.nan):
        with pytest.raises(ValueError, match="per_second="):
            plan.hours(rate)


def test_a_plan_names_the_date_and_the_page_of_list_prices() -> None:
    listed = Sha1Store(S3Raw("anonymous", price="s3-standard-ia"), "s3://bucket/")
    own = Sha1Store(HTTPRaw(price=BUCKET), "http://127.0.0.1:1/")
    plan = composed(as_source(listed, "listed"), as_source(own, "own")).plan([sha1(b"x")], sample=0)
    (note,) = [note for note in plan.notes if "list prices" in note]
    assert note == f"listed has list prices as noted on {DATED}: compare https://aws.amazon.com/s3/pricing/"


def test_tiers_of_a_composite_within_a_composite_are_planned_by_their_names(tmp_path: Path) -> None:
    held = {sha1(bytes([n])): bytes([n]) for n in range(50)}
    api = API(held)
    api.price = "1 USD"
    cache = DiskCache(tmp_path / "cache", "1GB", algorithm="sha1")
    inner = composed(as_source(Shelf({}), "shelf"), as_source(api, "api"))
    store = composed(as_cache(cache, "disk"), as_source(inner, "inner"))
    cache.put(next(iter(held)), bytes([0]))
    plan = store.plan(held)
    assert [tier.name for tier in plan.tiers] == ["disk", "inner/shelf", "inner/api"]
    assert plan.tiers[2].calls == (49, 49, 49) and str(plan.money) == "49.00 USD"
    assert api.calls == []


def test_shares_and_means_have_the_bounds_of_their_sources() -> None:
    # Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", 2001: 10 of 50.
    low, expected, high = of_share(10, 50)
    assert (round(low, 4), expected, round(high, 4)) == (0.1124, 0.2, 0.3304)
    assert of_share(0, 0) == (0.0, 0.5, 1.0) and of_share(3, 4, 4) == (0.75, 0.75, 0.75)
    assert of_share(0, 50).low == 0.0 and of_share(50, 50).high == 1.0
    half = of_share(500, 1000)
    assert of_share(500, 1000, 2000).high < half.high < of_others(500, 1000, 100).high <= 1.0
    assert of_mean([2.0, 4.0, 6.0]).expected == 4.0 and of_mean([5.0]) == (0.0, 5.0, 10.0)
    assert of_mean([1.0, 3.0], 2) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="a mean needs values"):
        of_mean([])
    dice, inside = random.Random(8), 0
    for _ in range(400):
        population = [dice.random() < 0.3 for _ in range(300)]
        share = of_share(sum(population[:100]), 100, 300)
        inside += share.low <= sum(population) / 300 <= share.high
    assert inside >= 370  # 95 %, of which chance takes or adds a few
