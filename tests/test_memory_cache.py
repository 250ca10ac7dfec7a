"""A cache in memory: keys, its bound, threads, forks and steps."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

from bitstore._caches.memory import MemoryCache
from bitstore._lookup.asking import steps_of_exists, steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore.errors import NotFoundInStore


def test_any_text_is_a_key_of_a_memory_cache() -> None:
    cache = MemoryCache()
    for key in ["a", "s3://bucket/a b", "\0\n../../x", "\udcff", "\u00e9" * 500]:
        with pytest.raises(NotFoundInStore):
            cache.get(key)
        cache.put(key, key.encode("utf-8", "surrogatepass"))
        assert cache.get(key) == key.encode("utf-8", "surrogatepass")
        assert cache.exists(key)
    cache.put("empty", b"")
    assert cache.get("empty") == b""


@pytest.mark.parametrize("size", [0, "0GB", "much", -1, None])
def test_an_invalid_size_of_a_memory_cache_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="max_size"):
        MemoryCache(size)


def test_the_least_recently_used_blob_is_evicted_first_and_bytes_are_bounded() -> None:
    cache = MemoryCache(100)
    for key in "abcde":
        cache.put(key, key.encode() * 20)
    cache.get("a")
    cache.put("f", b"f" * 21)  # takes the room of two
    assert [key for key in "abcdef" if cache.exists(key)] == ["a", "d", "e", "f"]
    assert cache.stats() == {
        "hits": 1,
        "misses": 0,
        "written": 6,
        "skipped": 0,
        "evicted": 2,
        "blobs": 4,
        "bytes": 81,
        "max_size": 100,
    }


def test_a_blob_that_is_too_large_is_skipped_and_leaves_no_old_value() -> None:
    cache = MemoryCache("10B")
    cache.put("a", b"old")
    cache.put("a", b"x" * 11)
    assert not cache.exists("a")
    assert cache.stats()["skipped"] == 1


def test_tiny_blobs_are_bounded_by_number() -> None:
    cache = MemoryCache(1)
    for number in range(3000):
        cache.put(str(number), b"")
    assert cache.stats()["blobs"] == 1000
    assert cache.get("2999") == b""


def test_replaced_deleted_and_cleared_blobs_are_subtracted_from_the_count() -> None:
    cache = MemoryCache()
    cache.put("a", b"1")
    cache.put("a", b"22")
    assert cache.get("a") == b"22"
    assert cache.stats()["bytes"] == 2
    assert cache.delete("a")
    assert not cache.delete("a")
    cache.put("b", b"3")
    cache.clear()
    assert cache.stats()["bytes"] == 0


def test_a_pickle_has_the_configuration_only() -> None:
    cache = MemoryCache("1MB")
    cache.put("a", b"secret bytes")
    packed = pickle.dumps(cache)
    assert b"secret bytes" not in packed
    copy = pickle.loads(packed)
    assert repr(copy) == repr(cache) == "MemoryCache(max_size='1MB')"
    assert not copy.exists("a")
    copy.put("b", b"1")


def test_a_fork_starts_empty_even_if_a_thread_holds_the_lock() -> None:
    cache = MemoryCache()
    cache.put("a", b"1")
    contents = cache._contents.get()
    assert contents is not None
    with contents.lock:
        child = os.fork()
        if child == 0:
            try:
                cache.put("b", b"2")
                os._exit(0 if cache.get("b") == b"2" and not cache.exists("a") else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert cache.get("a") == b"1"


def test_the_steps_of_a_memory_cache_end_before_the_first_yield() -> None:
    cache = MemoryCache()
    run(steps_of_put(cache, "a", b"1"))
    found = run(steps_of_get(cache, "a"))
    assert (found.data, found.source) == (b"1", "memory")
    assert run(steps_of_exists(cache, "a"))
    with pytest.raises(NotFoundInStore):
        next(steps_of_get(cache, "b"))


def test_threads_share_a_cache_and_its_counters_are_exact() -> None:
    cache = MemoryCache(5000)

    def work(number: int) -> None:
        for turn in range(2000):
            key = str((turn * number) % 97)
            try:
                assert cache.get(key) == key.encode() * 40
            except NotFoundInStore:
                cache.put(key, key.encode() * 40)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert stats["hits"] + stats["misses"] == 8000
    assert stats["written"] == stats["misses"]
    assert stats["bytes"] <= 5000


def test_a_subclass_that_overrides_get_is_asked_by_steps() -> None:
    class Counting(MemoryCache):
        asked = 0

        def get(self, uri: str) -> bytes:
            self.asked += 1
            return super().get(uri)

    cache = Counting()
    cache.put("a", b"1")
    assert run(steps_of_get(cache, "a")).data == b"1"
    assert cache.asked == 1


def test_a_memory_cache_takes_digests_of_every_algorithm() -> None:
    cache = MemoryCache()
    cache.use_algorithm("sha1")
    cache.use_algorithm("sha256")
