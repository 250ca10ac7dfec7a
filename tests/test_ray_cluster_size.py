"""Exactly once at full size: 50,000 rows over 10,000 distinct digests on a Ray of three nodes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, S3Raw, Sha1Cache, Sha1Store
from ray_integration import NodePool, fetch_blobs
from tests.ray_cluster import PaidAPI, RayCluster, gets, leave_nothing, on_ray, three_nodes
from tests.servers import CountedAPI, MakeProxy, SeaweedS3
from tests.soak_report import record
from tests.stores import as_cache, as_source, composed
from tests.test_ray_pool import blobs_of

pytestmark = on_ray(300, pytest.mark.soak)

BLOBS = blobs_of("in the bucket", 10_000)
PAID = blobs_of("only the API has", 1_000)
REPEATED = 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with three_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def filled(s3: SeaweedS3) -> str:
    name = s3.create_bucket()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(name, *item), BLOBS.items()))
    return name


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    yield
    leave_nothing(cluster)


def shuffled(digests: list[str]) -> list[str]:
    rows = digests * REPEATED
    random.Random(7).shuffle(rows)
    return rows


def run_job(store: Any, rows: list[str], **options: Any) -> None:
    """A job with four map actors; each row is there once, with the right bytes."""
    ds = ray.data.from_arrow(pyarrow.table({"sha1": rows, "n": range(len(rows))})).repartition(16)
    seen: set[int] = set()
    table: Any
    for table in fetch_blobs(ds, store, **{"actors": 4, "batch_size": 2048, **options}).iter_batches(
        batch_size=None, batch_format="pyarrow"
    ):
        assert table.column("error").null_count == table.num_rows
        columns = [table.column(name).to_pylist() for name in ("n", "sha1", "data")]
        for number, digest, data in zip(*columns, strict=True):
            assert digest == rows[number]
            assert data == (BLOBS.get(digest) or PAID[digest])
            seen.add(number)
    assert len(seen) == len(rows)


def test_each_of_ten_thousand_blobs_is_fetched_once_in_the_cluster(
    cluster: RayCluster, s3: SeaweedS3, filled: str, fault_proxy: MakeProxy
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    store = composed(as_cache(DiskCache(max_size="1GB")))
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url)
    store.append_source(Sha1Store(raw, f"s3://{filled}/"), name="bucket")
    rows = shuffled(list(BLOBS))
    assert len(rows) == 50_000
    begun = time.monotonic()
    with NodePool(store, private=True) as pool:
        run_job(store, rows, routing="owner", pool=pool)
        assert gets(proxy, filled) == Counter(list(BLOBS))
        record("50,000 rows, 10,000 digests, owner", gets=len(proxy.requests), seconds=time.monotonic() - begun)
        assert len(proxy.requests) == len(BLOBS)
        proxy.clear()
        run_job(store, rows, routing="owner", pool=pool)
        assert len(proxy.requests) == 0


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("routing", [None, "local", "owner"])
def test_each_of_many_paid_blobs_is_paid_for_once(
    cluster: RayCluster,
    s3: SeaweedS3,
    filled: str,
    fault_proxy: MakeProxy,
    api: CountedAPI,
    routing: Any,
    jobs: int,
) -> None:
    """In every mode that `fetch_blobs` has for a store with a paid source, also in two jobs at once."""
    api.blobs.update(PAID)
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url)
    store = composed(
        as_cache(DiskCache(max_size="1GB")),
        as_source(Sha1Store(raw, f"s3://{filled}/"), "bucket"),
        as_cache(Sha1Cache(raw, f"s3://{s3.create_bucket()}/"), "paid for"),
        as_source(PaidAPI(api.url), "api"),
    )
    rows = shuffled([*PAID, *list(BLOBS)[:1000]])
    pool = NodePool(store) if jobs > 1 else None  # what one job made for itself, the other could not find
    options = {"routing": routing, "pool": pool, "actors": 4 // jobs, "batch_size": 512}
    try:
        with ThreadPoolExecutor(jobs) as threads:
            for job in [threads.submit(run_job, store, rows, **options) for _ in range(jobs)]:
                job.result(200)
        assert api.calls == Counter(list(PAID))
        api.clear()
        run_job(store, rows, **options)
        assert sum(api.calls.values()) == 0
    finally:
        if pool is not None:
            pool.shutdown()
