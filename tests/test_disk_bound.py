"""The bound of a disk cache: what goes first, what is counted, and that it holds at every moment."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches.disk import DiskCache
from bitstore._caches.draft import Draft
from bitstore._caches.folder import Folder
from tests.disk_helpers import age, fill
from tests.disk_troubles import in_child
from tests.disk_workers import blob, churn, total_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, 10_000, algorithm="sha1")


# ---------------------------------------------------------------------- eviction


def test_the_least_recently_used_blob_is_evicted_first(cache: DiskCache) -> None:
    blobs = [fill(cache, number) for number in range(10)]
    for number, (_, _, path) in enumerate(blobs):
        age(path, 1000 - number)
    cache.get(blobs[0][0])
    cache.get(blobs[2][0])
    for number in range(10, 13):
        fill(cache, number)
    assert [number for number in range(10) if cache.exists(blobs[number][0])] == [0, 2, 5, 6, 7, 8, 9]
    cache.get(blobs[5][0])  # used after the eviction has looked for what is old
    fill(cache, 13)
    assert [number for number in range(10) if cache.exists(blobs[number][0])] == [0, 2, 5, 7, 8, 9]
    assert cache.stats()["evicted"] == 4
    assert cache.stats()["bytes"] == 10_000


def test_files_with_a_future_time_count_as_old(folder: Path) -> None:
    cache = DiskCache(folder, 2000, algorithm="sha1")
    future, present = fill(cache, 1), fill(cache, 2)
    age(future[2], -(10**6))
    fill(cache, 3)
    assert not cache.exists(future[0])
    assert cache.exists(present[0])


def test_reads_mark_use_but_not_every_time(cache: DiskCache) -> None:
    key, _, path = fill(cache)
    before = path.stat().st_mtime_ns
    cache.get(key)
    assert path.stat().st_mtime_ns == before
    age(path, 100)
    cache.get(key)
    assert time.time() - path.stat().st_mtime < 60


def test_a_large_cache_evicts_more_than_the_next_blob_needs(folder: Path) -> None:
    size, bound = 1 << 15, 1 << 26
    cache = DiskCache(folder, bound, algorithm="sha1")
    for number in range(bound // size + 200):
        fill(cache, number, size)
        assert number % 50 or total_bytes(folder) <= bound
    stats = cache.stats()
    assert stats["bytes"] == total_bytes(folder)
    assert bound - 3 * size <= total_bytes(folder) <= bound, "not much more than needed"
    assert stats["evicted_bytes"] == size * (bound // size + 200) - total_bytes(folder)
    assert stats["evicted"] == (stats["evicted_bytes"] or 0) // size
    assert stats["skipped"] == 0


def test_a_blob_that_is_too_large_is_skipped_with_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(folder, 1000, max_blob_size=100)
    for size in (101, 5000):
        cache.put("a", bytes(size))
        assert not cache.exists("a")
    cache.put("a", bytes(100))
    assert cache.get("a") == bytes(100)
    assert cache.stats()["skipped"] == 2
    assert len(caplog.records) == 1


# ---------------------------------------------------------------------- what is counted


def test_reservations_of_other_writers_take_room(folder: Path) -> None:
    cache = DiskCache(folder, 1000)
    blobs = cache._blobs()
    others = Draft(Folder(str(folder)), 700)  # another writer, in the middle of its work
    cache.put("a", bytes(300))
    blobs.bound.ledger.reserve(700)
    cache.put("b", bytes(400))
    assert not cache.exists("b")
    assert cache.stats()["skipped"] == 1
    epoch = blobs.bound.ledger.epoch
    others.discard()
    blobs.bound.ledger.release(700, epoch)
    cache.put("b", bytes(1000))
    assert len(cache.get("b")) == 1000


def test_a_lost_ledger_is_rebuilt_by_a_count_at_the_first_write(cache: DiskCache, folder: Path) -> None:
    for number in range(10):
        fill(cache, number)
    shutil.rmtree(folder / "ledger")
    assert cache.stats()["bytes"] is None
    assert cache.get(blob(0, 1000)[0])
    assert not (folder / "ledger").exists()
    fill(cache, 11)
    assert cache.stats()["bytes"] == total_bytes(folder) == 10_000


def test_two_writers_of_one_blob_count_once(cache: DiskCache, folder: Path) -> None:
    key, data = blob(1, 1000)
    link = os.link

    def late(*args: Any, **options: Any) -> None:
        if args[1] == key:
            os.link = link
            DiskCache(folder, 10_000, algorithm="sha1").put(key, data)
        link(*args, **options)

    os.link = late
    try:
        cache.put(key, data)
    finally:
        os.link = link
    assert cache.stats()["bytes"] == total_bytes(folder) == 1000
    assert cache.stats()["present"] == 1


def test_delete_subtracts_a_blob_from_the_count(cache: DiskCache, folder: Path) -> None:
    key = fill(cache)[0]
    cache.put("x", b"12")
    assert cache.delete(key)
    assert not cache.delete(key)
    assert cache.delete("x")
    assert cache.stats()["bytes"] == total_bytes(folder) == 0


def test_clear_leaves_an_empty_cache_that_can_be_filled(cache: DiskCache, folder: Path) -> None:
    for number in range(8):
        fill(cache, number)
    cache.clear()
    assert cache.stats()["bytes"] == total_bytes(folder) == 0
    fill(cache)
    assert cache.stats()["bytes"] == 1000


@pytest.fixture
def filled(folder: Path) -> DiskCache:
    cache = DiskCache(folder, 100_000, algorithm="sha1")
    for number in range(20):
        fill(cache, number)
    return cache


def test_prune_counts_the_files_that_exist(filled: DiskCache, folder: Path) -> None:
    filled.path(blob(3, 1000)[0]).unlink()  # by hand
    shutil.rmtree(filled.path(blob(4, 1000)[0]).parent)
    assert filled.stats()["bytes"] == 20_000
    assert filled.prune() == total_bytes(folder) == 18_000
    by_hand = folder / "sha1" / "abc"
    by_hand.mkdir(exist_ok=True)
    (by_hand / ("abc" + "0" * 37)).write_bytes(bytes(2000))
    assert filled.prune() == 20_000


@pytest.mark.parametrize(("size", "left"), [("5kB", 5000), (0, 0), (5500, 5000), ("1GB", 20_000)])
def test_prune_evicts_down_to_a_size(filled: DiskCache, folder: Path, size: int | str, left: int) -> None:
    assert filled.prune(size) == total_bytes(folder) == left


def test_prune_names_an_invalid_size(cache: DiskCache) -> None:
    with pytest.raises(ValueError, match="max_size 'half' is not a size"):
        cache.prune("half")


# ---------------------------------------------------------------------- drafts of other writers


def test_the_draft_of_a_killed_writer_is_deleted_and_subtracted(folder: Path) -> None:
    cache = DiskCache(folder, 10_000, algorithm="sha1")
    fill(cache)

    def die() -> None:
        draft = Draft(Folder(str(folder)), 5000)
        cache._blobs().bound.ledger.reserve(5000)
        draft.write(bytes(2000))

    in_child(die)
    assert cache.stats()["bytes"] == 6000
    again = DiskCache(folder, 10_000, algorithm="sha1")
    fill(again, 1)
    assert again.stats()["bytes"] == 2000
    assert not list((folder / "tmp").iterdir())


@pytest.mark.parametrize("years", [-1, 1], ids=["long ago", "from before the clock was set back"])
def test_the_draft_of_another_machine_is_judged_by_its_time(cache: DiskCache, folder: Path, years: int) -> None:
    fill(cache)
    draft = folder / "tmp" / "0123456789ab.1.0123456789abcdef.0.1000"
    draft.write_bytes(b"x" * 1000)
    cache.prune()
    assert draft.exists()  # just written, so its writer may be at it
    age(draft, years * 365 * 86400)
    cache.prune()
    assert not draft.exists()


def test_drafts_of_living_writers_and_foreign_files_stay(folder: Path) -> None:
    fill(DiskCache(folder, 10_000, algorithm="sha1"))
    draft = Draft(Folder(str(folder)), 5)
    foreign, other = folder / "tmp" / "0123456789ab.1.aaaaaaaaaaaa.0.7", folder / "tmp" / "README"
    foreign.write_bytes(b"1234567")
    other.write_bytes(b"not ours")
    fill(DiskCache(folder, 10_000, algorithm="sha1"), 1)
    assert len(list((folder / "tmp").iterdir())) == 3
    age(foreign, 4000)
    fill(DiskCache(folder, 10_000, algorithm="sha1"), 2)
    assert not foreign.exists()
    assert other.exists()
    assert draft.discard()


# ---------------------------------------------------------------------- many processes


def stopped_total(folder: Path, workers: list[Any]) -> int:
    """The bytes at one moment: no worker moves while they are added up."""
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        return total_bytes(folder)
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize(("max_size", "largest"), [(400_000, 30_000), (1_000_000, 600_000)], ids=["small", "few big"])
def test_the_bound_holds_at_every_moment(folder: Path, max_size: int, largest: int) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    arguments = [(str(folder), max_size, seed, largest, stop) for seed in range(4)]
    workers = [context.Process(target=churn, args=each, daemon=True) for each in arguments]
    for worker in workers:
        worker.start()
    seen: list[int] = []
    while len(seen) < 150:
        seen += [total] if (total := stopped_total(folder, workers)) else []
        stop.wait(0.01)
    stop.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert max(seen) <= max_size
    assert max(seen) > max_size // 2, "and it is made use of"
    assert not list((folder / "tmp").iterdir())
    cache = DiskCache(folder, max_size, algorithm="sha1")
    known, held = cache.stats()["bytes"], total_bytes(folder)
    assert known is not None
    assert known >= held
    assert cache.verify_all().damaged == 0
    assert cache.prune() == held
