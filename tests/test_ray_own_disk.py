"""Blobs on the disk of their node are read by those that need them; node stores are asked for the others, and count."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, MemoryCache, Sha1Composite
from ray_integration import FetchBlobs, NodePool
from ray_integration._node.own_disk import OwnDisk
from tests.ray_stores import NUMBERED, NotedAPI, NumberedAPI

DIGESTS = list(NUMBERED)
BLOBS = list(NUMBERED.values())


class OwnCache(DiskCache):
    """May do more than a DiskCache at a hit."""


class OwnComposite(Sha1Composite):
    """May do more than a Sha1Composite at a hit."""


def composite(folder: Path, *before: Callable[[Sha1Composite], object], kind: type = Sha1Composite) -> Sha1Composite:
    """A disk cache above a paid source, and what comes before it."""
    store: Sha1Composite = kind()
    for add in before:
        add(store)
    store.append_cache(DiskCache(folder / "cache", "1GB"), name="disk")
    store.append_source(NumberedAPI(folder / "calls"), name="api")
    return store


OTHERS: dict[str, Callable[[Path], Any]] = {
    "a memory cache is asked first": lambda folder: composite(folder, lambda s: s.append_cache(MemoryCache("1MB"))),
    "a cache above keeps the hits": lambda folder: composite(
        folder, lambda s: s.append_cache(DiskCache(folder / "other"), read=False)
    ),
    "a disk cache of the user's": lambda folder: composite(
        folder, lambda s: s.append_cache(OwnCache(folder / "own", "1GB"))
    ),
    "a composite of the user's": lambda folder: composite(folder, kind=OwnComposite),
    "a callback sees answers": lambda folder: composite(folder, lambda s: setattr(s, "on_answer", print)),
    "no composite": lambda folder: DiskCache(folder),
    "a source first": lambda folder: composite(folder, lambda s: s.append_source(NotedAPI(folder / "first"))),
}


@pytest.mark.parametrize("why", OTHERS)
def test_a_disk_is_read_only_where_a_hit_concerns_no_other_tier(tmp_path: Path, why: str) -> None:
    assert OwnDisk.of(OTHERS[why](tmp_path)) is None
    assert OwnDisk.of(composite(tmp_path)) is not None


def test_bytes_that_do_not_match_and_failures_are_left_to_the_node_store(tmp_path: Path) -> None:
    store = composite(tmp_path)
    disk = OwnDisk.of(store)
    assert disk is not None
    cache = store.tiers[0].store
    cache.put(DIGESTS[0], BLOBS[0])
    cache.put(DIGESTS[1], b"other bytes")
    keys = (DIGESTS[0], DIGESTS[1], "not a digest", "", DIGESTS[2])
    assert [disk.read(key) for key in keys] == [BLOBS[0], *[None] * 4]
    assert disk.taken() == (1, len(BLOBS[0]), 0)
    assert disk.taken() is None


@pytest.fixture
def pool(shared_ray: Any, tmp_path: Path) -> Iterator[NodePool]:
    with NodePool(composite(tmp_path), private=True) as pool:
        yield pool


pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]


def rows_of(fetch: FetchBlobs, digests: list[str]) -> list[tuple[bytes | None, str | None, str | None]]:
    found: list[tuple[bytes | None, str | None, str | None]] = []
    for piece in fetch(pyarrow.table({"sha1": pyarrow.array(digests, pyarrow.string())})):
        found += zip(*(piece.column(name).to_pylist() for name in ("data", "source", "error")), strict=True)
    return found


def counts(pool: NodePool, tier: str = "disk") -> dict[str, int]:
    table: Any = pool.stats()
    (row,) = table.xs(tier, level="tier").to_dict("records")
    return {name: int(row[name]) for name in ("hits", "misses", "invalid", "failures", "bytes", "writes") if row[name]}


def read_here(fetch: FetchBlobs) -> int:
    """How many blobs this process read from the disk."""
    assert fetch._router is not None
    return fetch._router.disks.hits


def passes(tmp_path: Path, routing: Any) -> Iterator[dict[str, int]]:
    """What the node store has counted after each of some batches."""
    store = composite(tmp_path)
    cache = DiskCache(tmp_path / "cache", "1GB", algorithm="sha1")
    with NodePool(store, private=True) as pool:
        fetch = FetchBlobs(store, pool=pool, routing=routing)
        half = DIGESTS[::2]
        assert rows_of(fetch, half) == [(NUMBERED[digest], "api", None) for digest in half]
        yield counts(pool) | {"read here": read_here(fetch)}
        assert rows_of(fetch, DIGESTS) == list(zip(BLOBS, ["disk", "api"] * 200, [None] * 400, strict=True))
        yield counts(pool) | {"read here": read_here(fetch)}
        cache.path(DIGESTS[7]).write_bytes(b"x" * len(BLOBS[7]))
        sources = ["disk"] * 400
        sources[7] = "api"
        assert rows_of(fetch, DIGESTS) == list(zip(BLOBS, sources, [None] * 400, strict=True))
        yield counts(pool) | {"read here": read_here(fetch)}
        for digest in set(DIGESTS) - set(DIGESTS[::50]):
            cache.delete(digest)
        sources = ["api" if number % 50 else "disk" for number in range(400)]
        assert rows_of(fetch, DIGESTS) == list(zip(BLOBS, sources, [None] * 400, strict=True))
        yield counts(pool) | {"read here": read_here(fetch)}


@pytest.mark.parametrize("routing", ["local", "owner"])
def test_hits_are_read_here_and_counted_as_if_the_node_store_had_read_them(
    shared_ray: Any, tmp_path: Path, routing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    told = list(passes(tmp_path / "with", routing))
    monkeypatch.setattr("ray_integration._fetch.own_disks.OwnDisks.of", lambda self, name: None)
    expected = list(passes(tmp_path / "without", routing))
    read = [each.pop("read here") for each in told]
    assert [each.pop("read here") for each in expected] == [0] * 4
    assert told == expected
    # Of the last batch, in which few are on the disk, the node store reads some.
    assert read[:3] == [0, 200, 599]
    assert 599 < read[3] <= 607
    calls = [(tmp_path / name / "calls").read_text().split() for name in ("with", "without")]
    assert sorted(calls[0]) == sorted(calls[1])


def test_large_blobs_on_the_disk_fill_no_more_memory_than_is_allowed(pool: NodePool, tmp_path: Path) -> None:
    blobs = {hashlib.sha1(data).hexdigest(): data for data in (bytes([number]) * 1_000_000 for number in range(30))}
    cache = DiskCache(tmp_path / "cache", "1GB", algorithm="sha1")
    for digest, data in blobs.items():
        cache.put(digest, data)
    fetch = FetchBlobs(composite(tmp_path), pool=pool, max_bytes="4MB", block_bytes="1MB")
    assert [data for data, _, _ in rows_of(fetch, list(blobs))] == list(blobs.values())
    assert 0 < read_here(fetch) <= 10
    assert counts(pool) == {"hits": 30, "bytes": 30_000_000}


def test_a_process_with_another_folder_reads_nothing(
    shared_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node stores take the folder of `DiskCache()` from the environment of their node."""
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(tmp_path / "here"))
    store = Sha1Composite()
    store.append_cache(DiskCache(), name="disk")
    store.append_source(NumberedAPI(tmp_path / "calls"), name="api")
    store.tiers[0].store.put(DIGESTS[0], BLOBS[0])
    with NodePool(store, private=True) as pool:
        fetch = FetchBlobs(store, pool=pool)
        for source in ("api", "disk"):
            assert rows_of(fetch, DIGESTS[:1]) == [(BLOBS[0], source, None)]
        assert read_here(fetch) == 0


def test_blobs_read_here_are_counted_when_the_consumer_stops_early(pool: NodePool, tmp_path: Path) -> None:
    fetch = FetchBlobs(composite(tmp_path), pool=pool)
    rows_of(fetch, DIGESTS)
    answers = fetch._answers(DIGESTS)
    assert next(answers).source == "disk"
    answers.close()
    assert read_here(fetch) == counts(pool)["hits"] > 0


def test_a_node_store_that_is_gone_neither_fails_reads_nor_is_waited_for(pool: NodePool, tmp_path: Path) -> None:
    fetch = FetchBlobs(composite(tmp_path), pool=pool)
    rows_of(fetch, DIGESTS)
    assert fetch._router is not None
    for name in fetch._router.members.names():
        ray.kill(ray.get_actor(name, namespace="bitstore"))
    assert [data for data, _, _ in rows_of(fetch, DIGESTS)] == BLOBS
