"""What is done with a store before it goes to nodes: its fingerprint, its free part, what a node can use of it."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    Composite,
    DiskCache,
    GSRaw,
    HTTPRaw,
    MemoryCache,
    NotFoundInStore,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
)
from bitstore._support.fingerprint import fingerprint
from bitstore._tiers.views import free_part
from bitstore.errors import LookupFailed
from ray_integration import NodePool, PoolError, VersionMismatch, fetch_blobs
from ray_integration._node.usable import usable_part
from tests.ray_stores import MadeStore, NotedAPI, OddStore
from tests.stores import API, Box, Shelf, as_cache, as_source, composed, with_tiers

BLOB = b"blob"
DIGEST = hashlib.sha1(BLOB).hexdigest()
ABSENT = "0" * 40


def composite(key: str = "AKIA", secret: str = "s3cr3t", prefix: str = "s3://bucket/", size: str = "1GB") -> Any:
    store = composed(as_cache(DiskCache(None, size)), as_cache(MemoryCache("1MB")))
    raw = S3Raw({"aws_access_key_id": key, "aws_secret_access_key": secret})
    store.append_source(Sha1Store(raw, prefix))
    store.append_source(Sha1Store(GSRaw(), "gs://bucket/{digest[:2]}/{digest}.gz", compression="gzip"), name="b")
    web = Sha1Store(HTTPRaw(), "https://example.org/")
    web.prefix = "https://user:password@example.org/"  # the constructor refuses it
    store.append_source(web)
    return store


def test_a_fingerprint_depends_on_the_configuration_alone() -> None:
    same = fingerprint(composite())
    assert len(same) == 32
    assert fingerprint(composite()) == same
    used = composite()
    with pytest.raises(NotFoundInStore):
        used.tiers[1].store.get(DIGEST)
    used.stats()
    assert fingerprint(used) == fingerprint(pickle.loads(pickle.dumps(used))) == same
    others = [composite(key="AKIB"), composite(prefix="s3://other/"), composite(size="2GB"), Sha1Composite()]
    changed = composite()
    changed.tiers[2].store.verify = True
    longer = composite()
    longer.append_cache(MemoryCache("1MB"))
    written = composite()
    written.append_cache(MemoryCache("1MB"), read=False)
    named = composite()
    named.append_cache(MemoryCache("1MB"), name="other")
    prints = [fingerprint(store) for store in [*others, changed, longer, written, named]]
    assert len({same, *prints}) == 9


def test_a_fingerprint_does_not_depend_on_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fingerprint(composite(secret="other")) == fingerprint(composite())
    told: list[bytes] = []
    real = hashlib.blake2b

    def listening(data: bytes, **options: Any) -> Any:
        told.append(data)
        return real(data, **options)

    monkeypatch.setattr("bitstore._support.fingerprint.blake2b", listening)
    fingerprint(composite())
    assert b"AKIA" in told[0]
    assert b"s3cr3t" not in told[0]
    assert b"password" not in told[0]


def test_nodes_have_their_own_folders_and_one_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(tmp_path / "driver"))
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "1MB")
    store = with_tiers(Composite(), as_cache(DiskCache()), as_cache(DiskCache(tmp_path / "fixed", "3MB")))
    told = fingerprint(store)
    sent = pickle.dumps(store)
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(tmp_path / "node"))
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "2MB")
    there = pickle.loads(sent)
    caches = [tier.store for tier in there.tiers]
    assert [cache.folder.name for cache in caches] == ["node", "fixed"]
    assert [cache.max_size for cache in caches] == [2_000_000, 3_000_000]
    assert fingerprint(there) == told
    assert list(there.stats()) == ["disk", f"disk:{tmp_path / 'fixed'}"]


SCRIPT = """
import os
from bitstore import Composite, Store
from bitstore.errors import LookupFailed
from ray_integration import PoolError, VersionMismatch
from bitstore._support.fingerprint import fingerprint
{extra}
class Mine(Store):
    def __init__(self, shelf):
        self.shelf, self.names, self.make = shelf, {{"b", "a", "c", shelf}}, lambda data: data + {tail}
        self.myself = self
    def is_valid(self, uri): return True
    def get(self, uri):  # {comment}
        return {value}
print(fingerprint(Mine("x")))
"""


def run_script(seed: int, **parts: str) -> str:
    filled = {"extra": "", "tail": "b''", "comment": "", "value": "b'1'", **parts}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(**filled)],
        env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_stores_defined_in_scripts_are_fingerprinted_by_their_code() -> None:
    same = run_script(1)
    assert run_script(2, extra="one_line_more = 1", comment="a comment") == same
    assert len({same, run_script(1, value="b'2'"), run_script(1, tail="b'3'")}) == 3


def chain() -> tuple[Any, Box, Box, API, Shelf]:
    store, above, beside, api, last = Sha1Composite(), Box({}), Box({}), API({DIGEST: BLOB}), Shelf({})
    store.append_source(Shelf({}), name="first")
    store.append_cache(above, name="above")
    store.append_cache(beside, name="beside")
    store.append_source(api, name="api")
    store.append_source(last, name="last")
    return store, above, beside, api, last


def test_the_free_part_of_a_composite_asks_all_but_paid_tiers() -> None:
    store, above, beside, _, last = chain()
    free = free_part(store)
    assert free is not None
    assert free is not store
    with pytest.raises(NotFoundInStore):
        free.get(DIGEST)
    last.held[DIGEST] = BLOB
    assert free.get(DIGEST) == BLOB
    assert above.held == {DIGEST: BLOB}  # it keeps what the tiers below return, as the whole does
    counts = {name: (stats.hits, stats.misses) for name, stats in store.stats().items()}
    assert counts == {"first": (0, 2), "above": (0, 2), "beside": (0, 2), "api": (0, 0), "last": (1, 1)}
    assert [tier.name for tier in store.tiers] == ["first", "above", "beside", "api", "last"]
    del above.held[DIGEST], beside.held[DIGEST]
    assert store.get(DIGEST) == BLOB
    assert store.stats()["api"].hits == 1


def test_the_free_part_of_a_store_that_costs_nothing_is_the_store_and_of_a_paid_one_none(tmp_path: Path) -> None:
    plain = composed(Shelf({}))
    assert free_part(plain) is plain
    assert free_part(OddStore({})) is not None
    api = NotedAPI(tmp_path / "log")
    assert free_part(api) is None
    only = composed(api)
    assert free_part(only) is None


def test_the_free_part_of_a_composite_within_a_composite_is_free(tmp_path: Path) -> None:
    inner, _, _, _, _ = chain()
    kept = Box({})
    outer = composed(as_cache(kept), as_source(inner, "inner"))
    with pytest.raises(NotFoundInStore):
        free_part(outer).get(DIGEST)  # type: ignore[union-attr]
    assert outer.get(DIGEST) == BLOB
    assert kept.held == {DIGEST: BLOB}


def test_a_cache_folder_that_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = composed(as_cache(DiskCache(tmp_path / "good", "1MB")))
    bad = DiskCache(tmp_path / "later", "1MB")
    (tmp_path / "later").write_text("")
    store.append_cache(bad)
    store.append_source(MadeStore(50))
    part, told = usable_part(store)
    assert len(told) == 1
    assert told[0].startswith(f"goes on without its cache folder '{tmp_path / 'later'}': ")
    assert len(part.get(DIGEST)) == 50
    assert DiskCache(tmp_path / "good", algorithm="sha1").exists(DIGEST)
    assert {name: stats.failures for name, stats in part.stats().items()} == {
        f"disk:{tmp_path / 'good'}": 0,
        "MadeStore": 0,
    }
    whole, nothing = usable_part(part)
    assert whole is part
    assert nothing == []


def test_a_store_that_is_no_composite_is_its_own_usable_part(tmp_path: Path) -> None:
    store: Store = Sha1Cache(HTTPRaw(), "https://example.org/")
    assert usable_part(store) == (store, [])
    assert free_part(store) is store


def test_a_pool_needs_a_running_ray_and_starts_none() -> None:
    code = (
        "import ray\n"
        "from bitstore import HTTPRaw\n"
        "from ray_integration import NodePool, PoolError\n"
        "try:\n"
        "    NodePool(HTTPRaw())\n"
        "except PoolError as error:\n"
        "    print(error, ray.is_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "Ray is not running: call ray.init() before a pool is made False"


def test_errors_of_pools_survive_pickling() -> None:
    assert str(pickle.loads(pickle.dumps(PoolError("no node")))) == "no node"
    told = VersionMismatch("node 1", "2.1", "2.0")
    assert str(pickle.loads(pickle.dumps(told))) == str(told)
    failed = LookupFailed("store", DIGEST, [("tier", OSError(5, "tired"))])
    failed.retry_in, failed.down_for = 0.5, 3.0
    sent = pickle.loads(pickle.dumps(failed))
    assert (str(sent), sent.retry_in, sent.down_for) == (str(failed), 0.5, 3.0)


def test_ray_client_is_refused_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Client needs a package that the environment of the tests lacks; tried by hand on Ray 2.60."""
    import ray
    import ray.data
    import ray.util.client

    monkeypatch.setattr(ray.util.client.ray, "is_connected", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    ds: Any = object.__new__(ray.data.Dataset)
    ds._current_executor = None  # its `__del__` asks for it
    for act in (lambda: NodePool(HTTPRaw(), private=True), lambda: fetch_blobs(ds, HTTPRaw(), column="url")):
        with pytest.raises(PoolError, match=r"Ray Client \(ray://\).* run it on the cluster, by ray job submit"):
            act()
