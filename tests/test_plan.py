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

from bitstore import (
    Budget,
    DiskCache,
    HTTPRaw,
    MissLedger,
    Price,
    RemembersMisses,
    Sha1Store,
)
from tests.limit_workers import LimitedAPI
from tests.servers import CountedAPI
from tests.stores import as_cache, as_source, composed, sha1

BUCKET = Price(per_1000_reads="0.4 USD", egress_per_gb="90 USD", per_1000_writes="5 USD")
GOOGLE = Price(per_1000_reads="0.5 USD", egress_per_gb="120 USD", misses_billed=False)


@pytest.fixture
def servers() -> Iterator[list[CountedAPI]]:
    with ExitStack() as stack:
        yield [stack.enter_context(CountedAPI()) for _ in range(3)]


def made(count: int, seed: int) -> dict[str, bytes]:
    """Blobs of many sizes, by their digests."""
    dice = random.Random(seed)
    found = {}
    for _ in range(count):
        data = dice.randbytes(int(math.exp(dice.uniform(4, 9))))
        found[sha1(data)] = data
    return found


def bucket(server: CountedAPI, price: Price | None = BUCKET) -> Sha1Store:
    return Sha1Store(HTTPRaw(price=price), f"{server.url}/blob/")


def split(blobs: dict[str, bytes], *shares: float, seed: int = 3) -> list[dict[str, bytes]]:
    """The blobs of each place: a random part of all."""
    dice = random.Random(seed)
    return [{digest: data for digest, data in blobs.items() if dice.random() < share} for share in shares]


def a_cache_a_bucket_and_an_api(servers: list[CountedAPI], folder: Path) -> tuple[Any, list[str]]:
    blobs = made(1500, 1)
    kept, servers[0].blobs, servers[1].blobs = split(blobs, 0.2, 0.6, 0.9)
    cache = DiskCache(folder / "cache", "1GB", algorithm="sha1")
    for digest, data in kept.items():
        cache.put(digest, data)
    api = LimitedAPI(servers[1].url, None, price="0.02 USD")
    store = composed(as_cache(cache, "disk"), as_source(bucket(servers[0]), "bucket"), as_source(api, "api"))
    return store, [*blobs]


def two_buckets_of_two_services(servers: list[CountedAPI], folder: Path) -> tuple[Any, list[str]]:
    blobs = made(2500, 2)
    servers[0].blobs, servers[1].blobs = split(blobs, 0.35, 0.5)
    first, second = bucket(servers[0]), bucket(servers[1], GOOGLE)
    return composed(as_source(first, "amazon"), as_source(second, "google")), [*blobs]


def a_second_run_with_a_ledger(servers: list[CountedAPI], folder: Path) -> tuple[Any, list[str]]:
    blobs = made(1200, 4)
    servers[0].blobs, servers[1].blobs = split(blobs, 0.5, 0.4)
    api = LimitedAPI(servers[1].url, None, price="0.02 USD")
    remembering = RemembersMisses(api, MissLedger(folder / "misses"), name="api")
    store = composed(
        as_cache(DiskCache(folder / "cache", "1GB", algorithm="sha1"), "disk"),
        as_source(bucket(servers[0]), "bucket"),
        as_source(remembering, "api"),
    )
    for blob in store.get_many([*blobs][:900]):
        assert blob.error is None or blob.missing
    for server in servers:
        server.clear()
    return store, [*blobs]


@pytest.mark.parametrize("job", [a_cache_a_bucket_and_an_api, two_buckets_of_two_services, a_second_run_with_a_ledger])
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
