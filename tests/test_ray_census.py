"""The pools of a cluster seen from outside, and their end: `bitstore cluster`, on a Ray that other tests share."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import ray

import bitstore
from bitstore import DiskCache, MemoryCache
from bitstore._cli import main
from ray_integration import FetchBlobs, NodePool
from ray_integration._pool.census import end_pools, found_pools
from tests.ray_cluster import leave_nothing, names_of_actors, on_ray
from tests.ray_stores import MadeStore
from tests.stores import as_cache, as_source, composed
from tests.test_cli_json import documented

pytestmark = on_ray(150)

EVIL = "made \x1b[31m"


@pytest.fixture(autouse=True)
def _leave_nothing(shared_ray: Any) -> Iterator[None]:
    leave_nothing()
    yield
    leave_nothing()


def store_in(folder: Path) -> Any:
    return composed(
        as_cache(MemoryCache("10MB"), "memory"), as_cache(DiskCache(folder, "1GB"), "disk"),
        as_source(MadeStore(1000), EVIL),
    )  # fmt: skip


class Old:
    """A node store of a version that cannot tell what it is used for."""


class Newer:
    """A node store of the same store with other code."""

    def usage(self) -> dict[str, Any]:
        counts = dict.fromkeys(["memory", "memory_peak", "calls", "under_way"], 1)
        return {
            **counts, "node": "n", "version": "2.0.0", "python": "3", "code": "0" * 12, "started": 1e11, "age": 1.0,
            "idle": None, "caches": [], "notes": ["has no store"],
        }  # fmt: skip


def actor(kind: type, name: str) -> Any:
    made: Callable[..., Any] = ray.remote(num_cpus=0, concurrency_groups={"control": 1})  # type: ignore[call-overload]
    handle = made(kind).options(name=name, namespace="bitstore").remote()
    ray.get(handle.__ray_ready__.remote(), timeout=60)
    return handle


def test_pools_are_found_with_what_they_are_used_for(shared_ray: Any, tmp_path: Path) -> None:
    store = store_in(tmp_path / "disk")
    with NodePool(store) as pool, NodePool(composed(MadeStore(10)), private=True, workers_per_node=2) as private:
        digests = [f"{number:040x}" for number in range(50)]
        table = pyarrow.table({"sha1": pyarrow.array(digests, pyarrow.string())})
        assert sum(piece.num_rows for piece in FetchBlobs(store, pool=pool)(table)) == 50
        node = ray.get_runtime_context().get_node_id()
        old, newer = f"bitstore-{'a' * 32}-1.9.0-1", f"bitstore-{pool.fingerprint}-{'0' * 12}-2.0.0-1"
        others = [actor(Old, f"{old}-{node}-0"), actor(Newer, f"{newer}-{node}-0"), actor(Old, "bitstore-rate-x")]
        found = {each.name: each for each in found_pools()}
        assert found.keys() == {pool.address.pool, private.address.pool, old, newer}
        shared = found[pool.address.pool]
        assert (shared.private, shared.version, shared.store) == (False, bitstore.__version__, pool.fingerprint)
        assert [(each["node_id"], each["pid"]) for each in shared.nodes] == [(node, pool.nodes()[0].pid)]
        assert shared.memory > 10 << 20
        assert 0 <= (shared.unused or 0.0) < (shared.age or 0.0)
        assert shared.stale == (f"{newer} is of the same store with newer code",)
        assert [cache["bytes"] for cache in shared.nodes[0]["caches"]] == [50_000, 50_000]
        assert f"disk: 50.0 kB of 1.0 GB in {tmp_path / 'disk'}" in str(shared)
        assert "\x1b" not in str(shared)
        assert (found[private.address.pool].private, len(found[private.address.pool].nodes)) == (True, 2)
        # What does not answer is unknown: neither unused, nor gone.
        assert (len(found[old].unanswered), found[old].unused, found[old].nodes) == (1, None, ())
        assert "its node store does not answer" in str(found[old])
        assert found[old].stale == (f"of bitstore 1.9.0, and here is {bitstore.__version__}",)
        del others


def test_a_pool_ends_unless_a_job_uses_it(shared_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_integration._pool.census._COMES_BACK", 60.0)  # at most: it is seen at once
    pool = NodePool(store_in(tmp_path))
    assert end_pools(found_pools()) == {pool.address.pool: "a job that uses it has made it again: end that job first"}
    pool.close()
    monkeypatch.setattr("ray_integration._pool.census._COMES_BACK", 0.3)
    assert [each.name for each in found_pools()] == [pool.address.pool]
    assert end_pools(found_pools()) == {pool.address.pool: None}
    assert (names_of_actors(), found_pools()) == ([], [])
    assert end_pools([]) == {}


@pytest.fixture
def said(
    shared_ray: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """What the command does in this process, which is connected already."""
    monkeypatch.setattr("bitstore._cli.cluster.connected", lambda *_: contextlib.nullcontext())

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bitstore", "cluster", *shlex.split(line)])
        code = main()
        return code, *capfd.readouterr()

    return run


def test_the_command_ends_pools_only_where_it_was_told_to(
    said: Callable[[str], tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("")[0] == 0
    assert said("-q --end-unused 1s")[:2] == (0, "")
    monkeypatch.setattr("sys.stdin", None)
    with NodePool(store_in(tmp_path)) as pool, NodePool(composed(MadeStore(10)), private=True) as private:
        name = pool.address.pool
        code, out, err = said("")
        assert code == 0 and f"{name}\n  shared, bitstore {bitstore.__version__}, code " in out, err
        assert said("--end nothing")[0] == 3
        assert "there is no such pool (there is: " in said("--end nothing")[2]
        assert "several pools begin so" in said("--end bitstore-")[2]
        assert "is a private pool, which ends with its job" in said(f"--end {private.address.pool}")[2]
        code, out, err = said(f"--end {name}")
        assert (code, out) == (3, "")
        assert f"{name} (1 node store, unused for " in err and "say --yes if that is right" in err
        code, out, err = said(f"--end {name[9:17]} --dry-run")
        assert (code, err) == (0, "") and out.startswith(f"would end {name} (1 node store, ")
        assert said("--end-unused '1 day' --yes")[:2] == (0, "")
        assert said("--end-unused 0.001s --dry-run --json")[1].count("\n") == 1  # the private pool stays
        monkeypatch.setattr("ray_integration._pool.census._COMES_BACK", 60.0)
        code, out, _ = said(f"--end {name} --yes")
        assert (code, "has not ended: a job that uses it has made it again" in out) == (2, True)
    monkeypatch.setattr("ray_integration._pool.census._COMES_BACK", 0.3)
    old = actor(Old, f"bitstore-{'a' * 32}-1.9.0-1-{ray.get_runtime_context().get_node_id()}-0")
    code, out, err = said("--end-unused 0.001s --yes")
    assert (code, out) == (0, f"{name} has ended\n")
    assert "stays: not all of its node stores answer" in err
    assert said("")[0] == 2
    del old


CONNECTING = """
import signal, sys
from bitstore._cli import main
code = main()
if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # Ray sets a handler when it connects
    print("SIGTERM ends it", file=sys.stderr)
sys.exit(code)
"""


def test_the_command_shows_a_cluster_to_which_it_connects(shared_ray: Any, tmp_path: Path) -> None:
    address = shared_ray.address_info["gcs_address"]
    with NodePool(store_in(tmp_path)) as pool:
        command = [sys.executable, "-c", CONNECTING, "cluster", address, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "SIGTERM ends it\n")
    cluster, found = map(json.loads, done.stdout.splitlines())
    for each in (cluster, found):
        assert each.keys() == {"type", *documented()[each["type"]]}
    assert (cluster["address"], cluster["ray"], len(cluster["nodes"])) == (address, ray.__version__, 1)
    assert (found["name"], found["nodes"][0]["pid"]) == (pool.address.pool, found_pid(pool))


def found_pid(pool: NodePool) -> int:
    """The process of the pool's one node store, which outlives the pool."""
    (found,) = [each for each in found_pools() if each.name == pool.address.pool]
    return int(found.nodes[0]["pid"])
