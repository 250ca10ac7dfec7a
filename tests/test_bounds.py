"""The bound of a cache against odd bytes, odd sizes, and neighbours with other ideas of it."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from bitstore import DiskCache, InvalidDataFound, MemoryCache
from tests.disk_workers import total_bytes
from tests.stores import blobs


class Liar(bytes):
    """Bytes of a user's own kind, which say that they are few."""

    def __len__(self) -> int:
        return 1

    def __bytes__(self) -> bytes:
        return b"others"


def test_bytes_that_lie_about_their_length_are_counted_in_full(tmp_path: Path) -> None:
    disk, memory = DiskCache(tmp_path, 2000, algorithm="sha1"), MemoryCache(2000)
    for digest, data in blobs(10, 900, "salt").items():
        for cache in (disk, memory):
            cache.put(digest, Liar(data))
            assert cache.get(digest) == data and type(cache.get(digest)) is bytes
        assert total_bytes(tmp_path) <= 2000
    assert memory.stats()["bytes"] == 1800 and memory.stats()["evicted"] == 8


def test_the_smaller_bound_of_two_processes_holds_after_its_write(tmp_path: Path) -> None:
    """Each keeps its own when it writes; the folder never has more than the largest of them."""
    large, small = DiskCache(tmp_path, 10_000, algorithm="sha1"), DiskCache(tmp_path, 3000, algorithm="sha1")
    for number, (digest, data) in enumerate(blobs(80, 900, "salt").items()):
        cache = small if number % 20 == 19 else large
        cache.put(digest, data)
        assert cache.get(digest) == data
        assert total_bytes(tmp_path) <= cache.max_size


def test_caches_of_different_digests_share_one_bound(tmp_path: Path) -> None:
    caches = {name: DiskCache(tmp_path, 3000, algorithm=name) for name in ("sha1", "sha256", "md5")}
    plain = DiskCache(tmp_path, 3000)
    for data in blobs(30, 900, "salt").values():
        for name, cache in caches.items():
            cache.put(hashlib.new(name, data).hexdigest(), data)
            assert total_bytes(tmp_path) <= 3000
        plain.put(f"key {len(data)} {data[:5]!r}", data)
        assert total_bytes(tmp_path) <= 3000


def test_the_bound_of_a_disk_cache_may_be_changed_in_use(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, "10kB", algorithm="sha1")
    many = list(blobs(30, 900, "salt").items())
    for digest, data in many[:15]:
        cache.put(digest, data)
    cache.max_size = "2kB"
    assert cache.max_size == 2000 == cache.stats()["max_size"]
    for digest, data in many[15:]:
        cache.put(digest, data)
        assert total_bytes(tmp_path) <= 2000
    assert pickle.loads(pickle.dumps(cache)).max_size == 2000
    for wrong in (0, "much", -1):
        with pytest.raises(ValueError, match="max_size"):
            cache.max_size = wrong
    assert cache.max_size == 2000


def test_a_cache_folder_of_another_version_is_read_and_bounded(tmp_path: Path) -> None:
    """The blobs' names are the format; whatever cannot be read of the ledger is counted again."""
    held = blobs(6, 900, "salt")
    for digest, data in held.items():
        place = tmp_path / "sha1" / digest[:3]
        place.mkdir(parents=True)
        (place / digest).write_bytes(data)
    cut = next(iter(held))
    (tmp_path / "sha1" / cut[:3] / cut).write_bytes(held[cut][:500])
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "v9").write_bytes(b"of a version to come" * 100)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / cut).write_bytes(b"not ours")
    cache = DiskCache(tmp_path, 4000, algorithm="sha1")
    with pytest.raises(InvalidDataFound):
        cache.get(cut)
    assert [cache.get(digest) for digest in held if digest != cut] == [held[digest] for digest in held if digest != cut]
    for digest, data in blobs(3, 900, "more").items():
        cache.put(digest, data)
        assert total_bytes(tmp_path) <= 4000
    assert total_bytes(tmp_path) <= 4000
    assert (tmp_path / "index" / cut).read_bytes() == b"not ours"
