"""Misses of a paid API that the nodes of a cluster share: the second run of a job pays for none, on whatever nodes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray

from bitstore import FileRaw, MissLedger, RemembersMisses, S3Raw, Sha1Cache, Sha1Composite, SharedMisses
from ray_integration import fetch_blobs
from tests.miss_workers import DIGESTS
from tests.ray_cluster import PaidAPI, RayCluster, leave_nothing, names_of_actors, on_ray, three_nodes
from tests.servers import CountedAPI, SeaweedS3
from tests.stores import as_cache, composed, sha1

pytestmark = on_ray(240, pytest.mark.soak)

HELD = {sha1(f"{number}".encode()): f"{number}".encode() for number in range(140)}  # 70 % of the digests


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with three_nodes() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _leave_nothing(cluster: RayCluster) -> Iterator[None]:
    yield
    leave_nothing(cluster)


def run(store: Sha1Composite) -> tuple[int, int, int]:
    """How many rows of a job are found, missing, and anything else."""
    ds = ray.data.from_items([{"sha1": digest} for digest in DIGESTS], override_num_blocks=6)
    rows = fetch_blobs(ds, store, column="sha1", actors=2, batch_size=40).take_all()
    missing = sum(str(row["error"]).startswith("missing") for row in rows)
    found = sum(row["error"] is None and row["data"] == HELD[row["sha1"]] for row in rows)
    return found, missing, len(rows) - found - missing


def store_of(api: CountedAPI, ledger: Any, cache: Path) -> Sha1Composite:
    cache.mkdir(exist_ok=True)
    kept = Sha1Cache(FileRaw(), f"file://{cache}/", verify=True)
    return composed(as_cache(kept), RemembersMisses(PaidAPI(api.url), ledger, name="api"))


def test_the_second_run_on_other_nodes_pays_for_no_miss(
    cluster: RayCluster, s3: SeaweedS3, bucket: str, tmp_path: Path
) -> None:
    """All node stores are killed in between, and the ledgers of the nodes are gone with their disks."""
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url)
    ledger = MissLedger(tmp_path / "node" / "misses.sqlite", share=SharedMisses(raw, f"s3://{bucket}/misses/"))
    with CountedAPI(HELD) as api:
        store = store_of(api, ledger, tmp_path / "cache")
        assert run(store) == (140, 60, 0)
        paid = sum(api.calls.values())  # a node store that is slow to answer may have been passed over
        assert set(api.calls) == set(DIGESTS)
        for name in names_of_actors():
            ray.kill(ray.get_actor(name, namespace="bitstore"))
        shutil.rmtree(tmp_path / "node")
        cluster.kill(next(iter(cluster.nodes)))
        cluster.add()
        cluster.wait()
        assert run(store) == (140, 60, 0)
        assert sum(api.calls.values()) == paid


def test_node_stores_on_one_machine_share_a_file(cluster: RayCluster, tmp_path: Path) -> None:
    with CountedAPI(HELD) as api:
        store = store_of(api, MissLedger(tmp_path / "misses.sqlite"), tmp_path / "cache")
        assert run(store) == (140, 60, 0)
        paid = sum(api.calls.values())
        for name in names_of_actors():
            ray.kill(ray.get_actor(name, namespace="bitstore"))
        assert run(store) == (140, 60, 0)
        assert sum(api.calls.values()) == paid
