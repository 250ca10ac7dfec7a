"""Real `ray.data` jobs on a Ray of several nodes while what they need is killed, stopped, or out of reach."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, S3Raw, Sha1Cache, Sha1Composite, Sha1Store
from ray_integration import NodePool, fetch_blobs
from tests.ray_cluster import PaidAPI, RayCluster, leave_nothing, names_of_actors, on_ray, three_nodes
from tests.servers import CountedAPI, FaultProxy, MakeProxy, SeaweedS3
from tests.soak_report import record
from tests.stores import as_cache, as_source, composed
from tests.test_ray_pool import (  # its blobs, its callers
    ABSENT,
    IN_API,
    IN_BUCKET,
    Midway,
    World,
    callers,
    check,
    fetch_all,
    filled,
    slowed,
)

__all__ = ["filled"]

pytestmark = on_ray(240, pytest.mark.soak)

# What costs money is in one row only: so a second call for it can come from nothing but the fault.
ROWS = sorted([*IN_BUCKET, *ABSENT] * 2 + list(IN_API), key=lambda digest: digest[::-1])
LIMIT = 150.0  # seconds for a job; what hangs takes longer
OUTAGE = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with three_nodes() as cluster:
        yield cluster


class SplitWorld(World):
    """The shared cache of what was paid for is behind a proxy of its own."""

    def __init__(self, s3: SeaweedS3, filled: str, proxy: FaultProxy, api: CountedAPI, cache_proxy: FaultProxy) -> None:
        super().__init__(s3, filled, proxy, api)
        self.cache_proxy = cache_proxy

    def store(self, folder: Path | None = None) -> Sha1Composite:
        session = self.s3.admin.session
        store = composed(as_cache(DiskCache(folder, "1GB")))
        bucket = S3Raw(session, endpoint_url=self.proxy.url)
        store.append_source(Sha1Store(bucket, f"s3://{self.bucket}/"), name="bucket")
        cache = S3Raw(session, endpoint_url=self.cache_proxy.url)
        store.append_cache(Sha1Cache(cache, f"s3://{self.paid_bucket}/"), name="paid for")
        store.append_source(PaidAPI(self.api.url), name="api")
        return store


@pytest.fixture
def world(s3: SeaweedS3, filled: str, fault_proxy: MakeProxy, api: CountedAPI) -> SplitWorld:
    world = SplitWorld(s3, filled, fault_proxy(s3.endpoint_url), api, fault_proxy(s3.endpoint_url))
    slowed(world)
    return world


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    """Every test begins with three nodes and empty disks, and leaves no actor."""
    while len(cluster.nodes) < 3:
        cluster.add()
    cluster.wait()
    yield
    leave_nothing(cluster, 30)


def within(limit: float, work: Callable[[], Any]) -> Any:
    """What `work` returns; an error if it takes longer."""
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if failed:
        raise failed[0]
    assert done, f"it hangs: not done in {limit:.0f} s"
    return done[0]


def run_job(store: Any, folder: Path, **options: Any) -> list[Any]:
    """The rows of a job that reads digests from a file and fetches their blobs with an actor on each node."""
    (folder / "digests.txt").write_text("\n".join(ROWS))

    def work() -> list[Any]:
        ds = ray.data.read_text(str(folder / "digests.txt"), override_num_blocks=6)
        done = fetch_blobs(ds, store, "text", actors=3, batch_size=100, **options)
        rows: list[Any] = []
        table: Any
        for table in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert table.schema.field("data").type == pyarrow.large_binary()
            columns = [table.column(name).to_pylist() for name in ("text", "data", "source", "error")]
            rows += zip(*columns, strict=True)
        return rows

    begun = time.monotonic()
    rows: list[Any] = within(LIMIT, work)
    record(os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].rsplit(" ", 1)[0], seconds=time.monotonic() - begun)
    check(rows, ROWS)
    return rows


def fetchers(cluster: RayCluster, name: str) -> list[str]:
    """The map actors that run on a node."""
    raylet = cluster._started[name].all_processes["raylet"][0].process.pid
    told = subprocess.run(["ps", "-o", "args=", "--ppid", str(raylet)], capture_output=True, text=True, check=True)
    return [line for line in told.stdout.splitlines() if "MapBatches" in line or "FetchBlobs" in line]


@pytest.mark.parametrize("routing", ["direct", "local", "owner"])
def test_a_job_finishes_when_a_node_is_killed(
    cluster: RayCluster, world: SplitWorld, tmp_path: Path, routing: Any
) -> None:
    """The raylet and all its workers at once: map actor, node store, disk cache, and blocks that were done."""
    victim = list(cluster.nodes)[-1]
    lost: list[str] = []

    def kill() -> None:
        lost.extend(fetchers(cluster, victim))
        cluster.kill(victim)

    midway = Midway(world, kill)
    run_job(world.store(), tmp_path, routing=routing)
    midway.check()
    assert lost  # a map actor was at work there


@pytest.mark.parametrize("routing", ["local", "owner"])
def test_a_job_finishes_when_a_node_store_is_killed(
    cluster: RayCluster, world: SplitWorld, tmp_path: Path, routing: Any
) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        pid = pool.nodes()[0].pid
        midway = Midway(world, lambda: os.kill(pid, signal.SIGKILL))
        run_job(store, tmp_path, routing=routing, pool=pool)
        midway.check()


def test_a_lookup_that_only_a_killed_node_store_can_answer_waits_for_it(cluster: RayCluster, world: SplitWorld) -> None:
    """Its own node asks it first for what is free, and passes it over; but what is on its disk has been paid for."""
    store = composed(as_cache(DiskCache()), as_source(PaidAPI(world.api.url), "api"))
    name = next(iter(cluster.nodes))
    with NodePool(store, private=True) as pool:
        (actor,) = callers(cluster, store, [name], pool=pool, routing="local")
        check(fetch_all([actor], list(IN_API), size=200), list(IN_API))
        assert Counter(world.api.calls) == Counter(list(IN_API))
        (pid,) = [found.pid for found in pool.nodes() if found.node_id == cluster.nodes[name]]
        os.kill(pid, signal.SIGKILL)
        check(within(LIMIT, lambda: fetch_all([actor], list(IN_API), size=200)), list(IN_API))
        assert Counter(world.api.calls) == Counter(list(IN_API))


@contextmanager
def stopped(server: SeaweedS3) -> Iterator[None]:
    """Takes connections, and never says a word."""
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


@contextmanager
def refused(proxy: FaultProxy) -> Iterator[None]:
    """Takes no connections."""
    proxy.down()
    try:
        yield
    finally:
        proxy.up()


@pytest.mark.parametrize("routing", ["direct", "local", "owner"])
@pytest.mark.parametrize("what", ["shared cache", "bucket", "server stopped"])
def test_a_job_outlasts_ten_seconds_without_a_service(
    cluster: RayCluster, world: SplitWorld, tmp_path: Path, what: str, routing: Any
) -> None:
    def outage() -> None:
        if what == "server stopped":
            down = stopped(world.s3)
        else:
            down = refused(world.cache_proxy if what == "shared cache" else world.proxy)
        with down:
            threading.Event().wait(OUTAGE)

    midway = Midway(world, outage)
    run_job(world.store(), tmp_path, routing=routing)
    midway.check()


def test_the_patience_option_decides_how_long_an_outage_is_waited_for(cluster: RayCluster, world: SplitWorld) -> None:
    """0: what fails has failed. By itself, a batch waits for what is down."""
    store = composed(Sha1Store(S3Raw(world.s3.admin.session, endpoint_url=world.proxy.url), f"s3://{world.bucket}/"))
    asked = list(IN_BUCKET)[:300]
    with NodePool(store, private=True) as pool:
        for options in ({"pool": pool, "routing": "owner"}, {"pool": pool}, {}):
            (hasty,) = callers(cluster, store, ["n0"], patience=0, **options)
            (patient,) = callers(cluster, store, ["n0"], **options)
            with refused(world.proxy):
                rows = within(40, partial(fetch_all, [hasty], asked, size=300))
                assert Counter(str(row[3]).split()[0] for row in rows) == {"failed:": len(asked)}
                waits = patient.fetch.remote(asked)
                assert ray.wait([waits], timeout=3)[0] == []
            check(within(LIMIT, partial(ray.get, waits)), asked)


@pytest.mark.parametrize("routing", ["local", "owner"])
def test_a_node_store_that_hangs_is_waited_for_once(
    cluster: RayCluster, world: SplitWorld, routing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process is stopped, and goes on later: as a machine that swaps, or a disk that does not answer."""
    caplog.set_level(logging.INFO, logger="bitstore")
    store = composed(Sha1Store(S3Raw(world.s3.admin.session, endpoint_url=world.proxy.url), f"s3://{world.bucket}/"))
    name = next(iter(cluster.nodes))
    asked = list(IN_BUCKET)
    with NodePool(store, private=True) as pool:
        (actor,) = callers(cluster, store, [name], pool=pool, routing=routing)
        check(fetch_all([actor], asked[:300], size=300), asked[:300])
        (pid,) = [found.pid for found in pool.nodes() if found.node_id == cluster.nodes[name]]
        os.kill(pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            check(within(60, lambda: fetch_all([actor], asked, size=300)), asked)
            first = time.monotonic() - begun
            later = 0.0
            for _ in range(3):
                threading.Event().wait(11)  # longer than it is left alone in any case
                begun = time.monotonic()
                check(within(60, lambda: fetch_all([actor], asked[:300], size=300)), asked[:300])
                later += time.monotonic() - begun
            assert later < 30  # once more would be 30 seconds, and it is three batches
            record(f"hung node store, {routing}", first_seconds=first, later_seconds=later)
        finally:
            os.kill(pid, signal.SIGCONT)

        def hits() -> int:
            stats = pool.stats()
            return int(stats[stats["node_id"] == cluster.nodes[name]]["hits"].sum())

        def is_used_again() -> bool:
            before = hits()
            while hits() == before:
                check(fetch_all([actor], asked[:300], size=300), asked[:300])
                threading.Event().wait(0.5)
            return True

        assert within(60, is_used_again)


def make_pool(store: Any) -> list[int]:
    pool = NodePool(store)
    pids = sorted(found.pid for found in pool.nodes())
    pool.close()  # a shared one: its node stores stay
    return pids


def test_processes_that_make_a_pool_at_once_get_the_same_pool(cluster: RayCluster, world: SplitWorld) -> None:
    """And a pool that ends leaves no process."""
    store = world.store()
    makers = [ray.remote(make_pool).options(num_cpus=0, scheduling_strategy="SPREAD") for _ in range(6)]
    made = within(90, lambda: ray.get([maker.remote(store) for maker in makers]))
    pool = NodePool(store)
    try:
        assert made == [sorted(found.pid for found in pool.nodes())] * 6
        assert len(names_of_actors()) == 3
    finally:
        pool.shutdown()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in made[0]):
        assert time.monotonic() < deadline
        threading.Event().wait(0.2)
