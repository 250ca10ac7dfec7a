"""Three jobs against servers that count, of which plans are made."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from bitstore import DiskCache, HTTPRaw, MissLedger, Price, RemembersMisses, Sha1Store
from tests.limit_workers import LimitedAPI
from tests.servers import CountedAPI
from tests.stores import as_cache, as_source, composed, sha1

__all__ = ["BUCKET", "JOBS", "bucket", "made", "split"]

BUCKET = Price(per_1000_reads="0.4 USD", egress_per_gb="90 USD", per_1000_writes="5 USD")
GOOGLE = Price(per_1000_reads="0.5 USD", egress_per_gb="120 USD", misses_billed=False)


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


JOBS = [a_cache_a_bucket_and_an_api, two_buckets_of_two_services, a_second_run_with_a_ledger]
