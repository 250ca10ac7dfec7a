"""A Ray with two CPUs and 1 GB of object store: 5 GB of blobs pass through, and what has no room is an error."""

from __future__ import annotations

import gc
import inspect
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import S3Raw, Sha1Store
from ray_integration import CannotBePlaced, FetchBlobs, NodePool, fetch_blobs
from tests.ray_cluster import local_ray, on_ray
from tests.ray_stores import MadeStore
from tests.servers import SeaweedS3
from tests.soak_report import record
from tests.stores import composed
from tests.test_ray_pool import digest_of

pytestmark = on_ray(300, pytest.mark.soak)

MEGABYTE = 1_000_000
BLOCK = 128 << 20


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    with local_ray(megabytes=1024):
        yield


@pytest.fixture(autouse=True)
def _leave_nothing(machine: None) -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("routing", ["direct", "local"])
def test_five_gigabytes_pass_an_object_store_of_one(machine: None, s3: SeaweedS3, tmp_path: Path, routing: Any) -> None:
    """The same 64 blobs again and again, from a real server each time: no cache holds them."""
    bucket = s3.create_bucket()
    blobs = {}
    for number in range(64):
        data = random.Random(number).randbytes(MEGABYTE)
        blobs[digest_of(data)] = data
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(bucket, *item), blobs.items()))
    rows = list(blobs) * 80
    (tmp_path / "digests.txt").write_text("\n".join(rows))
    store = composed(Sha1Store(S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url), f"s3://{bucket}/", verify=True))
    begun = time.monotonic()
    ds = fetch_blobs(ray.data.read_text(str(tmp_path / "digests.txt")), store, "text", routing=routing, batch_size=512)
    sizes: list[int] = []
    seen = dict.fromkeys(blobs, 0)
    table: Any
    for table in ds.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert table.column("error").null_count == table.num_rows
        sizes.append(table.nbytes)
        for digest, data in zip(table.column("text").to_pylist(), table.column("data"), strict=True):
            assert data.as_buffer().equals(pyarrow.py_buffer(blobs[digest]))
            seen[digest] += 1
        del table, data
    seconds = time.monotonic() - begun
    assert seen == dict.fromkeys(blobs, 80)
    assert sum(sizes) >= 5_120 * MEGABYTE
    # Only the last of each batch of 512 may be small.
    assert max(sizes) < 1.5 * BLOCK
    assert sorted(sizes)[len(sizes) // 2] > 0.9 * BLOCK
    record(
        f"5 GB through 1 GB, {routing}",
        megabytes_per_second=sum(sizes) / seconds / 1e6,
        blocks=len(sizes),
        largest_block_megabytes=max(sizes) / 1e6,
    )


def test_the_memory_of_a_node_store_stays_bounded(machine: None) -> None:
    """Three gigabytes pass through it: what it has under way, and what it keeps to use again, are bounded."""
    megabytes = []
    store = MadeStore(MEGABYTE)
    with NodePool(store, private=True) as pool:
        (node,) = pool.nodes()
        for number in range(6):
            fetch = FetchBlobs(store, pool=pool)
            asked = [digest_of(f"{number} {row}".encode()) for row in range(512)]
            assert sum(piece.num_rows for piece in fetch(pyarrow.table({"sha1": asked}))) == 512
            status = Path(f"/proc/{node.pid}/status").read_text()
            megabytes.append(int(status.partition("RssAnon:")[2].split()[0]) / 1024)
    assert max(megabytes) < 600
    record("memory of a node store, 3 GB through it", largest_megabytes=max(megabytes), last_megabytes=megabytes[-1])


class Hog:
    """Takes CPUs and does nothing."""


@pytest.fixture
def no_cpu(machine: None) -> Iterator[None]:
    """All CPUs are taken by other actors."""
    hogs: list[Any] = [ray.remote(Hog).options(num_cpus=1).remote() for _ in range(2)]
    ray.get([hog.__ray_ready__.remote() for hog in hogs], timeout=60)
    yield
    for hog in hogs:
        ray.kill(hog)


def check_made(ds: Any, digests: list[str]) -> None:
    rows = ds.take_all()
    assert sorted(row["data"][:40].decode() for row in rows) == sorted(digests)


DIGESTS = [digest_of(f"{number}".encode()) for number in range(200)]


@pytest.mark.parametrize("routing", ["direct", "local", "owner"])
def test_an_input_in_memory_needs_no_cpu(no_cpu: None, routing: Any) -> None:
    ds = ray.data.from_items([{"sha1": digest} for digest in DIGESTS])
    check_made(fetch_blobs(ds, MadeStore(1000), routing=routing, actors=2, batch_size=20), DIGESTS)


def test_an_input_that_no_free_cpu_can_read_is_an_error(no_cpu: None, tmp_path: Path) -> None:
    (tmp_path / "digests.txt").write_text("\n".join(DIGESTS))
    ds = ray.data.read_text(str(tmp_path / "digests.txt"))
    with pytest.raises(CannotBePlaced, match=r"in 2 s .* reads the input .*: free in all are CPU 0, others hold the"):
        fetch_blobs(ds, MadeStore(1000), "text", placement_timeout=2)
    assert inspect.signature(fetch_blobs).parameters["placement_timeout"].default < 60


@pytest.mark.parametrize("routing", ["direct", "local", "owner"])
def test_input_is_read_by_tasks_of_one_cpu(machine: None, tmp_path: Path, routing: Any) -> None:
    (tmp_path / "digests.txt").write_text("\n".join(DIGESTS))
    ds = ray.data.read_text(str(tmp_path / "digests.txt"), override_num_blocks=2)
    check_made(fetch_blobs(ds, MadeStore(1000), "text", routing=routing, actors=3, batch_size=20), DIGESTS)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"num_cpus": 4}, "no node has as much CPU, the largest has 2"),
        ({"resources": {"accelerator": 1}}, "no node has as much accelerator, the largest has 0"),
        ({"memory": 1e13}, "no node has as much memory, the largest has"),
        # Each has room, but not both and a task that reads: Ray Data would wait for ever.
        ({"num_cpus": 1, "actors": 2}, "2 actors of CPU 1 each and a task of CPU 1 that reads .*: free in all are CPU"),
    ],
)
def test_actors_without_room_are_an_error_that_names_the_resource(
    machine: None, tmp_path: Path, asked: dict[str, Any], told: str
) -> None:
    (tmp_path / "digests.txt").write_text("\n".join(DIGESTS))
    ds = ray.data.read_text(str(tmp_path / "digests.txt"))
    with pytest.raises(CannotBePlaced, match=told):
        fetch_blobs(ds, MadeStore(1000), "text", placement_timeout=2, **asked)
    # What was set aside for the question has been given back.
    check_made(fetch_blobs(ds, MadeStore(1000), "text", num_cpus=1, actors=1), DIGESTS)
