"""Warming on a real Ray of several nodes, against a real S3 server and a counted API."""

from __future__ import annotations

import os
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, S3Raw, Sha1Cache, Sha1Composite
from ray_integration import NodePool, WarmReport, warm
from tests.ray_cluster import PaidAPI, RayCluster, leave_nothing, on_ray
from tests.servers import Answer, CountedAPI, Delay, MakeProxy, SeaweedS3
from tests.stores import as_cache, as_source, composed
from tests.test_ray_pool import (  # its cluster, its blobs, its callers
    ABSENT,
    ALL,
    IN_API,
    IN_BUCKET,
    Midway,
    World,
    callers,
    check,
    cluster,
    fetch_all,
    filled,
    shuffled,
    slowed,
    world,
)

__all__ = ["cluster", "filled", "world"]

pytestmark = on_ray(150, pytest.mark.soak)

ONCE = dict.fromkeys(IN_API, 1)
LISTED = [*ALL, *list(ALL)[:100], *ABSENT]


@pytest.fixture(scope="module", autouse=True)
def _quiet_data() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own: it sets an option that it deprecates
        ray.data.DataContext.get_current().enable_progress_bars = False


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    """Every test has the cluster's disks for itself, and leaves no actor."""
    yield
    leave_nothing(cluster)


def paid(world: World) -> dict[str, int]:
    return {digest: world.api.calls[digest] for digest in IN_API}


def told(report: WarmReport) -> tuple[int, int, int, int, int]:
    return report.distinct, report.found, report.missing, report.failed, report.invalid


def held(cluster: RayCluster) -> dict[str, set[str]]:
    """What the disk of each node has."""
    return {name: set(filter(DiskCache(cluster.folder / name, algorithm="sha1").exists, ALL)) for name in cluster.nodes}


def nothing_asked(world: World) -> None:
    assert len(world.proxy.requests) == 0
    assert sum(world.api.calls.values()) == 0


def forget(world: World) -> None:
    world.proxy.clear()
    world.api.clear()


def test_warming_by_owner_serves_another_job(cluster: RayCluster, world: World, tmp_path: Path) -> None:
    store = world.store()
    report = warm(LISTED, store, target="owner", ledger=tmp_path / "ledger")
    assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 0)
    assert (report.complete, report.exit_code, report.given) == (True, 1, len(LISTED))
    assert report.by_tier == {"bucket": len(IN_BUCKET), "api": len(IN_API)}
    assert report.bytes == sum(map(len, ALL.values()))
    gets = world.gets()
    assert {digest: gets[digest] for digest in IN_BUCKET} == dict.fromkeys(IN_BUCKET, 1)
    assert paid(world) == ONCE
    disks = held(cluster)
    assert sum(map(len, disks.values())) == len(ALL)
    assert all(len(ALL) / 3 * 0.7 < len(disk) < len(ALL) / 3 * 1.3 for disk in disks.values())
    table = pyarrow.parquet.read_table(tmp_path / "ledger")
    assert Counter(table["outcome"].to_pylist()) == {"found": len(ALL), "missing": len(ABSENT)}

    forget(world)
    with NodePool(store, private=True) as pool:  # not that of the warming
        actors = callers(cluster, store, ["n0", "n1", "n2"], pool=pool, routing="owner")
        check(fetch_all(actors, list(ALL)), list(ALL))
        nothing_asked(world)
        again = warm(LISTED, store, target="owner", ledger=tmp_path / "ledger", pool=pool)
        nothing_asked(world)
    assert (again.settled, again.known_missing, again.found) == (len(ALL), len(ABSENT), 0)


def test_local_warming_fills_every_disk_and_pays_once(cluster: RayCluster, world: World, tmp_path: Path) -> None:
    store = world.store()
    with NodePool(store, private=True) as pool:
        before = warm(LISTED, store, target="local", dry_run=True, pool=pool, ledger=tmp_path / "none")
        assert (before.warm, before.found, before.missing) == (0, len(ALL) + len(ABSENT), 0)  # the API is not asked
        assert before.by_tier == {"bucket": len(IN_BUCKET), "api": len(IN_API) + len(ABSENT)}
        assert sum(world.api.calls.values()) == 0
        # No blob is fetched; what a HEAD calls missing is confirmed by one byte.
        assert not any(world.gets()[digest] for digest in IN_BUCKET)
        assert not (tmp_path / "none").exists()

        report = warm(LISTED, store, target="local", pool=pool)
        assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 0)
        assert paid(world) == ONCE
        assert held(cluster) == {name: set(ALL) for name in cluster.nodes}

        forget(world)
        actors = callers(cluster, store, ["n0", "n1", "n2"], pool=pool, routing="local")
        check(fetch_all(actors, list(ALL)), list(ALL))
        after = warm(list(ALL), store, target="local", dry_run=True, pool=pool)
        nothing_asked(world)
        assert (after.warm, after.found) == (len(ALL), 0)


def test_shared_warming_moves_only_paid_blobs(cluster: RayCluster, world: World, tmp_path: Path) -> None:
    store = world.store()
    (tmp_path / "list.txt").write_text("\n".join([*LISTED, "nonsense"]))
    report = warm(str(tmp_path / "list.txt"), store, target="shared")
    assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 1)
    assert paid(world) == ONCE
    assert report.bytes == sum(map(len, IN_API.values()))
    assert not any(world.gets()[digest] for digest in IN_BUCKET)
    forget(world)
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1", "n2"], pool=pool)
        check(fetch_all(actors, list(ALL)), list(ALL))
        assert sum(world.api.calls.values()) == 0


def test_a_schedule_of_a_cluster_asks_for_new_lines_alone(cluster: RayCluster, world: World, tmp_path: Path) -> None:
    store, listed, state = world.store(), tmp_path / "list.txt", tmp_path / "state"
    half = len(ALL) // 2
    listed.write_text("".join(f"{digest}\n" for digest in list(ALL)[:half]))
    with NodePool(store, private=True) as pool:
        assert warm(listed, store, since_last=state, pool=pool).found == half
        forget(world)
        assert warm(listed, store, since_last=state, pool=pool).given == 0
        nothing_asked(world)
        with listed.open("a") as file:
            file.writelines(f"{digest}\n" for digest in [*ALL][half:])
        report = warm(str(listed), store, since_last=state, pool=pool)
        assert (report.given, report.found, report.complete) == (len(ALL) - half, len(ALL) - half, True)
        assert {digest for digest, count in world.api.calls.items() if count} <= set([*ALL][half:])
        with pytest.raises(TypeError, match="goes with the path of a list"):
            warm(list(ALL), store, since_last=state, pool=pool)
        with pytest.raises(ValueError, match="that of another target"):
            warm(listed, store, since_last=state, target="owner", pool=pool)


def test_a_warming_and_a_job_at_the_same_time_pay_once(cluster: RayCluster, world: World) -> None:
    """Neither pays for what the other has paid for."""
    store = world.store()
    world.api.rules.add(Delay(1.5))  # so long that both want the same at the same time
    rows = [{"hash": digest} for digest in shuffled()]
    ds = ray.data.from_items(rows, override_num_blocks=3)
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n0", "n1"], pool=pool, routing="owner")
        calls = [actor.fetch.remote(list(IN_API)) for actor in actors]
        report = warm(ds, store, target="shared", column="hash", pool=pool)
        for rows in ray.get(calls, timeout=90):
            check(rows, list(IN_API))
    assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 0)
    assert paid(world) == ONCE


@pytest.mark.parametrize("target", ["owner", "local", "shared"])
def test_a_warming_survives_a_killed_node(cluster: RayCluster, world: World, tmp_path: Path, target: Any) -> None:
    store = world.store()
    name = cluster.add()
    cluster.wait()
    slowed(world)
    midway = Midway(world, lambda: cluster.kill(name))
    report = warm(shuffled(), store, target=target, ledger=tmp_path / "ledger")
    assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 0), report
    midway.check()
    DiskCache(cluster.folder / name).clear()
    disks = held(cluster)
    if target == "local":
        assert disks == {name: set(ALL) for name in cluster.nodes}
    forget(world)
    again = warm(shuffled(), store, target=target, ledger=tmp_path / "ledger")
    assert again.settled == len(ALL)
    nothing_asked(world)


def test_a_warming_survives_a_killed_node_store(cluster: RayCluster, world: World) -> None:
    """Its digests wait for it, so that all are where the next job seeks them."""
    store = world.store()
    slowed(world)
    with NodePool(store, private=True) as pool:
        pids = {found.node_id: found.pid for found in pool.nodes()}
        midway = Midway(world, lambda: os.kill(pids[cluster.nodes["n0"]], signal.SIGKILL))
        report = warm(shuffled(), store, target="owner", pool=pool)
        assert told(report) == (len(ALL) + len(ABSENT), len(ALL), len(ABSENT), 0, 0), report
        midway.check()
    world.proxy.rules.clear()
    forget(world)
    with NodePool(store, private=True) as pool:
        actors = callers(cluster, store, ["n1"], pool=pool, routing="owner")
        check(fetch_all(actors, list(ALL)), list(ALL))
        nothing_asked(world)


def test_a_digest_that_fails_is_in_the_report_and_asked_for_again(
    cluster: RayCluster, s3: SeaweedS3, api: CountedAPI, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url)
    store = composed(
        as_cache(Sha1Cache(raw, f"s3://{s3.create_bucket()}/"), "paid for"), as_source(PaidAPI(api.url), "api")
    )
    api.blobs.update(IN_API)
    with NodePool(store, private=True) as pool:
        rule = api.rules.add(Answer(403), path=next(iter(IN_API)))
        put = proxy.rules.add(Answer(403), method="PUT", path=list(IN_API)[1])
        report = warm(list(IN_API), store, ledger=tmp_path / "ledger", pool=pool)
        # Once a write to the only cache has failed, what was not yet asked for is not paid for.
        assert (report.found + report.failed, report.exit_code) == (len(IN_API), 2), report
        rows = pyarrow.parquet.read_table(tmp_path / "ledger").to_pylist()
        failed = {row["digest"]: row["error"] for row in rows if row["outcome"] == "failed"}
        refused, unkept, *held_back = [failed.pop(digest, "") for digest in list(IN_API)[:2]] + list(failed.values())
        assert "403" in refused and "paid for did not keep it" in unkept
        assert all("not asked, because no cache can keep what it returns" in error for error in held_back)
        api.rules.clear()
        proxy.rules.clear()
        again = warm(list(IN_API), store, ledger=tmp_path / "ledger", pool=pool)
        assert (again.settled, again.found, again.failed, again.exit_code) == (report.found, report.failed, 0, 0), again
    del rule, put


def test_a_warming_stops_where_everything_fails_for_one_cause(cluster: RayCluster, world: World) -> None:
    world.api.rules.add(Answer(403))
    report = warm(list(IN_API), world.store(), target="owner", max_failures=5)
    assert (report.found, report.failed, report.complete, report.exit_code) == (0, 5, False, 2), report
    assert str(report.stopped).startswith("5 lookups in a row failed for one cause: api: ")
    assert "max_failures=5" in str(report.stopped)


def test_an_impossible_warming_is_an_error_at_once(cluster: RayCluster, api: CountedAPI, tmp_path: Path) -> None:
    def made(*caches: Any) -> Sha1Composite:
        store = Sha1Composite()
        for cache in caches:
            store.append_cache(cache)
        store.append_source(PaidAPI(api.url), name="api")
        return store

    disk = DiskCache(tmp_path / "disk")
    with pytest.raises(
        ValueError, match=r"fills each cache that all nodes share, and the store has none \(it has: disk"
    ):
        warm([], made(disk), target="shared")
    with pytest.raises(ValueError, match="'api' costs money, and no cache that all nodes share keeps what it returns"):
        warm([], made(disk), target="local")
    with pytest.raises(ValueError, match="max_failures=0: must be at least 1, or None"):
        warm([], made(disk), target="owner", max_failures=0)
    with pytest.raises(TypeError, match="only a composite of digests"):
        warm([], disk)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target='disk'"):
        warm([], made(disk), target="disk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no column 'sha1'; there are 'hash'"):
        warm(ray.data.from_items([{"hash": "x"}]), made(disk), target="owner")
    with pytest.raises(ValueError, match="cannot read the list"):
        warm(tmp_path / "gone.txt", made(disk), target="owner")
