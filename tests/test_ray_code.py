"""A pool never answers with two versions of its store's code, on a real Ray whose nodes have code of their own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, Sha1Composite
from ray_integration import CannotBePlaced, FetchBlobs, NodePool, PoolError, VersionMismatch, fetch_blobs
from ray_integration._cluster import CONTROL, NAMESPACE
from ray_integration._fetch.options import Routing
from ray_integration._node.node_store import NodeStore
from ray_integration._node.versions import check_code
from ray_integration._own_code import _INSTALLED, own_code, stamp_of
from tests.ray_cluster import ROOT, Caller, RayCluster, leave_nothing, on_nodes
from tests.ray_stores import NUMBERED, MadeStore, NumberedAPI
from tests.stores import composed

ROUTINGS: tuple[Routing, ...] = ("direct", "local", "owner")
DIGESTS = [f"{number:040x}" for number in range(60)]

STORE = "from own_base import Base\nclass OwnStore(Base):\n    def is_valid(self, uri):\n        return True\n"
BASE = """
from bitstore import Store
import own_words
class Base(Store):
    def get(self, uri):
        return (own_words.WORD + uri).encode()
"""


def write_code(folder: Path, word: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own_store.py").write_text(STORE)
    (folder / "own_base.py").write_text(BASE)
    (folder / "own_words.py").write_text(f"WORD = '{word} '\n")
    return folder


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the code that this process has."""
    folder = write_code(tmp_path / "old", "old")
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in ("own_store", "own_base", "own_words"):
        sys.modules.pop(name, None)


def own_store() -> Any:
    import own_store  # type: ignore[import-not-found]

    return own_store.OwnStore()


def environment(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}


JOB = """
import sys
import pyarrow, ray
from own_store import OwnStore
from ray_integration import CannotBePlaced, FetchBlobs, NodePool
address, digest = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
pool = NodePool(OwnStore())
pieces = FetchBlobs(OwnStore(), pool=pool, routing="owner")(pyarrow.table({"sha1": [digest]}))
print([row["data"].decode() for piece in pieces for row in piece.to_pylist()], pool.address.pool, len(pool.nodes()))
pool.shutdown()
"""


def test_the_own_code_of_a_store_is_its_modules_and_what_they_import(old: Path) -> None:
    store = Sha1Composite()
    store.append_cache(DiskCache("/nowhere"))
    store.append_source(own_store())
    code = own_code(store)
    assert list(code) == ["own_base", "own_store", "own_words"]
    check_code("here", code)
    for name in code:
        source = (old / f"{name}.py").read_bytes()
        (old / f"{name}.py").write_bytes(source.replace(b"\n", b"\r\n"))
        check_code("here", code)  # other line ends are no other code
        (old / f"{name}.py").write_bytes(source + b"ADDED = 1\n")
        with pytest.raises(VersionMismatch, match=f"here has another source of module {name} ") as caught:
            check_code("here", code)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert stamp_of(own_code(own_store())) != stamp_of(code)
        (old / f"{name}.py").unlink()
        check_code("here", code)  # unpickling tells
        (old / f"{name}.py").write_bytes(source)


def test_libraries_are_no_own_code_but_an_installed_store_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_code(DiskCache("/nowhere")) == {}
    assert stamp_of({}) == ""
    store = own_store()
    store.client = pandas.DataFrame({"a": [1]})  # has a method `get`, and is no store
    monkeypatch.setattr("ray_integration._own_code._INSTALLED", (*_INSTALLED, str(old)))
    assert list(own_code(store)) == ["own_base", "own_store"]


def test_code_that_travels_with_the_store_names_its_pool_and_is_not_compared(old: Path) -> None:
    store = own_store()
    register, unregister = (
        getattr(ray.cloudpickle, f"{name}register_pickle_by_value") for name in ("", "un")
    )  # fmt: skip
    register(sys.modules["own_store"])
    try:
        code = own_code(store)
        assert list(code) == ["own_base", "own_store by value", "own_words"]
        (old / "own_store.py").write_text(STORE + "ADDED = 1\n")
        check_code("here", code)
        assert stamp_of(own_code(store)) != stamp_of(code)
    finally:
        unregister(sys.modules["own_store"])


SCRIPT = """
import own_words
from ray_integration._own_code import own_code
class Mine:
    def is_valid(self, uri): return True
    def get(self, uri): return own_words.WORD
print(*own_code(Mine()))
"""


def test_a_module_that_a_script_uses_is_own_code(old: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONPATH": os.pathsep.join([str(old), str(ROOT)])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["own_words"]


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_a_node_that_joins_after_the_code_changed_never_answers_for_an_older_pool(
    old: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = write_code(tmp_path / "new", "new")
    with RayCluster() as cluster:
        cluster.add(environment(old))
        cluster.wait()
        store = own_store()
        with NodePool(store) as pool:
            name = cluster.add(environment(new))
            cluster.wait()
            pool.nodes()  # begins to make the node store of the new node
            answering = wait_for_answer(pool, cluster.nodes[name])
            assert [found.node_id for found in answering] == [cluster.nodes["n0"]]
            assert f"node {cluster.nodes[name]} has another source of module own_words" in caplog.text
            for routing in ("owner", "local"):
                options = {"pool": pool, "routing": routing}
                here, there = on_nodes(cluster, ["n0", name], Caller, store, options)
                told = [data for _, data, _, error in ray.get(here.fetch.remote(DIGESTS), timeout=60) if not error]
                assert told == [f"old {digest}".encode() for digest in DIGESTS]
                # A map actor there would answer with the other code where no node store answers.
                with pytest.raises(VersionMismatch, match="this process has another source of module own_words"):
                    ray.get(there.fetch.remote(DIGESTS), timeout=60)
            # Jobs with the new code have a pool of their own, on the nodes that have it too.
            done = subprocess.run(
                [sys.executable, "-c", JOB, cluster.address, DIGESTS[0]],
                env={**os.environ, **environment(new)}, capture_output=True, text=True, timeout=150,
            )  # fmt: skip
            assert "node " in done.stderr
            assert "VersionMismatch" in done.stderr
            assert cluster.nodes["n0"] in done.stderr
            pool.shutdown()
        cluster.kill("n0")
        done = subprocess.run(
            [sys.executable, "-c", JOB, cluster.address, DIGESTS[0]],
            env={**os.environ, **environment(new)}, capture_output=True, text=True, timeout=150, check=True,
        )  # fmt: skip
        told_by_job, name_of_pool, count = done.stdout.splitlines()[-1].rsplit(maxsplit=2)
        assert (told_by_job, count) == (str([f"new {DIGESTS[0]}"]), "1")
        assert name_of_pool != pool.address.pool
        leave_nothing()


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_the_paid_digests_of_a_node_store_that_could_not_be_set_up_go_to_others(
    shared_ray: Any, tmp_path: Path
) -> None:
    """The keeper of a pool kills it when it has seen it; until then its name leads to it."""
    store = composed(NumberedAPI(tmp_path / "calls"))
    digests = list(NUMBERED)[:60]
    with NodePool(store, workers_per_node=2) as pool:
        names = sorted(pool._held().handles())
    try:
        ray.kill(ray.get_actor(names[0], namespace=NAMESPACE))
        remote: Any = ray.remote(concurrency_groups={CONTROL: 2})  # type: ignore[call-overload]
        actor = remote(NodeStore).options(name=names[0], namespace=NAMESPACE, num_cpus=0, max_concurrency=4)
        broken = actor.remote(b"", "0.1", {})
        with pytest.raises(VersionMismatch):
            ray.get(broken.describe.remote(), timeout=60)
        fetch = FetchBlobs(store, pool=pool, routing="owner")
        (piece,) = fetch(pyarrow.table({"sha1": digests}))
        assert [error for error in piece.column("error").to_pylist() if error] == []
        assert sorted((tmp_path / "calls").read_text().split()) == sorted(digests)
    finally:
        leave_nothing()


OURS = ("bitstore", "ray_integration", "epic")


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a node on which nothing of this library is installed."""
    for name in OURS:
        (tmp_path / "without" / name).mkdir(parents=True)
        told = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')"
        (tmp_path / "without" / name / "__init__.py").write_text(told)
    monkeypatch.chdir(tmp_path)  # the driver's folder reaches its workers
    return environment(tmp_path / "without")


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_a_node_without_bitstore_is_left_out_and_says_what_it_lacks(
    without: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with RayCluster() as cluster:
        name = cluster.add(without)
        cluster.wait()
        ds = ray.data.from_items([{"sha1": digest} for digest in DIGESTS])
        lacks = "the node lacks the Python module ray_integration: install the same on all nodes, or bring it with"
        with pytest.raises(PoolError, match=f"no node store could be started on 1 nodes: .*{lacks}"):
            NodePool(MadeStore(50), private=True)
        with pytest.raises(Exception, match=lacks):
            fetch_blobs(ds, MadeStore(50), routing="direct").take_all()
        cluster.add()
        cluster.wait()
        with NodePool(MadeStore(50), private=True) as pool:
            answering = wait_for_answer(pool, cluster.nodes[name])
            assert [found.node_id for found in answering] == [cluster.nodes["n1"]]
            assert lacks in caplog.text
            (caller,) = on_nodes(cluster, ["n1"], Caller, MadeStore(50), {"pool": pool})
            assert [error for *_, error in ray.get(caller.fetch.remote(DIGESTS), timeout=60)] == [None] * len(DIGESTS)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_a_cluster_of_nothing_but_a_head_without_cpus_works_or_says_what_it_lacks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_integration._fetch.placement._SILENCE", 0.5)
    with RayCluster():
        ds = ray.data.from_items([{"sha1": digest} for digest in DIGESTS])
        for routing in ROUTINGS:
            rows = fetch_blobs(ds, MadeStore(50), routing=routing).take_all()
            assert [row["error"] for row in rows] == [None] * len(DIGESTS)
        read = ray.data.range(9).map(lambda row: {"sha1": DIGESTS[row["id"]]})
        lacks = "no node has as much CPU, the largest has 0: add a node that has CPUs, or start the head with some"
        with pytest.raises(CannotBePlaced, match=f"in 1 s the cluster had no room for .*: {lacks}$"):
            fetch_blobs(read, MadeStore(50), placement_timeout=1)
        assert f"{lacks}; waiting for it for 1 s in all (placement_timeout)" in caplog.text


BROUGHT = """
import sys
import ray, ray.data
from ray_integration import fetch_blobs
from tests.ray_stores import MadeStore
address, *modules = sys.argv[1:]
ray.init(address=address, log_to_driver=False, runtime_env={"py_modules": modules})
rows = [{"sha1": f"{number:040x}"} for number in range(60)]
for routing in ("direct", "owner"):
    ds = fetch_blobs(ray.data.from_items(rows), MadeStore(50), routing=routing)
    print(routing, len(ds.columns()), sum(row["error"] is None for row in ds.take_all()))
"""


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_bitstore_that_a_job_brings_as_py_modules_is_used_on_nodes_that_lack_it(without: dict[str, str]) -> None:
    with RayCluster() as cluster:
        cluster.add(without)
        cluster.wait()
        modules = [str(ROOT / name) for name in (*OURS, "tests")]
        done = subprocess.run(
            [sys.executable, "-c", BROUGHT, cluster.address, *modules], capture_output=True, text=True, timeout=180
        )
        assert done.stdout.splitlines()[-2:] == ["direct 4 60", "owner 4 60"], done.stderr


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_code_that_a_job_brings_as_py_modules_is_that_of_its_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "at_home" / "own_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STORE.replace("own_base", "own_package.own_base"))
    (package / "own_base.py").write_text(BASE.replace("import own_words", "from own_package import own_words"))
    (package / "own_words.py").write_text("WORD = 'brought '\n")
    with RayCluster() as cluster:
        cluster.add()
        cluster.wait()
        job = JOB.replace("own_store", "own_package").replace(
            "log_to_driver=False", f"log_to_driver=False, runtime_env={{'py_modules': [{str(package)!r}]}}"
        )
        done = subprocess.run(
            [sys.executable, "-c", job, cluster.address, DIGESTS[0]], cwd=tmp_path,
            env={**os.environ, **environment(tmp_path / "at_home")}, capture_output=True, text=True, timeout=150,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(str([f"brought {DIGESTS[0]}"]))


def wait_for_answer(pool: NodePool, node: str) -> list[Any]:
    deadline = time.monotonic() + 30
    keeper = pool._held()
    while not any(node in name for name in [*keeper.refused, *keeper.ready]):
        assert time.monotonic() < deadline
        threading.Event().wait(0.2)
        pool.nodes()
    return pool.nodes()
