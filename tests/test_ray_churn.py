"""A job during which a third of the nodes is replaced one by one: what it asks of a real bucket and of a paid API."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray

from bitstore import DiskCache, S3Raw, Sha1Store
from ray_integration import NodePool
from tests.ray_cluster import Caller, PaidAPI, RayCluster, gets, leave_nothing, on_nodes, on_ray
from tests.servers import CountedAPI, MakeProxy, SeaweedS3
from tests.soak_report import record
from tests.stores import as_cache, as_source, composed
from tests.test_ray_pool import blobs_of

pytestmark = on_ray(600, pytest.mark.soak)

FREE, PAID = blobs_of("in the bucket", 2000), blobs_of("only the API has", 400)
BLOBS = {**FREE, **PAID}
NODES, REPLACED = 6, 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as cluster:
        for _ in range(NODES):
            cluster.add()
        cluster.wait()
        yield cluster


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    yield
    leave_nothing(cluster)


def drain(cluster: RayCluster, name: str) -> None:
    """Announce that a node leaves, as autoscalers and providers of machines do."""
    from ray import _raylet
    from ray.core.generated import autoscaler_pb2

    generated: Any = autoscaler_pb2
    reason = generated.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    client = vars(_raylet)["GcsClient"](address=cluster.address)
    accepted, why = client.drain_node(cluster.nodes[name], reason, "preempted", 0)
    assert accepted, why


def held(cluster: RayCluster, name: str) -> set[str]:
    """The digests on the disk of a node."""
    cache = DiskCache(cluster.folder / name, algorithm="sha1")
    return {digest for digest in BLOBS if cache.exists(digest)}


def until(what: Any, limit: float = 120.0) -> None:
    deadline = time.monotonic() + limit
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.2)


def replace_node(cluster: RayCluster, pool: NodePool, job: Job, leaves: str) -> None:
    """One node joins, another leaves: it says so, hands over its disk, and is gone."""
    new = cluster.add()
    cluster.wait()
    until(lambda: cluster.nodes[new] in {found.node_id for found in pool.nodes()})
    job.goes_on()
    drain(cluster, leaves)
    job.goes_on()
    others = [name for name in cluster.nodes if name != leaves]
    until(lambda: held(cluster, leaves) <= set().union(*(held(cluster, name) for name in others)))
    cluster.kill(leaves)
    job.goes_on()


class Job(threading.Thread):
    """Callers on some nodes ask for batches of digests, among them ever more that no one has asked for before."""

    def __init__(self, actors: list[Any]) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.rows = self.batches = 0
        self.error: BaseException | None = None
        self._actors = actors
        self._random = random.Random(5)
        self._order = self._random.sample(list(BLOBS), len(BLOBS))

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                known = min(len(BLOBS), 600 + 20 * self.batches)
                self.check([self._random.sample(self._order[:known], 150) for _ in self._actors])
                self.batches += 1
            self.check([self._order[number :: len(self._actors)] for number in range(len(self._actors))])
        except BaseException as error:
            self.error = error

    def check(self, batches: list[list[str]]) -> None:
        calls = [actor.fetch.remote(batch) for actor, batch in zip(self._actors, batches, strict=True)]
        for rows in ray.get(calls, timeout=240):
            for digest, data, _, error in rows:
                assert error is None
                assert data == BLOBS[digest]
                self.rows += 1

    def goes_on(self) -> None:
        """Wait until it has asked for some more batches."""
        batches = self.batches
        until(lambda: self.batches >= batches + 3 or self.error is not None)


def test_a_blob_that_all_nodes_ask_for_leaves_its_owner_a_few_times(
    cluster: RayCluster, s3: SeaweedS3, fault_proxy: MakeProxy
) -> None:
    bucket = s3.create_bucket()
    hot = dict(list(FREE.items())[:30])
    for item in hot.items():
        s3.put(bucket, *item)
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url)
    store = composed(
        as_cache(DiskCache(max_size="1GB"), "disk"), as_source(Sha1Store(raw, f"s3://{bucket}/"), "bucket")
    )
    names = list(cluster.nodes) * 4
    with NodePool(store, private=True) as pool:
        actors = on_nodes(cluster, names, Caller, store, {"pool": pool, "routing": "owner"})
        for _ in range(3):
            for rows in ray.get([actor.fetch.remote(list(hot)) for actor in actors], timeout=120):
                assert {digest: data for digest, data, _, _ in rows} == hot
        usage = pool.stats(by="node")
    assert gets(proxy, bucket) == Counter(list(hot))
    # Eight copies leave an owner before it says so; without that there were one for each caller elsewhere.
    copies = int(usage["bytes_peer"].sum()) / sum(map(len, hot.values()))
    record("hot blobs", copies=copies)
    assert copies <= 8
    assert all(set(hot) == held(cluster, name) & set(hot) for name in cluster.nodes)


def test_a_third_of_the_nodes_is_replaced_and_nothing_is_fetched_twice(
    cluster: RayCluster, s3: SeaweedS3, fault_proxy: MakeProxy, api: CountedAPI
) -> None:
    bucket = s3.create_bucket()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(bucket, *item), FREE.items()))
    api.blobs.update(PAID)
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url)
    store = composed(
        as_cache(DiskCache(max_size="1GB"), "disk"),
        as_source(Sha1Store(raw, f"s3://{bucket}/"), "bucket"),
        as_source(PaidAPI(api.url), "api"),
    )
    names = list(cluster.nodes)
    with NodePool(store, private=True) as pool:
        job = Job(on_nodes(cluster, names[REPLACED:], Caller, store, {"pool": pool, "routing": "owner"}))
        job.start()
        job.goes_on()
        for leaves in names[:REPLACED]:
            replace_node(cluster, pool, job, leaves)
        job.stop.set()
        job.join(300)
        assert job.error is None and not job.is_alive()
        report = pool.report()
    upstream = gets(proxy, bucket)
    per_digest = upstream.total() / len(BLOBS)
    record("a third of the nodes replaced", rows=job.rows, gets=upstream.total(), calls=api.calls.total())
    # What only the API has is asked for at the bucket first.
    assert set(upstream) == set(BLOBS)
    assert per_digest <= 1.02
    assert api.calls == Counter(list(PAID))
    assert report.bytes_by_place["other_disks"] > 0
    assert report.upstream_share is not None and report.upstream_share < 0.5
