"""Public attributes of limits and caches: set later they act at once, or say that they cannot be set."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    CallLimit,
    DiskCache,
    FileRaw,
    LimitReached,
    MemoryCache,
    RateLimit,
    Sha1APISource,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._limits.windows import Terms
from ray_integration import ClusterLimit, ClusterRate

DATA = b"0123456789"
DIGEST = hashlib.sha1(DATA).hexdigest()


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [
        (CallLimit("a", per_day=1), "name", "b"),
        (CallLimit("a", per_day=1), "terms", Terms(budget=5)),
        (CallLimit("a", per_day=1), "state", "/tmp/b"),
        (RateLimit(per_second=5), "per_second", 6),
        (ClusterLimit("a", per_day=1, state="/tmp/a"), "state", "/tmp/b"),
        (ClusterLimit("a", per_day=1), "terms", Terms(budget=5)),
        (ClusterRate("a", per_second=5), "per_second", 6),
        (ClusterRate("a", per_second=5), "name", "b"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "__dict__") else str(value),
)
def test_the_numbers_of_a_limit_cannot_be_set_later(made: Any, name: str, value: Any) -> None:
    before = getattr(made, name)
    for each in (made, pickle.loads(pickle.dumps(made)), copy.copy(made)):
        with pytest.raises(AttributeError, match=rf"{type(made).__name__}.{name} cannot be changed: make another"):
            setattr(each, name, value)
        assert getattr(each, name) == before


def test_the_wait_of_a_limit_set_later_acts_at_once() -> None:
    class Api(Sha1APISource):
        def api_get(self, digest: str) -> bytes:
            return DATA

    source = Api(limit=CallLimit("a", per_day=1))
    assert source.limit is not None
    source.get(DIGEST)
    source.limit.wait = 0
    with pytest.raises(LimitReached, match="it opens again in"):
        source.get(DIGEST)
    source.limit = None
    assert source.get(DIGEST) == DATA


def test_the_bounds_of_a_disk_cache_set_later_act_at_once(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", "1MB", algorithm="sha1")
    cache.max_blob_size = "5B"
    assert cache.max_blob_size == 5
    cache.put(DIGEST, DATA)
    assert not cache.exists(DIGEST)
    with pytest.raises(ValueError, match="max_blob_size '5 parrots' is not a size"):
        cache.max_blob_size = "5 parrots"
    cache.max_blob_size = None
    cache.put(DIGEST, DATA)
    assert cache.get(DIGEST) == DATA
    cache.max_size = "5B"
    cache.put("x", b"abcde")
    assert not cache.exists(DIGEST)


def test_the_algorithm_of_a_disk_cache_can_be_set_only_once(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", "1MB")
    with pytest.raises(AttributeError):
        cache.algorithm = "sha1"  # type: ignore[misc]
    cache.use_algorithm("sha1")
    with pytest.raises(ValueError, match="make another DiskCache for md5"):
        cache.use_algorithm("md5")
    assert pickle.loads(pickle.dumps(cache)).algorithm == "sha1"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_trust_in_a_foreign_folder_set_later_acts_at_once(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", "1MB", algorithm="sha1", allow_foreign_owner=True)
    cache.put(DIGEST, DATA)
    os.chown(tmp_path / "cache", 12345, 12345)
    assert cache.get(DIGEST) == DATA
    cache.allow_foreign_owner = False
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        cache.get(DIGEST)
    cache.allow_foreign_owner = True
    assert cache.get(DIGEST) == DATA


def test_options_of_a_digest_store_set_later_act_at_once(tmp_path: Path) -> None:
    store = Sha1Store(FileRaw(), f"file://{tmp_path}/")
    store.compression = "gzip"
    store.put(DIGEST, DATA)
    assert (tmp_path / DIGEST).read_bytes().startswith(b"\x1f\x8b")
    store.max_blob_size = "5B"
    with pytest.raises(StoreNotAvailable, match="more than 5 bytes"):
        store.get(DIGEST)
    store.max_blob_size = 10
    assert store.get(DIGEST) == DATA
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.compression, copy.max_blob_size) == ("gzip", 10)
    with pytest.raises(ValueError, match="unknown compression 'rar'"):
        store.compression = "rar"
    with pytest.raises(ValueError, match="max_blob_size 'much' is not a size"):
        store.max_blob_size = "much"
    assert (store.compression, store.max_blob_size) == ("gzip", 10)


def test_the_size_of_a_memory_cache_cannot_be_set_later() -> None:
    with pytest.raises(AttributeError):
        MemoryCache("1MB").max_size = 5  # type: ignore[misc]
