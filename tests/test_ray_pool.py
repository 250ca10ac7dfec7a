"""Node pools and routing on a real Ray of several nodes, against a real S3 server and a counted API."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, NotFoundInStore, S3Raw, Sha1Cache, Sha1Composite, Sha1Store
from ray_integration import FetchBlobs, NodePool, PoolError, VersionMismatch, fetch_blobs
from tests.ray_cluster import Caller, PaidAPI, RayCluster, gets, leave_nothing, names_of_actors, on_nodes, on_ray
from tests.ray_stores import MadeStore
from tests.servers import CountedAPI, Delay, FaultProxy, MakeProxy, SeaweedS3
from tests.stores import as_cache, as_source, composed

pytestmark = on_ray(150, pytest.mark.soak)

ROWS = tuple[str, "bytes | None", "str | None", "str | None"]
LIMIT = 90


def digest_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def blobs_of(what: str, count: int) -> dict[str, bytes]:
    return {digest_of(data): data for data in (f"{what} {number}".encode() * 20 for number in range(count))}


IN_BUCKET = blobs_of("in the bucket", 900)
IN_API = blobs_of("only the API has", 120)
ABSENT = [digest_of(f"absent {number}".encode()) for number in range(20)]
ALL = {**IN_BUCKET, **IN_API}


@pytest.fixture(scope="module")
def cluster(s3: SeaweedS3) -> Iterator[RayCluster]:
    with RayCluster() as cluster:
        cluster.add(s3.environment(s3.reader))
        cluster.add(s3.environment(s3.getter))
        cluster.add()
        cluster.wait()
        yield cluster


@pytest.fixture(scope="module")
def filled(s3: SeaweedS3) -> str:
    name = s3.create_bucket()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(name, *item), IN_BUCKET.items()))
    return name


class World:
    """A bucket behind a proxy, a paid API behind that, and a shared cache of what it returned."""

    def __init__(self, s3: SeaweedS3, filled: str, proxy: FaultProxy, api: CountedAPI) -> None:
        self.proxy = proxy
        self.api = api
        self.bucket = filled
        self.paid_bucket = s3.create_bucket()
        self.s3 = s3
        api.blobs.update(IN_API)

    def store(self, folder: Path | None = None) -> Sha1Composite:
        raw = S3Raw(self.s3.admin.session, endpoint_url=self.proxy.url)
        return composed(
            as_cache(DiskCache(folder, "1GB")),
            as_source(Sha1Store(raw, f"s3://{self.bucket}/"), "bucket"),
            as_cache(Sha1Cache(raw, f"s3://{self.paid_bucket}/"), "paid for"),
            as_source(PaidAPI(self.api.url), "api"),
        )

    def gets(self) -> Counter[str]:
        """Requests for each digest to the bucket."""
        return gets(self.proxy, self.bucket)


@pytest.fixture
def world(s3: SeaweedS3, filled: str, fault_proxy: MakeProxy, api: CountedAPI) -> World:
    return World(s3, filled, fault_proxy(s3.endpoint_url), api)


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    """Every test has the cluster's disks for itself, and leaves no actor."""
    yield
    leave_nothing(cluster, 20)


def callers(cluster: RayCluster, store: Any, names: list[str], **options: Any) -> list[Any]:
    return on_nodes(cluster, names, Caller, store, options)


def check(rows: list[ROWS], asked: list[str]) -> None:
    """Every row is there once, and right."""
    assert Counter(row[0] for row in rows) == Counter(asked)
    for digest, data, source, error in rows:
        if digest in ALL:
            assert error is None
            assert data == ALL[digest]
            assert source is not None
        else:
            assert data is None
            assert error is not None
            assert error.startswith("missing: ")


def portions(digests: list[str], count: int, size: int = 200) -> list[list[list[str]]]:
    """Batches for each of `count` callers."""
    batches = [digests[start : start + size] for start in range(0, len(digests), size)]
    return [batches[number::count] for number in range(count)]


def fetch_all(actors: list[Any], digests: list[str], size: int = 200) -> list[ROWS]:
    calls = [
        actor.fetch.remote(batch)
        for actor, batches in zip(actors, portions(digests, len(actors), size), strict=True)
        for batch in batches
    ]
    return [row for rows in ray.get(calls, timeout=LIMIT) for row in rows]


MANY = [digest for _ in range(3) for digest in [*IN_BUCKET, *IN_API, *ABSENT]]


def test_owner_routing_fetches_each_digest_once_in_the_cluster(cluster: RayCluster, world: World) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        assert {found.node_id for found in pool.nodes()} == set(cluster.nodes.values())
        actors = callers(cluster, store, ["n0", "n1", "n2", "n0"], pool=pool, routing="owner")
        check(fetch_all(actors, MANY), MANY)
        gets = world.gets()
        # The blobs: once. What it lacks is asked for again by each batch in which it occurs: no store remembers that.
        assert {digest: gets[digest] for digest in IN_BUCKET} == dict.fromkeys(IN_BUCKET, 1)
        assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)
        # Each on one disk only, and all disks in use.
        held = [
            sum(DiskCache(cluster.folder / name, algorithm="sha1").exists(digest) for digest in ALL)
            for name in cluster.nodes
        ]
        assert sum(held) == len(ALL)
        assert all(len(ALL) / 3 * 0.7 < count < len(ALL) / 3 * 1.3 for count in held)

        world.proxy.clear()
        world.api.clear()
        again = [digest for digest in MANY if digest in ALL]
        check(fetch_all(actors, again), again)
        assert len(world.proxy.requests) == 0
        assert sum(world.api.calls.values()) == 0


def test_local_routing_pays_once_for_each_digest(cluster: RayCluster, world: World) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1", "n2", "n0"], pool=pool)
        check(fetch_all(actors, MANY), MANY)
        assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)
        # At most once on each node.
        assert max(world.gets()[digest] for digest in IN_BUCKET) <= 3
        world.proxy.clear()
        check(fetch_all(actors[:1], list(IN_API)), list(IN_API))
        assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)


def test_local_routing_looks_up_no_node_store_but_its_own(cluster: RayCluster, world: World) -> None:
    """On a thousand nodes, looking up all from everywhere would be a million questions to the head."""
    store = composed(MadeStore(50))
    asked = list(IN_BUCKET)[:20]
    with NodePool(store, private=True) as pool:
        local, owner = [
            callers(cluster, store, ["n1"], pool=pool, routing=routing)[0] for routing in ("local", "owner")
        ]
        ray.get([actor.fetch.remote(asked) for actor in (local, owner)], timeout=LIMIT)
        (own,) = ray.get(local.known.remote(), timeout=LIMIT)
        assert cluster.nodes["n1"] in own
        assert len(ray.get(owner.known.remote(), timeout=LIMIT)) == 3


def test_a_job_of_ray_data_makes_its_pool_and_fetches_all_blobs(cluster: RayCluster, world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own: it sets an option that it deprecates
        ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"sha1": digest if row % 2 else digest.upper(), "n": row} for row, digest in enumerate(MANY)]
    ds = ray.data.from_items(rows, override_num_blocks=6)
    done = fetch_blobs(ds, world.store(), routing="owner", actors=2, batch_size=400)
    table = pyarrow.concat_tables(
        list(done.iter_batches(batch_size=None, batch_format="pyarrow")), promote_options="permissive"
    )
    columns = [table.column(name).to_pylist() for name in ("sha1", "data", "source", "error")]
    found: list[ROWS] = [(row[0].lower(), *row[1:]) for row in zip(*columns, strict=True)]
    check(found, MANY)
    assert sorted(table.column("n").to_pylist()) == list(range(len(MANY)))
    assert {digest: world.gets()[digest] for digest in IN_BUCKET} == dict.fromkeys(IN_BUCKET, 1)
    assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)
    assert len(names_of_actors()) == 3
    del done  # and with it the pool: the fixture sees whether it goes
    gc.collect()  # Ray Data's plans refer to themselves


def kept_in_bucket(world: World) -> set[str]:
    """Digests whose blobs the shared cache of paid ones has now."""
    pages = world.s3.client().get_paginator("list_objects_v2").paginate(Bucket=world.paid_bucket)
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}


class Midway(threading.Thread):
    """Does something when so many paid blobs have been kept (in the shared cache, if not told where), and remembers."""

    def __init__(
        self, world: World, act: Callable[[], object], *, count: int = 20, kept: Callable[[], set[str]] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self._kept = kept or (lambda: kept_in_bucket(world))
        self.kept: set[str] = set()
        self.error: BaseException | None = None
        self._world, self._act, self._count = world, act, count
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + 60
        try:
            while len(self.kept) < self._count and time.monotonic() < deadline:
                self.kept = self._kept()
            self._act()
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        """It was done in the midst, and nothing that had been kept was paid for again."""
        self.join(60)
        assert self.error is None
        assert self._count <= len(self.kept) < len(IN_API)
        assert {digest: self._world.api.calls[digest] for digest in self.kept} == dict.fromkeys(self.kept, 1)
        assert set(IN_API) <= set(self._world.api.calls)


def slowed(world: World) -> None:
    world.proxy.rules.add(Delay(0.1), method="GET", path=world.bucket)
    world.api.rules.add(Delay(0.2))


def shuffled() -> list[str]:
    return sorted([*ALL, *ABSENT], key=lambda digest: hashlib.md5(digest.encode()).digest())


@pytest.mark.parametrize("routing", ["owner", "local"])
def test_a_node_that_joins_is_used_and_may_be_killed_during_a_job(
    cluster: RayCluster, world: World, routing: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bitstore")
    store = world.store()
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1"], pool=pool, routing=routing)
        check(fetch_all(actors, ABSENT[:4], size=2), ABSENT[:4])
        name = cluster.add()
        node = cluster.nodes[name][:8]
        cluster.wait()
        deadline = time.monotonic() + 10
        while cluster.nodes[name] not in {found.node_id for found in pool.nodes()}:
            assert time.monotonic() < deadline
            threading.Event().wait(0.2)
        threading.Event().wait(2.5)  # for as long the callers' lists of nodes are good
        if routing == "local":
            actors.append(callers(cluster, store, [name], pool=pool)[0])
        slowed(world)
        midway = Midway(world, lambda: cluster.kill(name))
        asked = shuffled()
        if routing == "owner":
            check(fetch_all(actors, asked, size=300), asked)
        else:
            # As Ray Data does it: what a dead actor was to do, others do.
            batches = [asked[start : start + 100] for start in range(0, len(asked), 100)]
            calls = [(actors[number % 3].fetch.remote(batch), batch) for number, batch in enumerate(batches)]
            rows, lost = [], []
            for call, batch in calls:
                try:
                    rows += ray.get(call, timeout=LIMIT)
                except ray.exceptions.RayError:
                    lost += batch
            assert lost
            check(rows + fetch_all(actors[:2], lost), asked)
        midway.check()
        pool.nodes()
        # One line for each change, and none else.
        changes = [line for line in caplog.messages if line.startswith(f"pool {pool.address.pool}: node {node} ")]
        assert [line.rpartition(") ")[2] for line in changes] == ["is there", "is gone"]
        cache = DiskCache(cluster.folder / name, algorithm="sha1")
        assert sum(cache.exists(digest) for digest in ALL) > 10
        cache.clear()


def test_a_job_finishes_when_a_node_store_is_killed(cluster: RayCluster, world: World) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1"], pool=pool, routing="local")
        pids = {found.node_id: found.pid for found in pool.nodes()}
        slowed(world)
        midway = Midway(world, lambda: os.kill(pids[cluster.nodes["n0"]], signal.SIGKILL))
        asked = shuffled()
        check(fetch_all(actors, asked, size=300), asked)
        midway.check()


def test_a_blob_on_the_disk_of_a_killed_node_store_is_not_paid_for_again(cluster: RayCluster, world: World) -> None:
    """Its digests wait for it to come back, as long as its node is there."""
    store = composed(as_cache(DiskCache()), as_source(PaidAPI(world.api.url), "api"))
    disk = DiskCache(cluster.folder / "n0", algorithm="sha1")
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n1", "n2"], pool=pool, routing="owner")
        pids = {found.node_id: found.pid for found in pool.nodes()}
        world.api.rules.add(Delay(0.5))
        midway = Midway(
            world,
            lambda: os.kill(pids[cluster.nodes["n0"]], signal.SIGKILL),
            count=10,
            kept=lambda: set(filter(disk.exists, IN_API)),
        )
        asked = list(IN_API)
        # Both ask for all, so that much is under way twice when it is killed, and some comes after it.
        rows = ray.get([actor.fetch.remote(asked) for actor in actors], timeout=LIMIT)
        for each in rows:
            check(each, asked)
        midway.check()
    disk.clear()


def test_a_job_outlasts_some_seconds_without_the_s3_server(cluster: RayCluster, world: World) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1"], pool=pool, routing="owner")
        slowed(world)

        def outage() -> None:
            world.proxy.down()
            threading.Event().wait(5)
            world.proxy.up()

        midway = Midway(world, outage)
        asked = shuffled()
        check(fetch_all(actors, asked, size=300), asked)
        midway.check()


def test_a_pool_needs_no_free_cpu(cluster: RayCluster, world: World) -> None:
    hogs: list[Any] = [ray.remote(Hog).options(num_cpus=2).remote() for _ in cluster.nodes]
    ray.get([hog.__ray_ready__.remote() for hog in hogs], timeout=60)
    store = world.store()
    with NodePool(store, private=True, workers_per_node=2) as pool:
        assert len(pool.nodes()) == 2 * len(cluster.nodes)
        asked = [*list(IN_BUCKET)[:300], *IN_API]
        check(fetch_all(callers(cluster, store, ["n0"], pool=pool), asked), asked)
        assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)
        # Each process of the node has its share of the lookups.
        stats = pool.stats()
        hits = stats[stats["node_id"] == cluster.nodes["n0"]].xs("bucket", level="tier")["hits"]
        assert [worker for _, worker in hits.index] == [0, 1]
        assert all(hits > 90)
    for hog in hogs:
        ray.kill(hog)


class Hog:
    """Takes CPUs and does nothing."""


JOB = """
import os, pickle, signal, sys
import pyarrow, ray
from ray_integration import FetchBlobs, NodePool, PoolError, VersionMismatch, fetch_blobs
address, path = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
with open(path, "rb") as file:
    store, other, digests = pickle.load(file)
pool = NodePool(store)
print(*sorted(found.pid for found in pool.nodes()), flush=True)
sys.stdin.readline()
rows = [row for piece in FetchBlobs(store, pool=pool)(pyarrow.table({"sha1": digests})) for row in piece.to_pylist()]
print(sum(row["data"] is not None for row in rows), len(rows), flush=True)
different, own = NodePool(other), NodePool(store, private=True)
pids = {found.pid for found in different.nodes()}, {found.pid for found in own.nodes()}, {f.pid for f in pool.nodes()}
print(len(set.union(*pids)), flush=True)
different.shutdown()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_two_jobs_share_a_pool_only_for_the_same_store(cluster: RayCluster, world: World, tmp_path: Path) -> None:
    store, other = world.store(), world.store()
    other.append_source(MadeStore(50))
    world.api.rules.add(Delay(0.05))
    asked = [*list(IN_BUCKET)[:100], *IN_API]
    (tmp_path / "job").write_bytes(pickle.dumps((store, other, asked)))
    pool = NodePool(store)
    try:
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, cluster.address, tmp_path / "job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with job:
            assert job.stdin is not None
            assert job.stdout is not None
            assert job.stdout.readline().split() == [str(pid) for pid in sorted(found.pid for found in pool.nodes())]
            actors = callers(cluster, store, ["n1"], pool=pool)
            ray.get(actors[0].__ray_ready__.remote(), timeout=60)
            print("go", file=job.stdin, flush=True)
            check(fetch_all(actors, asked, size=1000), asked)
            assert job.stdout.readline().split() == [str(len(asked))] * 2
            assert {digest: world.api.calls[digest] for digest in IN_API} == dict.fromkeys(IN_API, 1)
            assert int(job.stdout.readline()) == 9
            assert job.wait(30) == -signal.SIGKILL
        # What was private died with its job; what is shared is here for the next.
        deadline = time.monotonic() + 30
        while len(names_of_actors()) > 3:
            assert time.monotonic() < deadline
            threading.Event().wait(0.2)
        assert all(found.version == pool.version for found in pool.nodes())
        check(fetch_all(actors, asked), asked)
    finally:
        pool.shutdown()
    assert all("bitstore-pool" not in thread.name or not _lives(thread) for thread in threading.enumerate())


def _lives(thread: threading.Thread) -> bool:
    thread.join(5)
    return thread.is_alive()


def test_each_node_uses_its_own_credentials(cluster: RayCluster, world: World) -> None:
    store = composed(as_source(Sha1Store(S3Raw(endpoint_url=world.proxy.url), f"s3://{world.bucket}/"), "bucket"))
    asked = list(IN_BUCKET)[:50]
    with NodePool(store, private=True) as pool:
        first, second, third = callers(cluster, store, ["n0", "n1", "n2"], pool=pool)
        for actor, who in ((first, world.s3.reader), (second, world.s3.getter)):
            world.proxy.clear()
            check(fetch_all([actor], asked), asked)
            assert len(world.proxy.requests) == 50
            assert all(
                f"Credential={who.access_key}/" in each.headers["authorization"] for each in world.proxy.requests
            )
        ((digest, data, _, error),) = fetch_all([third], asked[:1])
        assert (digest, data) == (asked[0], None)
        assert str(error).startswith(f"failed: {digest}: bucket: ")
        assert "finds no credentials" in str(error)


def test_a_node_that_cannot_use_its_cache_folder_continues_without_it(
    cluster: RayCluster, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    name = cluster.add({"BITSTORE_CACHE_DIR": str(tmp_path / "file")})
    cluster.wait()
    try:
        store = world.store()
        with NodePool(store, private=True) as pool:
            notes = {found.node_id: found.notes for found in pool.nodes() if found.notes}
            assert list(notes) == [cluster.nodes[name]]
            assert "goes on without its cache folder" in notes[cluster.nodes[name]][0]
            assert notes[cluster.nodes[name]][0] in caplog.text
            asked = [*list(IN_BUCKET)[:50], *list(IN_API)[:20], *ABSENT[:5]]
            rows = fetch_all(callers(cluster, store, [name], pool=pool), asked)
            check(rows, asked)
    finally:
        cluster.kill(name)


def test_node_store_errors_reach_the_driver(cluster: RayCluster, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = world.store(), world.store()
    other.append_source(MadeStore(50))
    with pytest.raises(ValueError, match="workers_per_node=0"):
        NodePool(store, workers_per_node=0)
    with NodePool(store, private=True) as pool:
        with pytest.raises(ValueError, match="was made for another store"):
            FetchBlobs(other, pool=pool)
        with pytest.raises(ValueError, match="routing='direct' asks no node stores"):
            FetchBlobs(store, pool=pool, routing="direct")
        with pytest.raises(ValueError, match="routing='owner' needs pool="):
            FetchBlobs(store, routing="owner")
        with pytest.raises(ValueError, match="routing='nearby': choose one of direct, local, owner"):
            FetchBlobs(store, pool=pool, routing="nearby")  # type: ignore[arg-type]
        sent = pickle.dumps(pool)
        with pytest.raises(PoolError, match="was sent to another process"):
            pickle.loads(sent).nodes()
        with monkeypatch.context() as patch:
            patch.setattr("ray_integration._pool.pool.__version__", "9.9.9")
            with pytest.raises(VersionMismatch, match=r"this process runs bitstore 9\.9\.9, but .* by bitstore 2\."):
                pickle.loads(sent)
    monkeypatch.setattr("ray_integration._pool.keeper.__version__", "9.9.9")
    with pytest.raises(VersionMismatch, match=r"node \w+ runs bitstore 2\..* was made by bitstore 9\.9\.9"):
        NodePool(store, private=True)


def test_more_bytes_than_the_object_stores_hold_pass_through(cluster: RayCluster) -> None:
    """320 MB in one batch, through object stores of 100 MB."""
    store = MadeStore(8_000_000)
    asked = [digest_of(f"large {number}".encode()) for number in range(40)]
    with NodePool(store, private=True) as pool:
        fetch = FetchBlobs(store, pool=pool, routing="owner", max_bytes="48MB", block_bytes="16MB")
        seen = []
        for piece in fetch(pyarrow.table({"sha1": asked})):
            assert piece.nbytes < 25_000_000
            seen += [blob.as_buffer().slice(0, 40).to_pybytes().decode() for blob in piece.column("data")]
        assert seen == asked


def test_an_error_raised_on_a_node_reaches_the_caller_as_itself(cluster: RayCluster, world: World) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        fetch = FetchBlobs(store, pool=pool, errors="raise")
        with pytest.raises(NotFoundInStore) as caught:
            list(fetch(pyarrow.table({"sha1": [next(iter(IN_API)), ABSENT[0]]})))
        assert caught.value.uri == ABSENT[0]
        assert repr(fetch.pool).startswith("NodePool(private, ")
