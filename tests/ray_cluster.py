"""A Ray cluster of several nodes on this machine, each with its own raylet, environment and cache folder."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from bitstore import DiskCache, Sha1APISource
from ray_integration import FetchBlobs
from tests.servers import FaultProxy

__all__ = [
    "Caller", "PaidAPI", "RayCluster", "gets", "leave_nothing", "local_ray", "names_of_actors", "on_nodes", "on_ray",
    "three_nodes",
]  # fmt: skip

ROOT = Path(__file__).parent.parent


class RayCluster:
    """A head that takes no work, and nodes with two CPUs; this process is its driver while the block runs.

    Attributes
    ----------
    address
        For `ray.init` in other processes.
    folder
        Has the cache folder of each node, `n0`, `n1`, ...
    nodes
        Ids of the nodes that are there, by those names.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="bs-ray-"))  # short: a socket's path has 107 characters at most
        self._started: dict[str, Any] = {}
        self._count = 0

    def __enter__(self) -> RayCluster:
        import ray
        from ray.cluster_utils import Cluster

        self._patch = pytest_environment()
        try:
            self._cluster: Any = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "object_store_memory": 100 << 20,
                    "include_dashboard": False,
                    "temp_dir": str(self.folder / "ray"),
                    "_system_config": {
                        "health_check_initial_delay_ms": 1000,
                        "health_check_period_ms": 500,
                        "health_check_timeout_ms": 1000,
                        "health_check_failure_threshold": 5,
                        # It looks at the whole machine, where other programs may take what memory they like.
                        "memory_monitor_refresh_ms": 0,
                    },
                },
            )
            self.address: str = self._cluster.address
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.WARNING)
        except BaseException:
            self._patch.close()
            raise
        return self

    def add(self, environment: Mapping[str, str] | None = None, *, cpus: int = 2) -> str:
        """Start a node; returns its name. Does not wait until Ray knows it."""
        name = f"n{self._count}"
        self._count += 1
        node = self._cluster.add_node(
            wait=False,
            num_cpus=cpus,
            object_store_memory=100 << 20,
            env_vars={"BITSTORE_CACHE_DIR": str(self.folder / name), **(environment or {})},
        )
        self._started[name] = node
        self.nodes[name] = node.node_id
        return name

    def wait(self) -> None:
        """Wait until Ray knows all nodes."""
        self._cluster.wait_for_nodes()

    def kill(self, name: str) -> None:
        """Kill a node for real: its raylet and all its workers, at once and without a word."""
        node = self._started.pop(name)
        del self.nodes[name]
        raylet = node.all_processes["raylet"][0].process.pid
        workers = _children(raylet)
        for pid in [raylet, *workers]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def __exit__(self, *_: object) -> None:
        import ray

        try:
            ray.shutdown()
            self._cluster.shutdown()
        finally:
            self._patch.close()
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def three_nodes() -> Iterator[RayCluster]:
    """A cluster of three nodes, on which datasets run without progress bars."""
    import ray.data

    with RayCluster() as cluster:
        for _ in range(3):
            cluster.add()
        cluster.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own: it sets an option that it deprecates
            ray.data.DataContext.get_current().enable_progress_bars = False
        yield cluster


@contextlib.contextmanager
def local_ray(*, cpus: int = 2, megabytes: int = 300) -> Iterator[Any]:
    """A Ray of one node with so large an object store; what `ray.init` returns."""
    import ray
    import ray.data

    with pytest_environment(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray's own, as it sets options that it deprecates
                started: Any = ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=megabytes << 20,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
                context = ray.data.DataContext.get_current()
                context.enable_progress_bars = False
                # Else a sort of whatever size makes 200 partitions, and for each of them runs a task.
                context.default_hash_shuffle_parallelism = 4
            yield started
        finally:
            ray.shutdown()


def pytest_environment() -> contextlib.ExitStack:
    """What the processes of a Ray inherit.

    The modules of the tests are importable wherever pytest was started, and what is deprecated is an error where our
    code calls it.
    """
    stack = contextlib.ExitStack()
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    ours = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / "ray_integration").rglob("*.py"))
    names = [".".join(path.parts) for path in ours]
    patch.setenv("PYTHONWARNINGS", ",".join(f"error::DeprecationWarning:{name}" for name in names))
    return stack


def on_ray(seconds: float, *marks: pytest.MarkDecorator) -> list[pytest.MarkDecorator]:
    """Marks of a module of tests on Ray: what hangs fails, and what is deprecated is an error."""
    deprecated = pytest.mark.filterwarnings("error::DeprecationWarning", "error::FutureWarning")
    return [pytest.mark.ray, pytest.mark.timeout(seconds), deprecated, *marks]


def names_of_actors() -> list[str]:
    """The actors of this library that are there."""
    import ray

    actors = ray.util.list_named_actors(all_namespaces=True)
    return [entry["name"] for entry in actors if entry["namespace"] == "bitstore"]


def leave_nothing(cluster: RayCluster | None = None, seconds: float = 0.0) -> None:
    """Kill actors and empty disks. AssertionError if actors did not end by themselves in so many seconds."""
    import ray

    gc.collect()  # Ray Data's plans refer to themselves, and to the pools made on the way
    deadline = time.monotonic() + seconds
    while (left := names_of_actors()) and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    for name in left:
        ray.kill(ray.get_actor(name, namespace="bitstore"))
    if cluster is not None:
        for name in cluster.nodes:
            DiskCache(cluster.folder / name).clear()
    assert left == [] or not seconds


def on_nodes(cluster: RayCluster, names: list[str], kind: type, *args: Any) -> list[Any]:
    """An actor of this kind on each of these nodes; they take no CPU."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    places = [NodeAffinitySchedulingStrategy(cluster.nodes[name], soft=False) for name in names]
    return [ray.remote(kind).options(num_cpus=0, scheduling_strategy=place).remote(*args) for place in places]


def gets(proxy: FaultProxy, bucket: str) -> Counter[str]:
    """Requests for each key of the bucket."""
    found: Counter[str] = Counter()
    for (method, path), count in proxy.counts.items():
        if method == "GET" and path.startswith(f"/{bucket}/"):
            found[path.rpartition("/")[2]] += count
    return found


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # pid (name) state ppid ...; the name may hold anything, so what follows its last bracket counts
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


class PaidAPI(Sha1APISource):
    """The counted API as a source."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def api_get(self, digest: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"{self.url}/blob/{digest}", timeout=30) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


class Caller:
    """What a map actor of Ray Data is, without the seconds that importing Ray Data takes."""

    def __init__(self, store: Any, options: dict[str, Any]) -> None:
        self._fetch = FetchBlobs(store, **options)

    def fetch(self, digests: list[str]) -> list[tuple[str, bytes | None, str | None, str | None]]:
        """`(digest, data, source, error)` of each row."""
        return list(self._rows(digests))

    def known(self) -> list[str]:
        """The node stores that were looked up so far."""
        router = self._fetch._router
        return [] if router is None else sorted(router.members._handles)

    def _rows(self, digests: list[str]) -> Iterator[tuple[str, bytes | None, str | None, str | None]]:
        for piece in self._fetch(pyarrow.table({"sha1": pyarrow.array(digests, pyarrow.string())})):
            columns = [piece.column(name).to_pylist() for name in ("sha1", "data", "source", "error")]
            yield from zip(*columns, strict=True)
